"""AnnData files and Hugging Face datasets, against the real libraries."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from aldvae.data import own
from aldvae.data.dataset import Samples
from aldvae.utils.errors import ConfigError

RANDOM = np.random.default_rng(0)


def load(path: Path, resize: int | None = None) -> Samples:
    own.load.cache_clear()
    return own.load(path, resize, path.parent / "cache")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sparse", [False, True])
def test_the_matrix_of_an_h5ad_file_is_read_dense_and_in_order(tmp_path: Path, sparse: bool) -> None:
    anndata = pytest.importorskip("anndata")
    x = RANDOM.poisson(1, (30, 7)).astype(np.float32)
    cells = anndata.AnnData(scipy.sparse.csr_matrix(x) if sparse else x)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    samples = load(tmp_path / "cells.h5ad")
    assert np.array_equal(samples.x.numpy(), x)
    assert samples.labels is None
    cells.obs["labels"] = ["b" if row % 3 else "a" for row in range(30)]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    labelled = load(tmp_path / "cells.h5ad")
    assert labelled.classes == ("a", "b")
    assert labelled.labels is not None
    assert labelled.labels.tolist() == [int(row % 3 > 0) for row in range(30)]


@pytest.mark.filterwarnings("ignore")
def test_h5ad_files_that_hold_no_matrix_are_refused(tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    anndata.AnnData(obs={"a": np.arange(4)}).write_h5ad(tmp_path / "empty.h5ad")
    with pytest.raises(ConfigError, match=r"empty\.h5ad has no matrix X"):
        load(tmp_path / "empty.h5ad")
    content = (tmp_path / "empty.h5ad").read_bytes()
    (tmp_path / "half.h5ad").write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError, match=r"half\.h5ad is damaged"):
        load(tmp_path / "half.h5ad")


def test_a_hugging_face_dataset_of_images_keeps_labels_and_order(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    pixels = RANDOM.integers(0, 256, (6, 9, 11, 3), dtype=np.uint8)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dog", "cat"])})
    images = [Image.fromarray(image) for image in pixels]
    saved = datasets.Dataset.from_dict({"image": images, "label": [0, 1, 1, 0, 1, 0]}, features=features)
    saved.save_to_disk(tmp_path / "pets")
    samples = load(tmp_path / "pets")
    assert np.array_equal(samples.x.permute(0, 2, 3, 1).numpy(), pixels)
    assert samples.classes == ("dog", "cat")
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 1, 0, 1, 0]
    assert load(tmp_path / "pets", resize=8).shape == (3, 8, 8)
    datasets.DatasetDict({"train": saved, "test": saved.select([0])}).save_to_disk(tmp_path / "splits")
    assert len(load(tmp_path / "splits")) == 6
    datasets.DatasetDict({"test": saved}).save_to_disk(tmp_path / "no_train")
    with pytest.raises(ConfigError, match="no split called train; name one of its folders: test"):
        load(tmp_path / "no_train")
    broken = saved.cast_column("image", datasets.Image(decode=False))[:]
    broken["image"][2] = {"bytes": b"no image", "path": None}
    datasets.Dataset.from_dict(broken, features=features).save_to_disk(tmp_path / "broken")
    with pytest.raises(ConfigError, match=r"image 2 \(from 0\), is not an image"):
        load(tmp_path / "broken")


def test_hugging_face_datasets_of_arrays_and_of_columns(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    x = RANDOM.random((12, 4)).astype(np.float32)
    datasets.Dataset.from_dict({"x": x.tolist()}).save_to_disk(tmp_path / "lists")
    assert np.array_equal(load(tmp_path / "lists").x.numpy().astype(np.float32), x)
    frames = RANDOM.random((5, 8, 6)).astype(np.float32)
    features = datasets.Features({"x": datasets.Array2D((8, 6), "float32"), "labels": datasets.Value("int64")})
    columns = {"x": frames, "labels": [3, 3, 5, 5, 3]}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "arrays")
    gray = load(tmp_path / "arrays")
    assert np.array_equal(gray.x[:, 0].numpy(), frames)
    assert gray.classes == ("3", "5")
    datasets.Dataset.from_dict({"a": x[:, 0], "b": x[:, 1]}).save_to_disk(tmp_path / "table")
    np.testing.assert_allclose(load(tmp_path / "table").x.numpy(), x[:, :2])
    with pytest.raises(ConfigError, match="--resize has no effect"):
        load(tmp_path / "table", resize=8)


def test_unusable_hugging_face_datasets_are_refused(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    cases = {
        "text": ({"name": ["a", "b"], "x": [1.0, 2.0]}, "text in column name"),
        "ragged": ({"x": [[1.0], [1.0, 2.0]]}, "the arrays in x differ in shape"),
        "two": ({"x": [[1.0], [2.0]], "y": [[1.0], [2.0]]}, "x, y all hold samples"),
        "none": ({"x": np.zeros(0)}, "holds no rows"),
    }
    for name, (columns, problem) in cases.items():
        datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / name)
        with pytest.raises(ConfigError, match=problem):
            load(tmp_path / name)
    next((tmp_path / "text").glob("*.arrow")).write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="text is damaged"):
        load(tmp_path / "text")


@pytest.mark.parametrize("library", ["anndata", "datasets"])
def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    (tmp_path / "cells.h5ad").write_bytes(b"")
    (tmp_path / "saved").mkdir()
    for name in ("state.json", "dataset_info.json"):
        (tmp_path / "saved" / name).write_text("{}")
    path = {"anndata": tmp_path / "cells.h5ad", "datasets": tmp_path / "saved"}[library]
    with pytest.raises(ConfigError, match=rf"pip install 'aldvae\[{library}\]'"):
        load(path)
