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
from aldvae.config.options import flag, option_fields
from aldvae.config.run_config import COMPRESSION_SETTINGS, SECTIONS
from aldvae.data.sources import SOURCES
from tests.conftest import Cli, Result, resolve

LIMITS = ("--limit=200", "--epochs=4")
TINY = ("--protocol=paper", *LIMITS, "--patience=2", "--fid-samples=50", "--silhouette-samples=50", "--hidden-dim=16")


def assert_refused(result: Result, message: str, directory: Path) -> None:
    """Assert exit code 2, one line on stderr that contains `message`, and no file in `directory`."""
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("aldvae: ")
    assert message in line
    assert result.stdout == ""
    assert list(directory.iterdir()) == []


def test_finds_a_size_and_prints_the_paths_of_its_files(cli: Cli, tmp_path: Path) -> None:
    result = cli("adaptive", *TINY)
    assert result.returncode == 0, result.stderr
    assert "did not stop within 4 epochs; 27 was reached" in result.stdout
    for line in result.stdout.splitlines()[1:]:
        assert (tmp_path / line.split()[1]).is_file()
    assert "size 27" in result.stderr
    assert "--epochs 4: --rule paper cannot stop before epoch 20" in result.stderr

    (tmp_path / re.findall(r"\S+\.png", result.stdout)[0]).unlink()
    again = cli("adaptive", *TINY)
    assert again.stdout == result.stdout
    assert "finished before" in again.stderr


def test_prints_the_size_found(cli: Cli) -> None:
    always = [f"--threshold-{metric}=-inf" for metric in ("recon-loss", "silhouette", "fid-recon", "fid-gen")]
    found = cli("adaptive", *TINY, "--window=3", *always)
    assert "Latent size 27, found at epoch 4 of 4" in found.stdout
    assert "epoch 4: size 27 is final" in found.stderr
    without_stop = cli("adaptive", *TINY, "--window=3", *always, "--no-stop")
    assert "Would have stopped at latent size 27" in without_stop.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
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
def test_invalid_input_prints_one_line_and_writes_nothing(
    cli: Cli, tmp_path: Path, arguments: list[str], message: str
) -> None:
    assert_refused(cli("adaptive", *arguments), message, tmp_path)


def test_an_unwritable_results_directory_prints_one_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = cli("adaptive", *TINY, "--results-dir=file", "--fid-features=none")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("aldvae: --results-dir file")
    assert "Traceback" not in result.stderr


def test_a_run_that_diverges_names_the_epoch(cli: Cli) -> None:
    result = cli("adaptive", *TINY, "--lr=1e30", "--fid-features=none")
    assert result.returncode == 1
    assert re.search(r"aldvae: epoch \d: \w+ is (nan|inf)", result.stderr)
    assert "Traceback" not in result.stderr


def test_explicit_options_override_the_authors_protocol(cli: Cli, tmp_path: Path) -> None:
    result = cli("adaptive", *TINY, "--protocol=authors", "--select=random", "--shuffle")
    assert "rule authors" in result.stdout, result.stderr
    (stored,) = tmp_path.glob("runs/*/config.json")
    settings = json.loads(stored.read_text())["settings"]
    assert (settings["posterior"], settings["shrunk_layers"], settings["rule"]) == ("softmax", "frozen", "authors")
    assert (settings["select"], settings["shuffle"], settings["fid_samples"]) == ("random", True, 50)
    listed = [cli(kind, *TINY, "--protocol=authors", "--dry-run", "--seeds=0") for kind in ("seeds", "sweep-init")]
    assert [result.returncode for result in listed] == [0, 0]
    fixed = cli("grid", *LIMITS, "--protocol=authors", "--dry-run", "--seeds=0", "--dims=4").stdout
    assert resolve("fixed", "digits", protocol="authors", limit=200, epochs=4, init_dim=4).name in fixed


def test_digits_use_the_recommended_protocol_and_the_command_says_where_the_start_comes_from(
    cli: Cli, tmp_path: Path
) -> None:
    result = cli("adaptive", *LIMITS, "--fid-samples=50", "--silhouette-samples=50")
    (stored,) = tmp_path.glob("runs/*/config.json")
    settings = json.loads(stored.read_text())["settings"]
    (start,) = re.findall(
        r"aldvae: it starts with (\d+) dimensions, as the data have about \d+\.\d; --init-dim", result.stderr
    )
    assert (settings["init_dim"], settings["warmup"], settings["rule"]) == (int(start), 0.2, "consolidate")


@pytest.mark.parametrize(
    ("command", "classes", "excluded"),
    [
        ("adaptive", (*SECTIONS, Execution), ()),
        ("grid", (*SECTIONS, Execution, Schedule), ("init_dim", "seed", *COMPRESSION_SETTINGS)),
        ("sweep-init", (*SECTIONS, Execution, Schedule), ("init_dim", "seed")),
        ("seeds", (*SECTIONS, Execution, Schedule), ("seed",)),
        ("run", (Execution, Schedule), ()),
    ],
)
def test_help_names_every_option(cli: Cli, command: str, classes: tuple[type, ...], excluded: tuple[str, ...]) -> None:
    text = cli(command, "--help").stdout
    for setting in (setting for cls in classes for setting in option_fields(cls)):
        shown = re.search(rf"│ {flag(setting.name)}\b(?!-)", text)
        assert (shown is None) == (setting.name in excluded), setting.name
    assert ("--protocol" in text) == (command != "run")


def test_help_shows_the_default_that_holds(cli: Cli) -> None:
    text = " ".join(re.sub(r"[│|]", " ", cli("adaptive", "--help").stdout).split())
    text = re.sub(r" (TEXT|INTEGER|FLOAT|PATH) ", r" <\1> ", text)  # as older versions of typer write them
    for option, default in (
        ("--rule", "the protocol's"),
        ("--init-dim", "the dataset's, or .* from the data"),
        ("--patience", "the rule's"),
        ("--window", "20"),
    ):
        assert re.search(rf"{option} <\w+> [^<]*Default: {default}\.", text), option


@pytest.mark.parametrize(
    ("arguments", "message"),
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
def test_invalid_input_to_sweeps_prints_one_line_and_writes_nothing(
    cli: Cli, tmp_path: Path, arguments: list[str], message: str
) -> None:
    assert_refused(cli(*arguments), message, tmp_path)


def test_the_data_command_lists_verifies_and_draws(cli: Cli, tmp_path: Path) -> None:
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


def test_the_command_line_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, aldvae.cli; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
