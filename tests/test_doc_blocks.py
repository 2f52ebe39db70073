"""Every block of Python in the pages is executed, and every command is run on a few samples, in small settings.

Blocks that need a run or other libraries are executed in the tests of their subjects: see `ELSEWHERE`.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import aldvae
from aldvae.cli.commands import app
from aldvae.sweeps.plan_file import load_plan

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Pages whose Python needs a run or other libraries, and the tests that execute it.
ELSEWHERE = {
    "integrations.md": "integrations/test_doc_blocks.py",
    "python.md": "test_find_size.py",
    "sharing.md": "test_model_card.py",
    "trackers.md": "test_trackers.py",
    "use.md": "test_use.py",
}


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in FENCED.findall(page.read_text()) if found == language]


PYTHON = [(page.name, block) for page in PAGES if page.name not in ELSEWHERE for block in blocks(page, "python")]


class PlainVAE(nn.Module):
    """What the blocks call `vae`: 64 values, and heads and readers as most codes name them."""

    def __init__(self, latent_dim: int = 32) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
        self.mu, self.log_var = nn.Linear(32, latent_dim), nn.Linear(32, latent_dim)
        self.decoder = nn.Sequential(nn.Linear(latent_dim, 32), nn.ReLU(), nn.Linear(32, 64))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.encoder(x)
        return self.mu(h), self.log_var(h)

    def decode(self, z: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(z)
        return decoded


class LabelledVAE(PlainVAE):
    """The same with one head, 10 labels before z, and all that has an entry for each dimension."""

    def __init__(self, latent_dim: int = 32) -> None:
        super().__init__(latent_dim)
        del self.mu, self.log_var
        self.latent_dim = latent_dim
        self.to_moments = nn.Linear(32, 2 * latent_dim)
        self.decoder = nn.Sequential(nn.Linear(10 + latent_dim, 32), nn.ReLU(), nn.Linear(32, 64))
        self.rnn, self.norm = nn.GRU(latent_dim, 8), nn.BatchNorm1d(latent_dim)
        self.prior_mean = nn.Parameter(torch.zeros(latent_dim))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_var = self.to_moments(self.encoder(x)).chunk(2, dim=1)
        return mu, log_var

    def decode(self, z: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(torch.cat([torch.zeros(len(z), 10), self.norm(z - self.prior_mean)], 1))
        decoded += self.rnn(z)[0].mean()
        return decoded


SAMPLES = (
    torch.randn(96, 4, generator=torch.Generator().manual_seed(0)) @ torch.linspace(-1, 1, 256).reshape(4, 64).cos()
)


def losses(vae: PlainVAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return reconstruction loss (nats per sample) and the KL divergence of each dimension (n_z,)."""
    mu, log_var = vae.posterior(x)
    decoded = vae.decode(mu + torch.randn_like(mu) * torch.exp(0.5 * log_var))
    return (decoded - x).square().sum(1).mean(), 0.5 * (mu.square() + log_var.exp() - 1 - log_var).mean(0)


def train_one_epoch(vae: PlainVAE, optimizer: torch.optim.Optimizer, weight: float = 1.0) -> None:
    recon, kl = losses(vae, SAMPLES)
    optimizer.zero_grad()
    (recon + weight * kl.sum()).backward()
    optimizer.step()


@torch.no_grad()
def posterior(vae: PlainVAE, x: Tensor) -> tuple[Tensor, Tensor]:
    return vae.posterior(x)


@torch.no_grad()
def recon_and_kl(vae: PlainVAE) -> tuple[float, Tensor]:
    recon, kl = losses(vae, SAMPLES)
    return float(recon), kl


def compressor_before(vae: PlainVAE, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return a compressor for a block that uses one made further up the page, and what that block has saved."""
    compressor = aldvae.Compressor(
        heads=[vae.mu, vae.log_var],
        readers=[vae.decoder[0]],
        optimizer=optimizer,
        rule=aldvae.ConsolidatingRule(),
        epochs=20,
    )
    saved: dict[str, Any] = {"compressor": compressor, "model": vae, "optimizer": optimizer}
    return {"compressor": compressor, "state": {name: value.state_dict() for name, value in saved.items()}}


def names(block: str, folder: Path) -> dict[str, Any]:
    """Return what a block takes for granted."""
    torch.manual_seed(0)
    vae = LabelledVAE() if "to_moments" in block else PlainVAE()
    optimizer = torch.optim.Adam(vae.parameters(), 1e-3)
    mu, log_var = posterior(vae, SAMPLES)
    made = {} if "compressor = " in block else compressor_before(vae, optimizer)
    return made | {
        "aldvae": aldvae,
        "torch": torch,
        "dataclass": dataclass,
        "vae": vae,
        "optimizer": optimizer,
        "heads": [getattr(vae, "mu", None), getattr(vae, "log_var", None)],
        "readers": [vae.decoder[0]],
        "rule": aldvae.PaperRule(),
        "beta": 1.0,
        "epochs": 20,
        "keep": 8,
        "train_one_epoch": train_one_epoch,
        "posterior": posterior,
        "pandas": pandas,
        "frame": pandas.DataFrame({"length": [1.0, 2.0, None], "name": ["a", "b", "b"]}),
        "train_epoch": lambda: train_one_epoch(vae, optimizer),
        "validate": (lambda: {"recon_loss": recon_and_kl(vae)[0]})
        if "compressor.curve" in block
        else recon_and_kl
        if "recon_loss, kl = validate" in block
        else lambda vae: recon_and_kl(vae)[0],
        "loss": lambda vae, batch: sum(part.sum() for part in losses(vae, batch)),
        "batch": SAMPLES,
        "validation_samples": SAMPLES,
        "mu": mu,
        "log_var": log_var,
        "path": folder / "state.pt",
        "recon_loss": 1.0,
        "silhouette": 0.1,
        "fid_recon": 1.0,
        "fid_gen": 1.0,
    }


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=[f"{page}-{i}" for i, (page, _) in enumerate(PYTHON)])
def test_the_python_in_the_pages_runs(page: str, block: str, tmp_path: Path) -> None:
    """Execute a block; `name=...` in it stands for a value of that name."""
    exec(compile(re.sub(r"\b(\w+)=\.\.\.", r"\1=\1", block), page, "exec"), names(block, tmp_path))


@pytest.mark.parametrize(("page", "test"), ELSEWHERE.items(), ids=ELSEWHERE)
def test_the_other_blocks_are_executed_by_the_tests_named_for_them(page: str, test: str) -> None:
    assert f'"{page}"' in (ROOT / "tests" / test).read_text()
    assert blocks(ROOT / "docs" / page, "python")


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


RUN = {page: lines for page, lines in COMMANDS.items() if any(line.startswith("aldvae ") for line in lines)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the commands of a page one after the other, without a network."""
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
