"""The files around the package agree with it and with each other: versions, floors, make targets."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.version import Version

from aldvae import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAKEFILE = (ROOT / "Makefile").read_text()
# The extras whose tests `make test-oldest` runs.
OPTIONAL = ("parquet", "openvino", "peers", "ray", "tensorboard")
# Lines that run make, in the workflows, the hooks and .ci/run.
CALLERS = [*sorted((ROOT / ".github").rglob("*.yml")), ROOT / ".pre-commit-config.yaml", ROOT / ".ci" / "run"]


def versions(requirements: list[str], comparison: str) -> dict[str, Version]:
    """Return the version of each line such as `torch>=2.4` by the name before `comparison`."""
    return {name: Version(version) for name, version in (line.split(comparison) for line in requirements)}


def test_the_oldest_environment_has_the_oldest_allowed_versions() -> None:
    extras = PROJECT["optional-dependencies"]
    optional = [line for extra in OPTIONAL for line in extras[extra]]
    floors = versions([*PROJECT["dependencies"], *optional], ">=")
    lines = (ROOT / "requirements" / "oldest.txt").read_text().splitlines()
    pins = versions([line for line in lines if line and not line.startswith("#")], "==")
    assert pins == floors


@pytest.mark.parametrize("file", CALLERS, ids=lambda path: path.name)
def test_make_has_the_targets_that_others_call(file: Path) -> None:
    called = set(re.findall(r"^(?:\s*- run: |\s*entry: )?make ([\w-]+)", file.read_text(), re.MULTILINE))
    assert called <= set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))
    assert called or file.parent.name != "workflows"


def test_every_step_of_a_workflow_is_a_make_target() -> None:
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        steps = re.findall(r"\brun: (.*)", file.read_text())
        assert steps
        assert [step for step in steps if not step.startswith("make ")] == []


def test_the_version_is_the_same_everywhere() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    newest = re.findall(r"^## \[(\d.*?)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert newest[0] == __version__
    assert f"\ndate-released: {newest[1]}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.parametrize(("tag", "matches"), [(f"v{__version__}", True), ("v0.0.9", False)])
def test_check_tag_accepts_the_tag_of_this_version_alone(tag: str, matches: bool) -> None:
    completed = subprocess.run(["make", "check-tag", f"TAG={tag}"], cwd=ROOT, capture_output=True, check=False)
    assert (completed.returncode == 0) == matches
