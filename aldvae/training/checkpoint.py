"""Reading checkpoints: a run resumes from the latest one that is intact."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from typing import TypedDict, cast

import torch

from aldvae.runs.directory import RunDirectory
from aldvae.runs.tables import TableState
from aldvae.training.callbacks import Callback
from aldvae.training.trainer import Trainer, TrainerState


class Checkpoint(TypedDict):
    """The content of a checkpoint: the last finished epoch, the trainer's state, and that of each table.

    Texts instead of states are those of version 0.1.0, and the rows that a curve has added.
    """

    epoch: int
    trainer: TrainerState
    tables: Mapping[str, TableState | str]


def to_bytes(checkpoint: Checkpoint) -> bytes:
    """Return `checkpoint` as the content of a file."""
    content = io.BytesIO()
    torch.save(checkpoint, content)
    return content.getvalue()


def resume(trainer: Trainer, directory: RunDirectory, callback: Callback) -> tuple[int, dict[str, str]]:
    """Load the latest intact checkpoint into `trainer`; return the last finished epoch and the tables' texts up to it.

    Without an intact checkpoint the trainer stays fresh: epoch 0, no tables. Damage is reported to `callback`. Raises
    `ConfigError` as `RunDirectory.texts` does.
    """
    damaged = ""
    for name, content in directory.checkpoints():
        checkpoint = read_checkpoint(content, trainer.device)
        if checkpoint is not None:
            if damaged:
                callback.on_message(f"{damaged} is damaged; resuming from the previous checkpoint")
            tables = directory.texts(checkpoint["tables"])
            trainer.load_state_dict(checkpoint["trainer"])
            return checkpoint["epoch"], tables
        damaged = damaged or name
    if damaged:
        callback.on_message(f"{damaged} is damaged or not a checkpoint of aldvae; the run starts again at epoch 1")
    return 0, {}


def read_checkpoint(content: bytes, device: torch.device) -> Checkpoint | None:
    """Return the checkpoint in `content`; None if it is damaged or something else."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.testzip() is not None:
                return None
        checkpoint = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile):
        return None
    intact = isinstance(checkpoint, dict) and set(checkpoint) == {"epoch", "trainer", "tables"}
    return cast(Checkpoint, checkpoint) if intact else None
