"""Reading checkpoints: the latest that is whole."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

import torch

from aldvae.runs.directory import RunDirectory
from aldvae.training.callbacks import Observer
from aldvae.training.trainer import Trainer


def resume(trainer: Trainer, directory: RunDirectory, observer: Observer) -> tuple[int, dict[str, str]]:
    """Bring `trainer` to where the run was; return the last finished epoch and the tables up to it."""
    damaged = ""
    for name, content in directory.checkpoints():
        checkpoint = _checkpoint(content, trainer.device)
        if checkpoint is not None:
            if damaged:
                observer.note(f"{damaged} is damaged; going on from the one before it")
            trainer.load_state_dict(checkpoint["trainer"])
            return checkpoint["epoch"], checkpoint["tables"]
        damaged = damaged or name
    if damaged:
        observer.note(f"{damaged} is damaged or no checkpoint of aldvae; the run starts again from its first epoch")
    return 0, {}


def _checkpoint(content: bytes, device: torch.device) -> dict[str, Any] | None:
    """Return what a checkpoint holds, None if it is damaged or something else."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.testzip() is not None:
                return None
        checkpoint = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile):
        return None
    return checkpoint if isinstance(checkpoint, dict) and set(checkpoint) == {"epoch", "trainer", "tables"} else None
