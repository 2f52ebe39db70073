from __future__ import annotations

import gzip
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import datasets

from aldvae.config.presets import PRESETS
from aldvae.data import eurosat, sprites
from aldvae.data.dataset import Dataset, Samples
from aldvae.data.load import load_dataset
from aldvae.data.sources import SOURCES
from aldvae.utils.errors import ConfigError
from tests.conftest import digits, served


def load_named(name: str, data_dir: Path, limit: int | None = None) -> Dataset:
    return load_dataset(name, validation=0.1, limit=limit, data_dir=data_dir, cache_dir=data_dir / "no cache needed")


def test_every_dataset_has_a_preset() -> None:
    assert set(SOURCES) == set(PRESETS)


def test_digits_are_split_the_same_each_time() -> None:
    data = digits()
    assert (len(data.train), len(data.validation)) == (1258, 539)
    assert data.shape == (1, 8, 8)
    assert data.train.x.dtype == torch.uint8
    assert int(data.train.x.max()) == 255
    assert data.validation.labels is not None
    assert sorted(set(data.validation.labels.tolist())) == list(range(10))
    assert data.fingerprint == digits().fingerprint


def test_a_limit_gives_the_same_subset_each_time() -> None:
    small, same, large = (digits(n) for n in (100, 100, 300))
    assert (len(small.train), len(small.validation)) == (70, 30)
    assert small.fingerprint == same.fingerprint != large.fingerprint
    large_images = {image.numpy().tobytes() for image in torch.cat([large.train.x, large.validation.x])}
    assert all(image.numpy().tobytes() in large_images for image in small.train.x)


@pytest.mark.parametrize(
    ("limit", "problem"), [(1, "splits 1 samples into 1 for training and 0"), (1798, "more than the 1797")]
)
def test_a_limit_too_small_or_too_large_is_refused(limit: int, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"--limit {limit} .*{problem}"):
        digits(limit)


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashionmnist", "FashionMNIST")])
def test_real_data_equal_those_of_torchvision(data_dir: Path, name: str, folder: str) -> None:
    data = load_named(name, data_dir)
    expected = getattr(datasets, folder)(data_dir, train=True)
    assert (len(data.train), len(data.validation), data.shape) == (54_000, 6_000, (1, 28, 28))
    images = torch.cat([data.train.x, data.validation.x])
    assert int(images.long().sum()) == int(expected.data.long().sum())
    assert data.train.labels is not None
    assert data.validation.labels is not None
    labels = torch.cat([data.train.labels, data.validation.labels])
    assert torch.equal(labels.bincount(), expected.targets.bincount())
    first = (expected.data == data.train.x[0]).flatten(1).all(1).nonzero()[0].item()
    assert expected.targets[first] == data.train.labels[0]


def test_missing_data_names_the_folder_it_was_expected_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(ConfigError, match=f"--data-dir {tmp_path}: MNIST is missing"):
        load_named("mnist", tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="does not exist; create it"):
        load_named("mnist", tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is not a folder"):
        load_named("mnist", tmp_path / "file")


@pytest.mark.parametrize("size", [0, 3, 10, 5000])
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_truncated_files_are_named(data_dir: Path, tmp_path: Path, file: str, size: int) -> None:
    raw = tmp_path / "MNIST" / "raw"
    shutil.copytree(data_dir / "MNIST" / "raw", raw, copy_function=lambda a, b: Path(b).symlink_to(a))
    (raw / file).unlink()
    (raw / file).write_bytes((data_dir / "MNIST" / "raw" / file).read_bytes()[:size])
    with pytest.raises(ConfigError, match="MNIST/raw holds damaged or truncated files"):
        load_named("mnist", tmp_path)


def test_missing_data_is_downloaded_and_moved_into_place(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    resources = []
    for name, _ in datasets.MNIST.resources:
        content = gzip.compress((data_dir / "MNIST" / "raw" / Path(name).stem).read_bytes(), 1)
        (source / name).write_bytes(content)
        resources.append((name, hashlib.md5(content).hexdigest()))
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    with served(source) as address:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"{address}/"])
        data = load_named("mnist", target, limit=1000)
    assert data.fingerprint == load_named("mnist", data_dir, limit=1000).fingerprint
    assert [path.name for path in target.iterdir()] == ["MNIST"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_the_datasets_here_are_the_originals(data_dir: Path, cache_dir: Path, name: str) -> None:
    assert SOURCES[name].verify(data_dir, cache_dir) == ""


@pytest.mark.slow
def test_eurosat_is_decoded_once(data_dir: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = eurosat.load(data_dir, cache_dir)
    assert first.labels is not None
    assert first.labels.bincount().sum() == 27_000
    image = eurosat.files(data_dir, cache_dir)[12_345]
    assert np.array_equal(first.x[12_345].permute(1, 2, 0).numpy(), np.asarray(Image.open(image)))
    assert first.classes[int(first.labels[12_345])] == image.parent.name
    monkeypatch.setattr(eurosat, "read_images", None)
    assert eurosat.load(data_dir, cache_dir).fingerprint == first.fingerprint


@pytest.mark.slow
def test_a_truncated_jpeg_and_a_missing_one_are_named(data_dir: Path, tmp_path: Path) -> None:
    classes = tmp_path / "eurosat" / "2750"
    for folder in (data_dir / "eurosat" / "2750").iterdir():
        classes.mkdir(parents=True, exist_ok=True)
        (classes / folder.name).symlink_to(folder)
    rivers = classes / "River"
    files = sorted(rivers.resolve().iterdir())
    rivers.unlink()
    rivers.mkdir()
    for file in files[1:]:
        (rivers / file.name).symlink_to(file)
    with pytest.raises(ConfigError, match="holds 26999 images instead of 27000"):
        eurosat.load(tmp_path, tmp_path)
    (rivers / files[0].name).write_bytes(files[0].read_bytes()[:900])
    with pytest.raises(ConfigError, match=rf"{files[0].name} is damaged or truncated"):
        eurosat.load(tmp_path, tmp_path)


def test_a_missing_sheet_is_named(data_dir: Path, tmp_path: Path) -> None:
    sheets = shutil.copytree(data_dir / "Sprites", tmp_path / "Sprites")
    (sheets / "hair" / "3.png").unlink()
    with pytest.raises(ConfigError, match=r"hair/3\.png is missing"):
        SOURCES["sprites"].load(tmp_path, tmp_path)


def test_sprites_are_downloaded_as_one_archive(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(data_dir / "Sprites", tmp_path / "Sprites-commit")
    shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path, "Sprites-commit")
    with served(tmp_path) as address:
        monkeypatch.setattr(sprites, "ARCHIVE", f"{address}/archive.zip")
        (tmp_path / "data").mkdir()
        found = sprites.files(tmp_path / "data", tmp_path)
    assert all(path.is_file() for path in found)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["Sprites"]


@given(st.floats(0, 0.99), st.floats(0.1, 0.9))
def test_the_contrast_of_two_gray_levels_has_a_closed_form(level: float, share: float) -> None:
    n_bright = round(1000 * share)
    x = torch.full((1000, 1, 1, 1), level)
    x[:n_bright] = 1.0
    mean = (n_bright + level * (1000 - n_bright)) / 1000
    variance = n_bright / 1000 * (1 - n_bright / 1000) * (1 - level) ** 2
    assert Samples(x).contrast == pytest.approx(variance / (mean * (1 - mean)), abs=1e-4)
    assert Samples(torch.full_like(x, round(level))).contrast == 0
