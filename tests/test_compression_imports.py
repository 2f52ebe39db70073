"""`aldvae.compression` must be usable in any training loop: of our dependencies it loads torch and numpy alone.

So must each file of `aldvae.integrations`, but for the library that it is named for. All public names of `aldvae` do
without the libraries of the command line.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

from aldvae.models.build import build_vae
from aldvae.models.serialization import model_bytes

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


COMMAND_LINE = (
    "PIL",
    "jinja2",
    "matplotlib",
    "pandas",
    "pytorch_fid",
    "rich",
    "scipy",
    "sklearn",
    "torchvision",
    "typer",
)
WITHOUT = f"""
import sys
sys.modules.update(dict.fromkeys({COMMAND_LINE}))  # importing a module that is None raises ImportError
import torch
import aldvae
for name in set(aldvae.__all__) - {{"find_size", "FoundSize"}}:  # they are the command line in Python
    getattr(aldvae, name)
vae = aldvae.load(sys.argv[1])
mu, log_var, decoder = torch.nn.Linear(4, 8), torch.nn.Linear(4, 8), torch.nn.Linear(8, 4)
optimizer = torch.optim.Adam([*mu.parameters(), *log_var.parameters(), *decoder.parameters()])
rule = aldvae.ConsolidatingRule()
compressor = aldvae.Compressor(heads=[mu, log_var], readers=[decoder], optimizer=optimizer, rule=rule, epochs=9)
compressor.step(mu=torch.randn(99, 8), log_var=torch.full((99, 8), -4.0))
print(vae.latent_dim, compressor.epoch)
"""


def test_the_public_names_work_without_the_libraries_of_the_command_line(tmp_path: Path) -> None:
    vae = build_vae((1, 4, 4), latent_dim=3, network="mlp", hidden_dim=5)
    (tmp_path / "model.safetensors").write_bytes(model_bytes(vae, (1, 4, 4), {"network": "mlp", "hidden_dim": 5}))
    command = [sys.executable, "-c", WITHOUT, str(tmp_path)]
    completed = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (completed.stdout, completed.stderr) == ("3 1\n", "")
