"""AnnData, the format of single-cell data: the matrix X, a row for each cell."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from aldvae.data.arrays import array_samples, with_labels
from aldvae.data.dataset import Samples
from aldvae.data.tables import LABELS
from aldvae.utils.errors import ConfigError


def read_h5ad(path: Path) -> Samples:
    """Return the rows of X, made dense if it is sparse, and ``obs["labels"]`` as labels, if there is such a column.

    Raises `ConfigError` if anndata is not installed, if the file is damaged or has no X, and as `array_samples` does.
    """
    try:
        import anndata
    except ImportError as error:
        raise ConfigError("dataset", f"{path} needs anndata: pip install 'aldvae[anndata]'") from error
    try:
        # It warns of old files and of gene names that occur twice, neither of which matters here.
        with warnings.catch_warnings(action="ignore"):
            cells = anndata.read_h5ad(path)
    except PermissionError:
        raise
    # h5py and anndata raise many kinds of exception, depending on where a file is damaged.
    except Exception as error:
        raise ConfigError("dataset", f"{path} is damaged or no AnnData file; write it again") from error
    if cells.X is None:
        raise ConfigError("dataset", f"{path} has no matrix X; copy a layer to X, and write the file again")
    matrix = cells.X if isinstance(cells.X, np.ndarray) else cells.X.toarray()
    samples = array_samples(path, matrix)
    return with_labels(path, samples, cells.obs[LABELS].astype(object)) if LABELS in cells.obs else samples
