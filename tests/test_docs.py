from __future__ import annotations

import re
import runpy
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from sklearn.datasets import load_digits
from torch import Tensor, nn

import aldvae
from aldvae.cli.commands import app

ROOT = Path(__file__).parents[1]


def test_the_example_compresses_a_users_vae(capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(ROOT / "docs" / "examples" / "conv_beta_vae.py"))
    compressor = example["main"](epochs=10)
    assert capsys.readouterr().out.startswith("epoch 5: size 27;")
    vae_head, _ = compressor.heads
    assert vae_head.out_features == compressor.readers[0].in_features == compressor.latent_dim < 27


def test_the_robust_rules_example_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "compressor.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if "RobustRule" in block]
    example = runpy.run_path(str(ROOT / "docs" / "examples" / "conv_beta_vae.py"))
    torch.manual_seed(0)
    images = torch.from_numpy(load_digits().images[:256]).float().div(16).unsqueeze(1)
    vae = example["ConvBetaVAE"](latent_dim=32)

    def train_one_epoch(vae: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for batch in images.split(32):
            recon, kl, _ = example["losses"](vae, batch)
            optimizer.zero_grad()
            (recon + beta * kl).backward()
            optimizer.step()

    def validate(vae: nn.Module) -> tuple[float, Tensor]:
        with torch.no_grad():
            _, mu, log_var, _ = vae(images)
            recon, _, _ = example["losses"](vae, images)
        return float(recon), 0.5 * (mu.square() + log_var.exp() - 1 - log_var).mean(0)

    beta = 1.0
    namespace: dict[str, Any] = {"aldvae": aldvae, "vae": vae, "beta": beta, "epochs": 30}
    namespace |= {"optimizer": torch.optim.Adam(vae.parameters(), 5e-3), "train_one_epoch": train_one_epoch}
    exec(block, namespace | {"validate": validate}, namespace)
    assert namespace["compressor"].epoch == 30
    assert 4 < namespace["compressor"].latent_dim < 32


NAMES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md", "results/README.md")
PAGES = [*(ROOT / name for name in NAMES), *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = sorted({line for page in PAGES for line in re.findall(r"^ {4}aldvae (.*)$", page.read_text(), re.MULTILINE)})


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_in_the_pages_are_valid(line: str) -> None:
    """Check the names and types of all options without running the command."""
    command: Any = typer.main.get_command(app)
    words = shlex.split(line, comments=True)
    while hasattr(command, "commands"):
        name = words.pop(0) if words else None
        if name is None:
            return
        command = command.commands[name]
    command.make_context("aldvae", words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_project_have_a_target(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE) if file.suffix == ".md" else []
        slugs = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
        assert not anchor or anchor in slugs, target


def test_the_rule_of_ones_own_in_the_page_decides() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "compressor.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if "HalveOnce" in block]
    names: dict[str, Any] = {"aldvae": aldvae, "dataclass": dataclass}
    exec(block, names)
    layers = [nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 4)]
    optimizer = torch.optim.Adam([parameter for layer in layers for parameter in layer.parameters()])
    rule = names["HalveOnce"]()
    compressor = aldvae.Compressor(heads=layers[:2], readers=layers[2:], optimizer=optimizer, rule=rule)
    sizes = [compressor.step(recon_loss=1.0).latent_dim for _ in range(4)]
    assert sizes == [8, 8, 4, 4]
    assert compressor.stop_epoch == 3
