from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.image import imread

from aldvae import __version__
from aldvae.config.execution import Execution, Schedule
from aldvae.config.options import flag, settings
from aldvae.config.run_config import COMPRESSION, RunConfig
from aldvae.data.sources import SOURCES
from tests.conftest import Cli, Result, resolve

TINY = ("--limit=200", "--epochs=4", "--patience=2", "--fid-samples=50", "--silhouette-samples=50", "--hidden-dim=16")


def assert_refused(result: Result, named: str, directory: Path) -> None:
    """Exit code 2, one line that names the option, and nothing written."""
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("aldvae: ")
    assert named in line
    assert result.stdout == ""
    assert list(directory.iterdir()) == []


def test_finds_a_size_and_says_where_everything_lies(cli: Cli, tmp_path: Path) -> None:
    result = cli("adaptive", *TINY)
    assert result.returncode == 0, result.stderr
    assert "did not stop within 4 epochs; 27 was reached" in result.stdout
    for line in result.stdout.splitlines()[1:]:
        assert (tmp_path / line.split()[1]).is_file()
    assert "size 27" in result.stderr
    assert "--window 20 is longer than --epochs 4" in result.stderr

    (tmp_path / re.findall(r"\S+\.png", result.stdout)[0]).unlink()
    again = cli("adaptive", *TINY)
    assert again.stdout == result.stdout
    assert "finished before" in again.stderr


