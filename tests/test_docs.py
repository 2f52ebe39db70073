from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_example_compresses_somebody_elses_vae(capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(ROOT / "docs" / "examples" / "conv_beta_vae.py"))
    compressor = example["main"](epochs=10)
    assert capsys.readouterr().out.startswith("epoch 5: size 27;")
    vae_head, _ = compressor.heads
    assert vae_head.out_features == compressor.readers[0].in_features == compressor.latent_dim < 27
