"""Each integration has an example of at most 60 lines, which finds a size and says so."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
NAMES = {"lightning": "lightning_digits.py", "pythae": "pythae_digits.py", "scvi": "scvi_counts.py"}
# The number of factors of simulated data is known.
SIZES = {"lightning": range(2, 12), "pythae": range(2, 12), "scvi": range(4, 5)}


@pytest.mark.parametrize("name", NAMES.values())
def test_an_example_is_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) <= 60


@pytest.mark.parametrize("package", NAMES)
def test_an_example_finds_a_size_within_two_minutes(package: str, tmp_path: Path) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed: make test-integrations")
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / NAMES[package])]
    start = time.monotonic()
    completed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert completed.returncode == 0, completed.stderr
    found = re.search(r"^latent size (\d+); the \w+ model has (\d+)", completed.stdout, re.MULTILINE)
    assert found is not None
    assert int(found[1]) in SIZES[package]
    assert found[2] == found[1]
    assert time.monotonic() - start < 120


def test_the_output_in_the_page_is_what_the_example_prints(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lightning", reason="Lightning is not installed: make test-integrations")
    outputs = runpy.run_path(str(ROOT / "docs" / "outputs.py"))
    code = outputs["main"](["integrations.md"])
    assert (code, capsys.readouterr().err) == (0, "")
