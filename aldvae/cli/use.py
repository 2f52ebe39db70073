"""The commands that use the model of a run: encode, reconstruct, sample."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aldvae.config.execution import Execution
from aldvae.config.presets import preset
from aldvae.config.resolve import own_data
from aldvae.utils.errors import AldvaeError, ArgumentError, ConfigError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from aldvae.data.dataset import Samples
    from aldvae.models.vae import VAE

RunPath = Annotated[
    Path, typer.Argument(metavar="RUN", help="The directory of a finished run, its model file, or a card.")
]
Data = Annotated[str, typer.Argument(metavar="DATA", help="A dataset or your own data, as --dataset of adaptive.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The file or folder to write; its suffix is the format.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder of the built-in datasets (or ALDVAE_DATA_DIR).")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]


class UseError(AldvaeError):
    """A run or data that cannot be used; the message names the argument."""

    exit_code = 2


def encode(run: RunPath, data: Data, output: Output, data_dir: DataDir = None, device: Device = "auto") -> None:
    """Write the latent vector of every sample, the mean of its posterior: .csv, .parquet, .npy or .npz.

    Rows keep the order of the data. Tables and .npz also hold the labels.
    """
    from aldvae.data.export import VECTOR_FILES, check_output, label_values, write_vectors
    from aldvae.models import use

    check_output(output, VECTOR_FILES)
    model, samples = _load_model(run, device), _load_samples(run, data, data_dir)
    with _naming(f"DATA {data}"):
        z = use.encode(model, _values(samples))
    labels = label_values(samples)
    write_vectors(output, z, [f"z{j}" for j in range(z.shape[1])], labels, _files(data))
    _report(output, labels)


def reconstruct(run: RunPath, data: Data, output: Output, data_dir: DataDir = None, device: Device = "auto") -> None:
    """Write every sample as the model reconstructs it, in the units of the data.

    Tables become .csv, .parquet, .npy or .npz; images .npy, .npz or a folder of .png; video .npy or .npz.
    """
    from aldvae.data.export import check_output, label_values, output_suffixes
    from aldvae.models import use

    model = _load_model(run, device)
    check_output(output, output_suffixes(model.shape))
    samples = _load_samples(run, data, data_dir)
    with _naming(f"DATA {data}"):
        x = use.reconstruct(model, _values(samples))
    labels = label_values(samples)
    _write(model, output, x, labels, _files(data))
    _report(output, labels)


def sample(
    run: RunPath,
    output: Output,
    n: Annotated[int, typer.Option("--number", "-n", help="How many samples.")] = 100,
    seed: Annotated[int, typer.Option(help="The same seed gives the same samples.")] = 0,
    device: Device = "auto",
) -> None:
    """Write new samples, decoded from the prior, in the units of the training data.

    Formats are those of reconstruct; besides, a .png holds a grid of images, a .gif one of videos.
    """
    from aldvae.data.export import check_output, output_suffixes
    from aldvae.models import use

    for option, value, least in (("number", n, 1), ("seed", seed, 0)):
        if value < least:
            raise ConfigError(option, f"must be {least} or more, not {value}")
    model = _load_model(run, device)
    check_output(output, output_suffixes(model.shape, grid=True))
    _write(model, output, use.sample(model, n, seed))
    _report(output)


def _load_model(run: Path, device: str) -> VAE:
    from aldvae.models.serialization import load
    from aldvae.utils.devices import pick_device

    picked = pick_device(device)
    try:
        return load(run, picked)
    except AldvaeError as error:
        raise UseError(f"RUN {error}") from error


def _load_samples(run: Path, data: str, data_dir: Path | None) -> Samples:
    """Return all samples of `data`; a folder of images is resized as the run resized its own."""
    from aldvae.data.load import load_samples

    execution, path = Execution(data_dir=data_dir), own_data(data)
    resize = _resize(run) if path is not None and path.is_dir() else None
    with _naming(f"DATA {data}"):
        if path is None:
            preset(data)
        return load_samples(data, execution.data_directory, execution.cache_directory, path, resize)


def _resize(run: Path) -> int | None:
    """Return the size to which a run, or the run behind a model card, resized its images; None if it did not."""
    try:
        stored = json.loads(((run if run.is_dir() else run.parent) / "config.json").read_text())
        size = (stored.get("settings") or stored["run"])["resize"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return size if isinstance(size, int) else None


@contextmanager
def _naming(argument: str) -> Iterator[None]:
    """Let errors about data name the `argument` of the command instead of an option or a function's argument."""
    try:
        yield
    except ArgumentError as error:
        raise UseError(f"{argument} {error.problem}") from error
    except ConfigError as error:
        if error.option != "--dataset":
            raise
        raise UseError(f"DATA {str(error).removeprefix('--dataset ')}") from error


def _values(samples: Samples) -> np.ndarray | pd.DataFrame:
    """Return the samples as `aldvae.models.use` takes them, a table with the names of its columns."""
    import pandas as pd

    from aldvae.data.export import layout

    values = layout(samples)
    return pd.DataFrame(values, columns=list(samples.columns)) if samples.columns else values


def _files(data: str) -> list[str] | None:
    """Return the names of the images in a folder, in the order of the samples; None for other data."""
    path = own_data(data)
    if path is None or not path.is_dir():
        return None
    from aldvae.data.own import list_images

    return [file.relative_to(path).as_posix() for file in list_images(path)[0]]


def _write(
    model: VAE, output: Path, x: np.ndarray, labels: np.ndarray | None = None, files: list[str] | None = None
) -> None:
    from aldvae.data.export import write_images, write_vectors

    if len(model.shape) == 1:
        write_vectors(output, x, model.columns or [f"x{j}" for j in range(x.shape[1])], labels)
    else:
        write_images(output, x, labels, files)


def _report(output: Path, labels: np.ndarray | None = None) -> None:
    if labels is not None and output.suffix == ".npy":
        print(f"aldvae: {output} holds no labels; an .npz would", file=sys.stderr)
    print(output)
