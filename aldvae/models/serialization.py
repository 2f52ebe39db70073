"""The model file: safetensors weights; in its header, the arguments of `build_vae` and what the data looked like."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from aldvae.models.build import build_vae
from aldvae.models.vae import VAE
from aldvae.utils.errors import AldvaeError

FILE = "model.safetensors"


def model_bytes(model: VAE, shape: tuple[int, ...], settings: Mapping[str, str | int | None]) -> bytes:
    """Return the content of the file for a `model` built by `build_vae` for `shape` with the keywords `settings`."""
    header: dict[str, object] = {"shape": shape, "latent_dim": model.latent_dim, **settings}
    # Left out where they do not apply: the files of other runs stay the same to the byte.
    if model.columns:
        header["columns"] = model.columns
    if model.unit_pixels:
        header["unit_pixels"] = True
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    content: bytes = save(weights, metadata={"aldvae": json.dumps(header)})
    return content


def load(path: str | Path, device: torch.device | str = "cpu") -> VAE:
    """Return the compressed model of a finished run on `device`, in evaluation mode.

    `path` is the run's directory, its model file, or the folder of a model card. Raises `AldvaeError` if the file is
    missing or damaged.
    """
    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    try:
        with safe_open(file, framework="pt", device=str(device)) as stored:
            header = json.loads(stored.metadata()["aldvae"])
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise AldvaeError(f"{file} does not exist; a run writes its model when it finishes") from error
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise AldvaeError(f"{file} is damaged or not a model of aldvae; give another path") from error
    try:
        columns, unit_pixels = tuple(header.pop("columns", ())), bool(header.pop("unit_pixels", False))
        model = build_vae(tuple(header.pop("shape")), **header)
        model.columns, model.unit_pixels = columns, unit_pixels
        # load_state_dict fills only buffers that are not None.
        for name in ("input_mean", "input_scale", "pixel_mean", "pixel_scale"):
            setattr(model, name, weights.get(name))
        model.load_state_dict(weights)
    except (RuntimeError, KeyError, TypeError) as error:
        raise AldvaeError(f"{file} does not fit the network that its header names; give another path") from error
    return model.to(device).eval()
