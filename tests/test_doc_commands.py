"""Every command in the pages is run on a few samples, in small settings; what installs or takes hours is checked."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image

from aldvae.cli.commands import app
from aldvae.sweeps.plan_file import load_plan
from tests.test_doc_blocks import FENCED, PAGES, ROOT, blocks

# An indented block after a blank line, outside fenced ones.
INDENTED = re.compile(r"(?<=\n\n)((?: {4}.*\n)+)")


def commands(page: Path) -> list[str]:
    text = FENCED.sub("", page.read_text())
    return [line[4:] for block in INDENTED.findall(text) if "#!/" not in block for line in block.splitlines()]


COMMANDS = {page: lines for page in PAGES if (lines := commands(page))}
# The names of programs that a page may tell to run, and where that is tested: `ray` in tests/test_ray.py.
PROGRAMS = {"aldvae", "make", "pip", "python", "ray"}


@pytest.mark.parametrize("page", COMMANDS, ids=lambda page: page.name)
def test_every_command_in_the_pages_is_one_that_can_be_checked(page: Path) -> None:
    assert {shlex.split(line, comments=True)[0] for line in COMMANDS[page]} <= PROGRAMS


def words_of(program: str) -> list[list[str]]:
    lines = (shlex.split(line, comments=True) for lines in COMMANDS.values() for line in lines)
    return [words[1:] for words in lines if words[0] == program]


def test_make_has_the_targets_and_plans_that_the_pages_name() -> None:
    targets = re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    called = words_of("make")
    assert len(called) > 10
    for target, *settings in called:
        assert target in targets
        for plan in (value for name, value in (setting.split("=") for setting in settings) if name == "PLAN"):
            load_plan(ROOT / plan)


def test_pip_installs_extras_that_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pages = [*PAGES, *(ROOT / "docs" / "notebooks").glob("*.ipynb")]
    lists = [text for page in pages for text in re.findall(r"aldvae\[([\w,]+)\]", page.read_text())]
    named = {extra for text in lists for extra in text.split(",")}
    assert named
    assert named <= set(extras)


def test_the_slurm_script_is_valid_shell() -> None:
    (script,) = [block for block in INDENTED.findall((ROOT / "docs" / "cluster.md").read_text()) if "#!/" in block]
    subprocess.run(["bash", "-n", "-c", script.replace("\n    ", "\n")], check=True)


def test_the_plan_in_the_page_can_be_loaded(tmp_path: Path) -> None:
    (plan,) = blocks(ROOT / "docs" / "sweeps.md", "toml")
    (tmp_path / "plan.toml").write_text(plan)
    assert load_plan(tmp_path / "plan.toml").title == "Which size does MNIST need?"


# Small settings for each command. An option that is given twice has the later value.
TINY = ["--limit", "200", "--epochs", "10", "--hidden-dim", "8", "--fid-samples", "20"]
SMALL = {
    "adaptive": TINY,
    "grid": [*TINY, "--dims", "2,4", "--seeds", "0", "--jobs", "1"],
    "sweep-init": [*TINY, "--init-dims", "14,10", "--seeds", "0"],
    "seeds": [*TINY, "--seeds", "0"],
    "run": ["--dry-run"],
    "show": [],
    "plot": ["--format", "png"],
    "report": [],
    "data": [],
    "encode": [],
    "reconstruct": [],
    "sample": [],
    "card": [],
    "export": [],
}
SILHOUETTE = ["--silhouette-samples", "20"]
# These datasets may have to be downloaded: digits stand for them, with the protocol that they would have.
DATASETS = {"mnist", "fashionmnist", "eurosat", "sprites"}
STAND_IN = ["--dataset", "digits", "--fid-features", "classifier"]


def small(words: list[str]) -> list[str]:
    """Return a command with small settings, on data that are there."""
    more = list(SMALL[words[0]])
    if words[0] == "data":
        return ["digits" if word in DATASETS else word for word in words]
    # One's own data without clusters have no Silhouette score.
    if "--clusters" in words or "--dataset" not in words or {*DATASETS, "digits"} & set(words):
        more += SILHOUETTE if words[0] in ("adaptive", "grid", "sweep-init", "seeds") else []
    if DATASETS & set(words):
        more += STAND_IN if "--protocol" in words else [*STAND_IN, "--protocol", "paper"]
    return [*words, *more]


def make_data(folder: Path) -> None:
    """Make the files that the pages name, with 240 samples each."""
    random = np.random.default_rng(0)
    for number in range(240):
        path = folder / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    np.savez(folder / "cells.npz", x=random.normal(size=(240, 6)), labels=np.arange(240) % 3)
    rows = "\n".join(",".join(f"{value:.3f}" for value in row) for row in random.normal(size=(240, 6)))
    (folder / "genes.csv").write_text(f"a,b,c,d,e,f\n{rows}\n")
    for name in ("docs", "experiments", "results"):
        (folder / name).symlink_to(ROOT / name)


# The run that pages name, of a table that they name.
PEOPLE = "people-adaptive-dim16-seed0-1a2b3c4d"


def make_run(folder: Path) -> None:
    """Make the table and the run that the pages name."""
    people = pandas.DataFrame(
        np.random.default_rng(0).normal(size=(240, 4)), columns=["age", "height", "weight", "pulse"]
    )
    people.to_csv(folder / "people.csv", index=False)
    app(small(["adaptive", "--dataset", "people.csv"]), standalone_mode=False)
    (run,) = (folder / "runs").glob("people-*")
    run.rename(folder / "runs" / PEOPLE)


def steps(line: str) -> list[list[str]]:
    """Return the words of a command; for `make demo`, of those that it runs."""
    words = shlex.split(line, comments=True)
    if words != ["make", "demo"]:
        return [words]
    told = subprocess.run(
        ["make", "--dry-run", "demo", "VENV=env"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [
        shlex.split(step.removeprefix("env/bin/")) for step in told.splitlines() if step.startswith("env/bin/aldvae")
    ]


# The plan of this page starts from what the data say, so even a dry run reads them.
READS_DATA = {"curve.md"}

RUN = {page: lines for page, lines in COMMANDS.items() if any(line.startswith("aldvae ") for line in lines)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_commands_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Run the commands of a page one after the other, without a network."""
    if page.name in READS_DATA:
        request.getfixturevalue("data_dir")
    make_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "runs").mkdir()
    if any(PEOPLE in line for line in RUN[page]):
        make_run(tmp_path)
    for program, *words in (step for line in RUN[page] for step in steps(line)):
        if program == "python":
            subprocess.run([sys.executable, *words], check=True, cwd=tmp_path)
        # tests/integrations/test_own_formats.py reads such files: AnnData is not in the environment for development.
        elif program == "aldvae" and not any(word.endswith(".h5ad") for word in words):
            app(small(words), standalone_mode=False)
