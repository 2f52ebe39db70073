"""`aldvae.find_size`: what ``aldvae adaptive`` does, from Python, on data in memory or on disk."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from aldvae.analysis.answers import answer_sentences
from aldvae.analysis.series import Series
from aldvae.config.execution import Execution
from aldvae.config.options import Value
from aldvae.config.presets import RECOMMENDED
from aldvae.config.resolve import Overrides, own_data, resolve
from aldvae.config.run_config import RunConfig
from aldvae.data.tables import LABELS
from aldvae.models.serialization import load
from aldvae.reporting.answer_view import answer_fragment
from aldvae.reporting.evidence import REPORT, write_evidence
from aldvae.reporting.figures.curve import draw_curve
from aldvae.reporting.figures.run_overview import draw_run
from aldvae.reporting.figures.style import print_style
from aldvae.runs.results import Result, read_result
from aldvae.training.loop import run
from aldvae.training.progress import Display
from aldvae.utils.errors import AldvaeError, ArgumentError, ConfigError
from aldvae.utils.files import write_atomically

if TYPE_CHECKING:
    from aldvae.models.vae import VAE

Data: TypeAlias = "np.ndarray | Tensor | pd.DataFrame | str | Path"
Labels: TypeAlias = "Sequence[int] | np.ndarray | Tensor | pd.Series[int]"
# Tables of a run, by the names of their files.
_TABLES = ("metrics", "curve", "latent", "directions", "decisions", "times")


@dataclass(frozen=True)
class FoundSize:
    """What `find_size` found; in a notebook it shows itself as the top of the run's report.

    `result` reads the files of the run.
    """

    result: Result

    @property
    def path(self) -> Path:
        """The directory of the run."""
        return self.result.path

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.path / REPORT

    @property
    def size(self) -> int:
        """The latent size of the model."""
        return self.result.answer["latent_dim"]

    @property
    def n_informative(self) -> int | None:
        """How many dimensions carry information; None if the rule counts none. It may be below `size`."""
        return self.result.answer.get("n_informative")

    @property
    def settled(self) -> bool:
        """Whether the answer had settled; if not, train for more epochs."""
        return self.result.found_epoch is not None

    @cached_property
    def model(self) -> VAE:
        """The trained model on the CPU, in evaluation mode, as `aldvae.load` returns it."""
        return load(self.path)

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables of the run by the name of their file, such as ``metrics``: a row per epoch.

        Tables without rows, such as the ``curve`` of a run without one, are left out.
        """
        tables: dict[str, pd.DataFrame] = {name: getattr(self.result, name) for name in _TABLES}
        return {name: table for name, table in tables.items() if not table.empty}

    @property
    def figure(self) -> Figure:
        """A new figure of the curve: what fewer dimensions cost; of the run's course if it has no curve."""
        if len(self.result.curve) < 2:
            return draw_run(self.result)
        with print_style():
            return draw_curve([self.result])

    def __str__(self) -> str:
        """Return the answer in sentences."""
        return " ".join(answer_sentences(Series((self.result,))))

    def _repr_html_(self) -> str:
        return answer_fragment(self.result)


def find_size(
    data: Data,
    *,
    labels: Labels | None = None,
    results_dir: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
    **settings: Value,
) -> FoundSize:
    """Find the latent size that `data` needs, in one training run with the recommended protocol.

    `data` is an array of vectors (N, D), gray images (N, H, W), colour images (N, H, W, C) or video (N, T, H, W, C); a
    tensor, whose colour images and video may also have their channels second; a data frame with a column per value; the
    path of data on disk; or the name of a built-in dataset. Images hold whole numbers in 0..255 or numbers in [0, 1].
    `labels` are N whole numbers, for data in memory.

    The run, with its model and its report, is written under `results_dir`, without one in a new temporary directory,
    which is not deleted. The same call resumes an interrupted run there and returns a finished one. With `progress`,
    lines on standard error say what is going on and how much time is left. `settings` are the options of ``aldvae
    adaptive`` with underscores, such as ``epochs=50``.

    Raises `ArgumentError` (a `ValueError`) naming the argument or setting that is wrong, and `DivergedError` if the
    training diverges.
    """
    directory = Path(tempfile.mkdtemp(prefix="aldvae-")) if results_dir is None else Path(results_dir)
    with _options_as_arguments():
        dataset = _dataset(data, labels, directory)
        execution = Execution(own_data=own_data(dataset), results_dir=directory, device=device)
        config = resolve("adaptive", dataset, Overrides(settings, RECOMMENDED), execution)
        return _execute(config, execution, progress)


def _execute(config: RunConfig, execution: Execution, progress: bool) -> FoundSize:
    with Display() if progress else nullcontext() as display:
        path = run(config, execution, display).path
    write_evidence(path)
    result = read_result(path)
    if result is None or result.summary is None:
        raise AldvaeError(f"{path} cannot be read; delete it and run again")
    return FoundSize(result)


@contextmanager
def _options_as_arguments() -> Iterator[None]:
    """Raise `ArgumentError`, which names the argument, instead of `ConfigError`, which names the option."""
    try:
        yield
    except ConfigError as error:
        option = error.option.removeprefix("--").replace("-", "_")
        problem = str(error).removeprefix(error.option).strip()
        raise ArgumentError("data" if option == "dataset" else option, problem) from error


def _dataset(data: Data, labels: Labels | None, directory: Path) -> str:
    """Return what ``--dataset`` takes; data in memory are written into `directory` for that."""
    if isinstance(data, str | Path):
        if labels is not None:
            raise ArgumentError("labels", "are for data in memory; files hold their own; remove it")
        return str(data)
    if isinstance(data, pd.DataFrame):
        path = directory / "data.csv"
        write_atomically(path, _labelled(_named(data), labels).to_csv(index=False))
        return str(path)
    return str(_write_array(_array(data), labels, directory))


def _write_array(x: np.ndarray, labels: Labels | None, directory: Path) -> Path:
    content = io.BytesIO()
    if labels is None:
        np.save(content, x, allow_pickle=False)
    else:
        np.savez(content, x=x, labels=np.asarray(labels))
    path = directory / f"data.{'npy' if labels is None else 'npz'}"
    write_atomically(path, content.getvalue())
    return path


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` with names of columns that cannot be taken for values."""
    numeric = pd.to_numeric(pd.Series([str(name) for name in frame.columns]), errors="coerce").notna()
    names = [
        f"column {name}" if is_number else str(name) for name, is_number in zip(frame.columns, numeric, strict=True)
    ]
    return frame.set_axis(names, axis="columns")


def _labelled(frame: pd.DataFrame, labels: Labels | None) -> pd.DataFrame:
    """Return `frame` with `labels` in the column from which tables are read back with their classes."""
    if labels is None:
        return frame
    if LABELS in frame.columns:
        raise ArgumentError("labels", f"are given twice; data has a column {LABELS}; remove one of them")
    if len(labels) != len(frame):
        raise ArgumentError("labels", f"must be {len(frame)}, one for each row of data, not {len(labels)}")
    return frame.assign(**{LABELS: np.asarray(labels)})


def _array(data: np.ndarray | Tensor) -> np.ndarray:
    if isinstance(data, Tensor):
        tensor = data.detach().cpu()
        if tensor.ndim in (4, 5) and tensor.shape[1] in (1, 3) and tensor.shape[-1] not in (1, 3):
            tensor = tensor.movedim(1, -1)
        return np.asarray((tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy())
    array = np.asarray(data)
    if array.dtype == object:
        raise ArgumentError("data", "holds other things than numbers; convert them to numbers")
    return array