def test_says_the_size_found(cli: Cli) -> None:
    always = [f"--threshold-{metric}=-inf" for metric in ("recon-loss", "silhouette", "fid-recon", "fid-gen")]
    found = cli("adaptive", *TINY, "--window=3", *always)
    assert "Latent size 27, found at epoch 4 of 4" in found.stdout
    assert "epoch 4: size 27 is final" in found.stderr
    would = cli("adaptive", *TINY, "--window=3", *always, "--no-stop")
    assert "Would have stopped at latent size 27" in would.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--dataset=mnits"], "--dataset mnits is not known; did you mean mnist?"),
        (["--rule=papre"], "--rule papre is not known; did you mean paper?"),
        (["--protocol=author"], "--protocol author is not known; did you mean authors?"),
        (["--protocol=authors"], "--silhouette-samples 1000 is more than the 539 validation samples"),
        (["--epochs=0"], "--epochs must be 1 or more"),
        (["--epochs=many"], "--epochs"),
        (["--init-dim=1"], "--init-dim must be 2 or more"),
        (["--init-dim=4", "--min-dim=8"], "--init-dim 4 is below"),
        (["--limit=-5"], "--limit must be 2 or more"),
        (["--limit=99999"], "--limit 99999 is more than the 1797"),
        (["--silhouette-samples=600"], "--silhouette-samples 600 is more than the 539"),
        (["--limit=100"], "--fid-samples 500 is more than the 30"),
        (["--no-such-option"], "--no-such-option"),
        (["--device=cuda:99"], "--device cuda:99 is not available"),
        (["--threads=0"], "--threads must be 1"),
        (["--dataset=mnist", "--fid-features=none", "--data-dir=nowhere"], "--data-dir nowhere does not exist"),
        (["--fid-features=inception", "--inception-weights=nowhere.pth"], "--inception-weights nowhere.pth"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(cli: Cli, tmp_path: Path, arguments: list[str], named: str) -> None:
    assert_refused(cli("adaptive", *arguments), named, tmp_path)


def test_an_unwritable_results_directory_is_one_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    result = cli("adaptive", *TINY, "--results-dir=taken", "--fid-features=none")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("aldvae: --results-dir taken")
    assert "Traceback" not in result.stderr


def test_a_run_that_diverges_names_the_epoch(cli: Cli) -> None:
    result = cli("adaptive", *TINY, "--lr=1e30", "--fid-features=none")
    assert result.returncode == 1
    assert re.search(r"aldvae: epoch \d: \w+ is (nan|inf)", result.stderr)
    assert "Traceback" not in result.stderr


def test_the_authors_protocol_is_one_option_and_others_win(cli: Cli, tmp_path: Path) -> None:
    result = cli("adaptive", *TINY, "--protocol=authors", "--select=random", "--shuffle")
    assert "rule authors" in result.stdout, result.stderr
    (stored,) = tmp_path.glob("runs/*/config.json")
    settings = json.loads(stored.read_text())["settings"]
    assert (settings["posterior"], settings["shrunk_layers"], settings["rule"]) == ("softmax", "frozen", "authors")
    assert (settings["select"], settings["shuffle"], settings["fid_samples"]) == ("random", True, 50)
    listed = [cli(kind, *TINY, "--protocol=authors", "--dry-run", "--seeds=0") for kind in ("seeds", "sweep-init")]
    assert [result.returncode for result in listed] == [0, 0]
    fixed = cli("grid", *TINY[:2], "--protocol=authors", "--dry-run", "--seeds=0", "--dims=4").stdout
    assert resolve("fixed", "digits", protocol="authors", limit=200, epochs=4, init_dim=4).name in fixed


@pytest.mark.parametrize(
    ("command", "declared", "without"),
    [
        ("adaptive", (RunConfig, Execution), ()),
        ("grid", (RunConfig, Execution, Schedule), ("init_dim", "seed", *COMPRESSION)),
        ("sweep-init", (RunConfig, Execution, Schedule), ("init_dim", "seed")),
        ("seeds", (RunConfig, Execution, Schedule), ("seed",)),
        ("run", (Execution, Schedule), ()),
    ],
)
def test_help_names_every_option(cli: Cli, command: str, declared: tuple[type, ...], without: tuple[str, ...]) -> None:
    text = cli(command, "--help").stdout
    for setting in (setting for kind in declared for setting in settings(kind)):
        shown = re.search(rf"│ {flag(setting.name)}\b(?!-)", text)
        assert (shown is None) == (setting.name in without), setting.name
    assert ("--protocol" in text) == (command != "run")


def test_help_shows_the_default_that_holds(cli: Cli) -> None:
    text = " ".join(re.sub(r"[│|]", " ", cli("adaptive", "--help").stdout).split())
    for option, default in (("--rule", "the dataset's"), ("--patience", "the rule's"), ("--window", "20")):
        assert re.search(rf"{option} <\w+> [^<]*Default: {default}\.", text), option


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["grid", "--dims=1,4"], "--dims must be 2 or more, not 1"),
        (["grid", "--dims=four"], "--dims takes a list such as 4,8,12"),
        (["grid", "--patience=3"], "--patience"),
        (["seeds", "--seeds="], "--seeds takes a list"),
        (["seeds", "--jobs=999"], "--jobs 999 is more than"),
        (["seeds", "--jobs=999", "--dry-run"], "--jobs 999 is more than"),
        (["seeds", "--executor=slurm"], "--executor slurm is not known"),
        (["seeds", "--population=0"], "--population must be 1"),
        (["seeds", "--population=many"], "--population must be 1 to 1024, auto or off, not many"),
        (["seeds", "--population=2", "--executor=ray"], "--population has no effect without --executor local"),
        (["sweep-init", "--init-dims=8,8"], "--init-dims lists a number twice"),
        (["run", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["plot"], "--results-dir runs is not there"),
        (["report", "nowhere"], "--results-dir nowhere is not there"),
    ],
)
def test_bad_input_to_sweeps_is_one_line_and_writes_nothing(
    cli: Cli, tmp_path: Path, arguments: list[str], named: str
) -> None:
    assert_refused(cli(*arguments), named, tmp_path)


def test_data_lists_verifies_and_draws(cli: Cli, tmp_path: Path) -> None:
    listed = cli("data", "--data-dir=nowhere").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["dataset", *SOURCES]
    assert "missing; nowhere does not exist" in listed[2]
    assert cli("data", "verify", "--data-dir=nowhere").stdout == "digits: as the original\n"
    drawn = cli("data", "sheet", "digits", "--output-dir=sheets").stdout.strip()
    assert imread(tmp_path / drawn).shape[0] > 500
    wrong = cli("data", "fetch", "mnits")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "did you mean mnist" in wrong.stderr


def test_version_and_bare_call(cli: Cli) -> None:
    assert cli("--version").stdout.strip() == __version__
    assert "adaptive" in cli().stdout


def test_help_and_bad_input_do_not_wait_for_torch() -> None:
    code = "import sys, aldvae.cli; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
