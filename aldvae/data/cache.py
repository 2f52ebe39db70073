"""A cache of decoded samples: one file, which loads much faster than decoding many."""

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
    """Return a hash of the names, sizes and modification times of `files` below `root`, and of the values `more`."""
    digest = hashlib.sha256(repr(more).encode())
    for path in files:
        stat = path.stat()
        digest.update(f"{path.relative_to(root)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def cached(cache_dir: Path, name: str, make: Callable[[], Samples]) -> Samples:
    """Return the samples cached as `name` under `cache_dir`; if none are or they are damaged, `make` and cache them."""
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
