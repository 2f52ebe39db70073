"""The answer in words, on hand-made runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from aldvae.analysis.answers import answer_sentences, headline_sizes, kept_since
from aldvae.analysis.course import informative_counts, kl_table, kl_weights, losses
from aldvae.analysis.series import Series
from aldvae.runs.records import COLUMNS, Summary, csv_text
from aldvae.runs.results import Result
from tests.conftest import resolve

RECOMMENDED: dict[str, Any] = {"protocol": "recommended", "init_dim": 16, "epochs": 10}


def write(path: Path, table: str, rows: list[dict[str, Any]]) -> None:
    path.mkdir(exist_ok=True)
    cells = [[row.get(column, "") for column in COLUMNS[table]] for row in rows]
    (path / f"{table}.csv").write_text(csv_text([COLUMNS[table], *cells]))


def made(path: Path, sizes: list[int], summary: dict[str, Any], **settings: Any) -> Result:
    """Return a run with a latent size for each epoch."""
    config = resolve("adaptive", "digits", **settings)
    write(path, "metrics", [{"epoch": e, "latent_dim": size} for e, size in enumerate(sizes, start=1)])
    defaults: Summary = {
        "latent_dim": sizes[-1],
        "stop_epoch": None,
        "stop_latent_dim": None,
        "epochs": len(sizes),
        "train_seconds": 1.0,
        "metrics_seconds": 1.0,
        "final": {"active_units": 4},
    }
    return Result(path, config, cast(Summary, {**defaults, **summary}))


def informative(path: Path, n: int, settled: int | None, seed: int = 0, **more: Any) -> Result:
    answer = {"n_informative": n, "n_range": [n, n], "settled_epoch": settled, "stop_epoch": 9}
    return made(path, [16] * 8 + [n] * 2, {**answer, **more}, **RECOMMENDED, seed=seed)


def test_one_run_says_how_many_what_is_kept_since_when_for_which_model_and_how_sure(tmp_path: Path) -> None:
    sentences = answer_sentences(Series((informative(tmp_path, 5, 4),)))
    assert sentences == [
        "5 dimensions carry information; this had settled at epoch 4 of 10.",
        "The model keeps 5 of the 16 dimensions that it started with, since epoch 8; "
        "this holds for a Bernoulli likelihood and beta 1.",
    ]
    (unsettled, _) = answer_sentences(Series((informative(tmp_path, 5, None),)))
    assert unsettled == "5 dimensions carry information; this had not settled within 10 epochs: train for more."


def test_seeds_are_listed_with_mean_and_deviation(tmp_path: Path) -> None:
    runs = [informative(tmp_path / str(n), n, 3 + n, seed=n, smallest_sizes={"loss": n}) for n in (4, 6)]
    assert answer_sentences(Series(tuple(runs))) == [
        "Over 2 seeds, 4 and 6 dimensions carry information (mean 5.0, deviation 1.4); "
        "all had settled, at epochs 7 to 9 of 10.",
        "The models keep 4 and 6 dimensions, from 16; this holds for a Bernoulli likelihood and beta 1.",
        "Smallest sizes as good as the best of the curves: 4 and 6 by the loss.",
    ]
    runs[1] = informative(tmp_path / "6", 6, None, seed=6)
    assert "1 of 2 had settled within 10 epochs: train for more." in answer_sentences(Series(tuple(runs)))[0]


PAPER: dict[str, Any] = {"protocol": "paper", "init_dim": 16, "epochs": 4}


@pytest.mark.parametrize(
    ("summary", "stop", "headline", "start"),
    [
        ({"stop_epoch": 3}, True, [9], "The paper's rule stopped at epoch 3 of 4 with 9 of 16 dimensions; 4 of them"),
        ({}, True, [], "The paper's rule found no size: 9 dimensions were reached in 4 epochs."),
        (
            {"stop_epoch": 2, "stop_latent_dim": 11},
            False,
            [11],
            "The paper's rule, if it had been obeyed, would have stopped at epoch 2 of 4 with 11 of 16 dimensions.",
        ),
    ],
)
def test_a_rule_that_counts_no_information(
    tmp_path: Path, summary: dict[str, Any], stop: bool, headline: list[int], start: str
) -> None:
    series = Series((made(tmp_path, [16, 11, 9, 9], summary, **PAPER, stop=stop),))
    assert headline_sizes(series) == headline
    first, second = answer_sentences(series)
    assert first.startswith(start)
    assert ("--protocol recommended" in first) == bool(headline)
    assert second.startswith("The model keeps 9 of the 16 dimensions that it started with, since epoch 2;")


def test_a_size_of_the_curve_that_is_favoured_is_named(tmp_path: Path) -> None:
    answer = {"n_informative": 5, "n_range": None, "settled_epoch": 4, "latent_dim": 3}
    run = made(tmp_path, [16] * 8 + [5] * 2, answer, **RECOMMENDED, favour="generation")
    assert (
        "keeps 3 dimensions, the smallest size of the curve that is good by generations"
        in (answer_sentences(Series((run,)))[1])
    )
    write(tmp_path, "curve", [{"latent_dim": size} for size in (5, 3)])
    assert kept_since(Result(run.path, run.config, run.summary)) == 8


def test_a_size_that_grew_or_never_changed(tmp_path: Path) -> None:
    answer = {"n_informative": 5, "n_range": None, "settled_epoch": 4}
    grown = made(tmp_path, [16, 20, 20], answer, **RECOMMENDED)
    assert "has 20 dimensions, grown from 16, since epoch 1;" in answer_sentences(Series((grown,)))[1]
    same = made(tmp_path / "same", [16, 16], answer, **RECOMMENDED)
    assert "The model keeps all 16 dimensions that it started with;" in answer_sentences(Series((same,)))[1]


def test_the_course_of_a_run(tmp_path: Path) -> None:
    run = made(tmp_path, [3, 3], {}, **{**RECOMMENDED, "init_dim": 3, "beta": 4.0, "epochs": 10})
    write(
        tmp_path,
        "metrics",
        [{"epoch": 1, "latent_dim": 3, "recon_loss": 10.0, "kl": 2.0}, {"epoch": 2, "latent_dim": 3}],
    )
    assert losses(Result(run.path, run.config, run.summary)).to_dict() == {1: 18.0}
    # The weight rises to beta over two of ten epochs.
    assert kl_weights(run).to_list() == [2.0] + [4.0] * 9
    kl = {(1, 0): 0.06, (1, 1): 0.04, (1, 2): 1.0, (2, 0): 0.01, (2, 2): 1.0}
    write(tmp_path, "latent", [{"epoch": e, "neuron": n, "kl": value} for (e, n), value in kl.items()])
    # With beta 4, a dimension counts from 0.05 nats on.
    assert informative_counts(Result(run.path, run.config, run.summary)).to_dict() == {1: 2, 2: 1}
    table = kl_table(Result(run.path, run.config, run.summary).latent)
    assert table.index.to_list() == [0, 2, 1]
    # Directions count instead where there are any, but not the second, a copy of the first.
    rows = [(2.0, 2.0), (1.0, 0.4), (0.3, 0.3)]
    write(
        tmp_path,
        "directions",
        [{"epoch": 1, "direction": j, "information": i, "unique": u} for j, (i, u) in enumerate(rows)],
    )
    assert informative_counts(Result(run.path, run.config, run.summary)).to_dict() == {1: 2}
