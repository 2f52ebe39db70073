from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.image import imread

from aldvae.config.execution import Execution
from aldvae.reporting.figures.run_overview import draw_overview
from aldvae.training.loop import run
from tests.conftest import TINY, resolve


@pytest.mark.parametrize("features", ["classifier", "none"])
def test_the_overview_is_the_same_each_time(tmp_path: Path, features: str) -> None:
    config = resolve("adaptive", "digits", **{**TINY, "fid_features": features})
    directory = run(config, Execution(results_dir=tmp_path)).path
    first = draw_overview(directory).read_bytes()
    assert draw_overview(directory).read_bytes() == first
    image = imread(directory / "overview.png")
    assert min(image.shape[:2]) > 1000
    assert image[..., :3].std() > 0.05


def test_the_overview_needs_no_model(tmp_path: Path) -> None:
    directory = run(resolve("adaptive", "digits", **TINY), Execution(results_dir=tmp_path)).path
    (directory / "model.safetensors").unlink()
    assert draw_overview(directory).exists()
