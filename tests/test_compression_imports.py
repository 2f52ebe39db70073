"""`aldvae.compression` must be usable in any training loop: of our dependencies it loads torch and numpy alone.

So must each file of `aldvae.integrations`, but for the library that it is named for.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Distributions whose module has another name.
IMPORTED_AS = {"pillow": "PIL", "pytorch-fid": "pytorch_fid", "scikit-learn": "sklearn"}
SCRIPT = """
import importlib, json, pkgutil, sys
import torch, numpy
before = set(sys.modules)
import aldvae.compression
for module in pkgutil.walk_packages(aldvae.compression.__path__, "aldvae.compression."):
    importlib.import_module(module.name)
print(json.dumps([sorted(before), sorted(sys.modules)]))
"""


def test_compression_loads_torch_and_numpy_alone() -> None:
    completed = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, cwd=ROOT)
    before, after = map(set, json.loads(completed.stdout))
    assert "aldvae.compression.rules.robust" in after
    assert "aldvae.compression.surgery" in after
    ours = {module for module in after if module.startswith("aldvae.")}
    assert {module.split(".")[1] for module in ours} == {"compression", "utils"}
    added = {module.split(".")[0] for module in after - before} - {"torch", "numpy"}
    assert added - set(sys.stdlib_module_names) == {"aldvae"}
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {requirement.split(">=")[0] for requirement in listed}
    modules = {IMPORTED_AS.get(name, name) for name in names} - {"numpy", "torch"}
    assert len(modules) > 10
    assert modules & {module.split(".")[0] for module in after} == set()


LIBRARIES = {
    "lightning": {"lightning", "pytorch_lightning"},
    "lightning_trainer": {"lightning"},
    "pythae": {"pythae"},
    "scvi": {"lightning"},
}


def test_an_integration_imports_torch_and_its_library_alone() -> None:
    for path in (ROOT / "aldvae" / "integrations").glob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names.add(str(node.module).split(".")[0])
            elif isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
        assert names - set(sys.stdlib_module_names) <= {"aldvae", "torch"} | LIBRARIES.get(path.stem, set()), path
