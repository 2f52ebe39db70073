"""Samples that took long to decode, kept as one file that is read at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from aldvae.data.dataset import Samples
from aldvae.utils.files import write_cached


def files_key(root: Path, files: Iterable[Path], *more: object) -> str:
    """Return a name for the present contents of `files` below `root`, by their names, sizes and times of change."""
    digest = hashlib.sha256(repr(more).encode())
    for path in files:
        stat = path.stat()
        digest.update(f"{path.relative_to(root)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def cached(cache_dir: Path, name: str, make: Callable[[], Samples]) -> Samples:
    """Return the samples kept as `name` under `cache_dir`; `make` them where there are none or they are damaged."""
    path = cache_dir / "samples" / f"{name}.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            labels = file.get_tensor("labels") if "labels" in file.keys() else None  # noqa: SIM118
            return Samples(file.get_tensor("x"), labels, tuple(json.loads(file.metadata()["classes"])))
    except (OSError, SafetensorError):
        samples = make()
    tensors = {"x": samples.x} | ({} if samples.labels is None else {"labels": samples.labels})
    write_cached(path, save(tensors, metadata={"classes": json.dumps(samples.classes)}))
    return samples
