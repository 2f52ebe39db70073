"""Ask every peer on every problem of the benchmark, with each seed; append the answers to ``peers.csv``.

``PYTHONPATH=benchmarks python -m peers.run results/benchmark`` uses the grids there and trains what is missing. The
same command resumes after an interruption.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from aldvae.config.execution import Execution
from aldvae.runs.records import csv_rows, csv_text
from aldvae.sweeps.plan_file import load_plan
from aldvae.utils.devices import cpu_settings
from aldvae.utils.rounding import round_for_csv
from peers.ard_vae import ard_vae
from peers.estimators import mle, two_nn, variance
from peers.fondue import fondue
from peers.oversized import active_units, kl_divergence
from peers.problems import COLUMNS, Cost, Peer, Problem, cost_of, final_loss, find_problems
from peers.scan import ascending_scan

PLAN = Path(__file__).parents[2] / "experiments" / "benchmark.toml"
PEERS: dict[str, Peer] = {
    "active units": active_units,
    "KL divergence > 0.1": kl_divergence,
    "ascending scan": ascending_scan,
    "FONDUE": fondue,
    "TwoNN": two_nn,
    "MLE": mle,
    "95% of the variance": variance,
    "ARD-VAE": ard_vae,
}
# Those that need scikit-dimension.
_OPTIONAL = ("FONDUE", "TwoNN", "MLE")


def answer_row(problem: Problem, method: str, seed: int) -> tuple[object, ...]:
    """Return the row of `COLUMNS` for the answer of a method with this seed.

    `loss` is that of a model of fixed size trained with this seed at the answer. The costs are those until the answer
    is known, and until there is a trained model of that size. `model` is the name of its run, which depends on all
    settings of the problem.
    """
    answer = PEERS[method](problem, seed)
    model = problem.trained(answer.size, seed)
    training = Cost(0, 0) if answer.is_trained else cost_of(model)
    cost = answer.cost
    return (
        *(problem.name, method, seed, answer.size, answer.found, round_for_csv(final_loss(model))),
        *(cost.images, round(cost.seconds, 2)),
        *(cost.images + training.images, round(cost.seconds + training.seconds, 2)),
        model.config.name,
    )


def missing(problems: Iterable[Problem], methods: Iterable[str], path: Path) -> Iterator[tuple[Problem, str, int]]:
    """Yield the problem, method and seed of each answer that the table at `path` lacks.

    An answer for other settings of the problem does not count.
    """
    rows = csv_rows(path.read_text()) if path.exists() else []
    done = {(row["method"], row["model"]) for row in rows}
    methods = list(methods)
    sizes = {int(row["size"]) for row in rows}
    for problem in problems:
        for seed in problem.seeds:
            models = [problem.configured(size, seed).name for size in sizes]
            yield from ((problem, m, seed) for m in methods if not any((m, name) in done for name in models))


def append(path: Path, row: Iterable[object]) -> None:
    """Append a row to the table at `path`, which gets a header first if it is new."""
    header = [] if path.exists() else [COLUMNS]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(csv_text([*header, row]))


def main(arguments: list[str] | None = None) -> None:
    """Ask the peers on the problems of a plan and print each answer."""
    parser = argparse.ArgumentParser(description="Run the peers of the benchmark.")
    parser.add_argument("results_dir", type=Path, help="where the runs of the plan are; gets peers.csv")
    parser.add_argument("--plan", type=Path, default=PLAN)
    parser.add_argument("--problems", nargs="*", help="only these, by the names of the table; default: all")
    chosen = parser.parse_args(arguments)
    execution = Execution(results_dir=chosen.results_dir, device="cpu", threads=1)
    problems = find_problems(load_plan(chosen.plan).jobs(execution).jobs, execution)
    if unknown := set(chosen.problems or ()) - {problem.name for problem in problems}:
        parser.error(f"--problems: no problem is called {min(unknown)}; see {', '.join(p.name for p in problems)}")
    problems = [problem for problem in problems if chosen.problems is None or problem.name in chosen.problems]
    methods = [method for method in PEERS if method not in _OPTIONAL or find_spec("skdim") is not None]
    if len(methods) < len(PEERS):
        print(f"left out without scikit-dimension (pip install 'aldvae[peers]'): {', '.join(_OPTIONAL)}")
    path = chosen.results_dir / "peers.csv"
    with cpu_settings(1):
        for problem, method, seed in list(missing(problems, methods, path)):
            row = answer_row(problem, method, seed)
            append(path, row)
            print(*row, sep="  ", flush=True)


if __name__ == "__main__":
    main()
