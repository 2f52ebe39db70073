from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import aldvae
from aldvae.config.execution import Execution
from aldvae.config.resolve import own_data
from aldvae.data.sources import SOURCES
from aldvae.reporting.model_card import Licence, write_card
from aldvae.runs.results import read_result, read_results
from aldvae.training.loop import run
from aldvae.utils.errors import ConfigError
from tests.conftest import TINY, Cli, resolve

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an adaptive run on digits."""
    execution = Execution(results_dir=tmp_path_factory.mktemp("runs"))
    return run(resolve("adaptive", "digits", **TINY), execution).path


def make_card(path: Path, folder: Path, licence: str | None = None, credit: str = "") -> str:
    """Write the card of the run in `path` into `folder`; return its text."""
    result = read_result(path)
    assert result is not None
    write_card(result, folder, Licence(licence), credit)
    return (folder / "README.md").read_text()


def test_the_command_writes_a_folder_that_load_reads(cli: Cli, digits_run: Path, tmp_path: Path) -> None:
    result = cli("card", digits_run, "-o", "card", "--licence", "CC BY 4.0")
    assert (result.returncode, result.stdout, result.stderr) == (0, "card\n", "")
    names = {"README.md", "config.json", "model.safetensors", "overview.png", "reconstructions.png", "samples.png"}
    assert {file.name for file in (tmp_path / "card").iterdir()} == names
    for name, weight in aldvae.load(tmp_path / "card").state_dict().items():
        torch.testing.assert_close(weight, aldvae.load(digits_run).state_dict()[name], rtol=0, atol=0)
    text = (tmp_path / "card" / "README.md").read_text()
    assert all((tmp_path / "card" / file).exists() for file in re.findall(r"\]\((?!http)([^)]+)\)", text))
    config = json.loads((tmp_path / "card" / "config.json").read_text())
    assert config["run"] == json.loads((digits_run / "config.json").read_text())["settings"]
    unknown = cli("card", digits_run, "-o", "other")
    assert "licence of the data is unknown" in unknown.stderr


def test_the_card_tells_size_metrics_decisions_and_settings(digits_run: Path, tmp_path: Path) -> None:
    text = make_card(digits_run, tmp_path, "CC BY 4.0", "Drawn by hand.")
    summary = json.loads((digits_run / "summary.json").read_text())
    assert f"The model has {summary['latent_dim']} latent dimensions; the run started with 14" in text
    assert "did not stop within 6 epochs: this size was reached, not found" in text
    assert f"| Reconstruction loss (nats per sample) | {summary['final']['recon_loss']} |" in text
    decisions = pd.read_csv(digits_run / "decisions.csv")
    assert set(decisions["action"]) == {"remove", "keep"}
    assert "| keep |" not in text
    for decision in decisions[decisions["action"] == "remove"].itertuples():
        assert f"| {decision.epoch} | {decision.latent_dim} | {decision.action} | {decision.reason} |" in text
    for name, value in json.loads((digits_run / "config.json").read_text())["settings"].items():
        assert f"| {name} | {'' if value is None else value} |" in text
    assert "Licence of the data: CC BY 4.0.\n\nDrawn by hand.\n" in text
    assert "images of 8 x 8 with 1 channel," in text


def test_an_unknown_licence_is_said_to_be_unknown(digits_run: Path, tmp_path: Path) -> None:
    assert "Licence of the data: unknown. It was not told" in make_card(digits_run, tmp_path)


@pytest.mark.parametrize(
    ("given", "identifier"),
    [
        (None, "unknown"),
        ("CC BY 4.0", "cc-by-4.0"),
        ("cc-by-nc-sa-4.0", "cc-by-nc-sa-4.0"),
        ("CC0 1.0", "cc0-1.0"),
        ("MIT", "mit"),
        ('Our clinic\'s terms: "none"', "other"),
    ],
)
def test_the_hub_reads_the_front_matter(digits_run: Path, tmp_path: Path, given: str | None, identifier: str) -> None:
    assert Licence(given).identifier == identifier
    text = make_card(digits_run, tmp_path, given)
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(text)
    assert card.data.license == identifier
    assert card.data.license_name == (given if identifier == "other" else None)
    assert card.data.library_name == "aldvae"
    assert "latent-space" in card.data.tags
    assert card.text.lstrip().startswith("# digits-adaptive-dim14")


def test_a_card_in_the_run_is_no_run(digits_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "runs" / digits_run.name
    shutil.copytree(digits_run, copy)
    make_card(copy, copy / "card")
    assert [result.path for result in read_results(tmp_path)] == [copy]


def test_a_card_knows_columns_and_how_images_were_resized(cli: Cli, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pd.DataFrame(random.normal(size=(60, 3)), columns=["a", "b", "c"]).to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "photos").mkdir()
    for i in range(30):
        Image.fromarray(random.integers(0, 255, (9, 12), dtype=np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    settings: dict[str, Any] = {"epochs": 1, "validation": 0.3, "clusters": 2, "fid_features": "none", "init_dim": 2}
    paths = []
    for name, more in (("t.csv", {"likelihood": "gaussian"}), ("photos", {"resize": 6})):
        execution = Execution(results_dir=tmp_path / "runs", own_data=own_data(str(tmp_path / name)))
        config = resolve("fixed", str(tmp_path / name), execution, silhouette_samples=9, **settings, **more)
        paths.append(run(config, execution).path)
    table, photos = (make_card(path, tmp_path / f"card-{path.name}") for path in paths)
    assert "vectors of 3 values, in the units of the training data, with the columns a, b, c." in table
    assert "a size that was set, not found" in photos
    assert cli("encode", f"card-{paths[1].name}", "photos", "-o", "z.csv").returncode == 0
    assert len(pd.read_csv(tmp_path / "z.csv")) == 30


def test_cards_of_sprites_give_the_credit(tmp_path: Path, digits_run: Path) -> None:
    credit = SOURCES["sprites"].credit
    assert credit
    assert credit in make_card(digits_run, tmp_path, credit=credit)


def test_bad_input_is_one_line(cli: Cli, digits_run: Path, tmp_path: Path) -> None:
    shutil.copytree(digits_run, tmp_path / "unfinished")
    (tmp_path / "unfinished" / "summary.json").unlink()
    shutil.copytree(digits_run, tmp_path / "lost")
    (tmp_path / "lost" / "model.safetensors").write_bytes(b"")
    cases = [
        (["nowhere"], "RUN nowhere is not the directory of a run"),
        (["unfinished"], "RUN unfinished is not finished"),
        (["lost"], "model.safetensors is missing or damaged"),
        (["lost", "--licence", " "], "--licence is empty"),
    ]
    for arguments, message in cases:
        result = cli("card", *arguments)
        assert (result.returncode, result.stdout) == (2, "")
        (line,) = result.stderr.splitlines()
        assert message in line
    result_of_lost = read_result(tmp_path / "lost")
    assert result_of_lost is not None
    with pytest.raises(ConfigError, match="damaged"):
        write_card(result_of_lost, tmp_path / "x", Licence())
    assert not (tmp_path / "x").exists()


def test_the_example_in_the_page_runs(digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_card(digits_run, tmp_path / "card")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "sharing.md").read_text(), re.DOTALL)
    (inside,) = re.findall(r"```python\n(.*?)```", (tmp_path / "card" / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    monkeypatch.chdir(tmp_path / "card")
    exec(inside, names)
    assert names["new"].shape == (10, 8, 8)
