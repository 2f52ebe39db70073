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
# The models of a run's curve by latent size, in the run's directory.
SIZES = "sizes"


def size_file(latent_dim: int) -> str:
    """Return the file of the model of one size of a curve, relative to the run's directory."""
    return f"{SIZES}/{latent_dim}.safetensors"


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


def load(path: str | Path, device: torch.device | str = "cpu", *, latent_dim: int | None = None) -> VAE:
    """Return the compressed model of a finished run on `device`, in evaluation mode.

    `path` is the run's directory, its model file, or the folder of a model card. With `latent_dim`, the model of that
    size is returned, if the run kept the models of its curve. Raises `AldvaeError` if the file is missing or damaged,
    and for a size that is not there.
    """
    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    if latent_dim is not None:
        return _load_size(file, device, latent_dim)
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


def _load_size(file: Path, device: torch.device | str, latent_dim: int) -> VAE:
    sized = file.parent / size_file(latent_dim)
    if sized.exists():
        return load(sized, device)
    model = load(file, device)
    if model.latent_dim != latent_dim:
        kept = sorted({model.latent_dim, *(int(path.stem) for path in (file.parent / SIZES).glob("*.safetensors"))})
        there = f"{file.parent} has the sizes {', '.join(map(str, kept))}"
        raise AldvaeError(f"there is no model of size {latent_dim}: {there}; a run with --keep-sizes keeps more")
    return model
