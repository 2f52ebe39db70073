"""Every block of Python in the pages is executed, in small settings; tests/test_doc_commands.py runs the commands.

Blocks that need a run or other libraries are executed in the tests of their subjects: see `ELSEWHERE`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from torch import Tensor, nn

import aldvae

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
