"""Tables of the user's own data as vectors: a column for each value, and perhaps one of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from aldvae.data.arrays import array_samples, with_labels
from aldvae.data.dataset import Samples
from aldvae.utils.errors import ConfigError

LABELS = "labels"
# So many columns are named in an error.
_SHOWN = 5
_TEXT_REMEDY = (
    "drop it with frame.select_dtypes('number'), encode it with pandas.get_dummies(frame), or, if it is the class, "
    "call the column labels"
)


def read_table(path: Path) -> Samples:
    """Return the rows of a ``.csv`` or ``.parquet``; raises `ConfigError` as `frame_samples` does."""
    return frame_samples(path, _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path))


def frame_samples(path: Path, frame: pd.DataFrame) -> Samples:
    """Return the rows of `frame`, read from `path`, as vectors; its column ``labels``, if it has one, as labels.

    Raises `ConfigError` naming all columns that hold text, times, missing values or one value only, with the remedy.
    """
    if "Unnamed: 0" in frame.columns:
        raise ConfigError("dataset", f"{path}: the first column has no name; name it or, if it is an index, remove it")
    values = frame.drop(columns=LABELS, errors="ignore")
    if frame.empty or values.empty:
        raise ConfigError("dataset", f"{path} holds no {'rows' if frame.empty else 'columns of values'}; name another")
    numbers = _numbers(path, values)
    # Without a header, pandas numbers the columns.
    names = tuple(name for name in values.columns if isinstance(name, str))
    samples = replace(array_samples(path, numbers), columns=names)
    return with_labels(path, samples, frame[LABELS]) if LABELS in frame.columns else samples


def _numbers(path: Path, frame: pd.DataFrame) -> np.ndarray:
    """Return the cells of `frame` as float64; infinite cells stay, `array_samples` refuses them."""
    times = [name for name, dtype in frame.dtypes.items() if dtype.kind in "mM"]
    others = frame.drop(columns=times)
    parsed = others.astype(dict.fromkeys(others.select_dtypes("category"), object))
    parsed = parsed.apply(pd.to_numeric, errors="coerce").astype(np.float64)
    # A column that is mostly numbers has mistakes in single cells; one that is not holds text.
    text = [name for name in parsed if 2 * parsed[name].notna().sum() < others[name].notna().sum()]
    numbers = parsed.drop(columns=text)
    problems = [
        *([f"text in {_columns(text)}: {_TEXT_REMEDY}"] if text else []),
        *([f"times in {_columns(times)}: drop them with {_drop(times)}"] if times else []),
        *_gaps(numbers),
        *_constants(numbers),
    ]
    if problems:
        raise ConfigError("dataset", f"{path} is no table of numbers (frame in pandas): {'; '.join(problems)}")
    return np.asarray(numbers)


def _gaps(numbers: pd.DataFrame) -> list[str]:
    missing = numbers.isna()
    if not missing.to_numpy().any():
        return []
    row, column = np.argwhere(missing.to_numpy())[0]
    names = list(numbers.columns[missing.any()])
    first = f"row {row + 1} of column {numbers.columns[column]} is empty or not a number"
    count = f" ({int(missing.to_numpy().sum())} such cells, in {_columns(names)})"
    return [f"{first}{count}: drop such rows with frame.dropna() or fill them with frame.fillna(frame.median())"]


def _constants(numbers: pd.DataFrame) -> list[str]:
    # One row makes all columns constant, but is another problem.
    constant = [name for name in numbers if len(numbers) > 1 and numbers[name].nunique(dropna=False) == 1]
    return [f"one value only in {_columns(constant)}: drop with {_drop(constant)}"] if constant else []


def _columns(names: Sequence[object]) -> str:
    shown = ", ".join(map(str, names[:_SHOWN]))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"column{'s' if len(names) > 1 else ''} {shown}{more}"


def _drop(names: Sequence[object]) -> str:
    shown = f"{list(names)}" if len(names) <= _SHOWN else "[...]"
    return f"frame.drop(columns={shown})"


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        first = pd.read_csv(path, header=None, nrows=1)
        names = first.apply(pd.to_numeric, errors="coerce").to_numpy().ravel()
        # pandas names unnamed columns 0, 1, 2 and so on when it writes a table.
        has_header = np.isnan(names).all() or (len(names) > 1 and np.array_equal(names, np.arange(len(names))))
        return pd.read_csv(path, header=0 if has_header else None, low_memory=False)
    except (ValueError, OSError) as error:
        raise ConfigError("dataset", f"{path} cannot be read as a table: {' '.join(str(error).split())}") from error


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except ImportError as error:
        raise ConfigError("dataset", f"{path} needs pyarrow: pip install 'aldvae[parquet]'") from error
    except (ValueError, OSError) as error:
        raise ConfigError("dataset", f"{path} cannot be read as a table: {' '.join(str(error).split())}") from error
