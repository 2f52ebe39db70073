"""Data that stay in a file give the numbers of data in memory, and folders are decoded by all cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from aldvae.config.execution import Execution
from aldvae.data import decode, large, mapped, own
from aldvae.data.dataset import Dataset, Samples, split
from aldvae.data.export import layout
from aldvae.data.image_files import read_images
from aldvae.data.mapped import MappedRows, MappedSamples, batches, combined_moments
from aldvae.metrics import pca
from aldvae.training.loop import run
from aldvae.utils.errors import ConfigError
from tests.conftest import resolve

RANDOM = np.random.default_rng(0)
ARRAYS: dict[str, np.ndarray] = {
    "vectors": RANDOM.normal(5, 3, (300, 3)) @ RANDOM.normal(size=(3, 12)) + RANDOM.normal(size=(300, 12)),
    "float32": RANDOM.normal(size=(300, 12)).astype(np.float32),
    "gray": RANDOM.random((300, 8, 8)).astype(np.float32),
    "colour": RANDOM.integers(0, 256, (300, 8, 6, 3), dtype=np.uint8),
    "black and white": RANDOM.random((300, 8, 8)) > 0.5,
    "video": RANDOM.random((200, 4, 8, 8, 1)),
    "channels first": RANDOM.integers(0, 256, (300, 3, 8, 6), dtype=np.uint8),
    "video, channels second": RANDOM.random((200, 4, 3, 8, 6)).astype(np.float32),
}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    own.load.cache_clear()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that from then on leaves data of any size in their files, and reads a few rows at once."""

    def leave_in_files() -> None:
        own.load.cache_clear()
        monkeypatch.setattr(mapped, "MAPPED_BYTES", 0)
        monkeypatch.setattr(large, "MANY_FILES", 0)

    return leave_in_files


def load(path: Path, cache: Path, resize: int | None = None) -> Samples:
    own.load.cache_clear()
    return own.load(path, resize, cache)


def values(samples: Samples) -> Tensor:
    return torch.cat(list(samples.on(torch.device("cpu")).split(7)))


@pytest.mark.parametrize("kind", ARRAYS)
def test_samples_in_a_file_read_as_those_in_memory(tmp_path: Path, small: Callable[[], None], kind: str) -> None:
    np.save(tmp_path / "x.npy", ARRAYS[kind])
    kept = load(tmp_path / "x.npy", tmp_path)
    small()
    left = load(tmp_path / "x.npy", tmp_path)
    assert isinstance(left, MappedSamples)
    assert (len(left), left.shape, left.x.dtype, left.classes) == (len(kept), kept.shape, kept.x.dtype, ())
    assert left.fingerprint == kept.fingerprint == load(tmp_path / "x.npy", tmp_path).fingerprint
    assert left.is_vectors or left.contrast == kept.contrast
    assert np.array_equal(layout(left), layout(kept))
    data, expected = (split("x", samples, 0.3, 150) for samples in (left, kept))
    for part, other in ((data.train, expected.train), (data.validation, expected.validation)):
        rows = part.on(torch.device("cpu"))
        assert torch.equal(values(part), other.x)
        assert torch.equal(rows[3:9], other.x[3:9])
        index = torch.tensor([5, 1, 1, 0])
        assert torch.equal(rows.index_select(0, index), other.x[index])
        assert torch.equal(values(part.take(index)), other.x[index])
    assert data.fingerprint != split("x", left, 0.3, 149).fingerprint
    if left.is_vectors:
        assert data.standardisation is not None
        assert expected.standardisation is not None
        assert all(map(torch.equal, data.standardisation, expected.standardisation))
    else:
        assert data.pixel_statistics == expected.pixel_statistics


@pytest.mark.parametrize(
    ("kind", "protocol"), [("vectors", "recommended"), ("gray", "recommended"), ("colour", "paper")]
)
def test_a_run_on_data_in_a_file_leaves_the_bytes_of_one_in_memory(
    tmp_path: Path, small: Callable[[], None], kind: str, protocol: str
) -> None:
    np.save(tmp_path / "x.npy", ARRAYS[kind])
    options: dict[str, Any] = {"epochs": 10, "init_dim": 8, "fid_samples": 60, "silhouette_samples": 60}
    options |= {"clusters": 3, "validation": 0.2, "network": "mlp"}
    paths = []
    for name in ("memory", "file"):
        execution = Execution(results_dir=tmp_path / name, own_data=tmp_path / "x.npy")
        config = resolve("adaptive", str(tmp_path / "x.npy"), execution, protocol, **options)
        paths.append(run(config, execution).path)
        small()
    assert paths[0].name == paths[1].name
    names = ["metrics.csv", "latent.csv", "decisions.csv", "model.safetensors", "latent_space.csv"]
    assert [n for n in names if (paths[0] / n).read_bytes() != (paths[1] / n).read_bytes()] == []


def test_pca_features_of_samples_in_a_file_need_no_more_values_than_allowed(
    tmp_path: Path, small: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = RANDOM.integers(0, 256, (300, 6, 5, 3), dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    kept = split("x", load(tmp_path / "x.npy", tmp_path), 0.2, None)
    small()
    left = split("x", load(tmp_path / "x.npy", tmp_path), 0.2, None)
    assert torch.equal(pca.fit_pca(left)[0].components, pca.fit_pca(kept)[0].components)
    monkeypatch.setattr(pca, "_MAX_VALUES", 100 * 90)
    fewer = Dataset("x", kept.train.take(torch.arange(100)), kept.validation)
    assert torch.equal(pca.fit_pca(left)[0].components, pca.fit_pca(fewer)[0].components)


def test_batches_are_read_ahead_in_order() -> None:
    array = RANDOM.normal(size=(500, 3)).astype(np.float32)
    rows = MappedRows(array, RANDOM.permutation(500), np.asarray, torch.device("cpu"))
    parts = torch.randperm(500).split(7)
    read = list(batches(rows, parts))
    assert len(read) == len(parts)
    assert all(torch.equal(batch, rows[part]) for batch, part in zip(read, parts, strict=True))
    # Stopping early, as after an interrupt, leaves no thread behind that reads.
    ahead = batches(rows, parts)
    next(ahead)
    del ahead


@settings(deadline=None)
@given(st.lists(st.integers(2, 20), min_size=1, max_size=8), st.floats(-1e6, 1e6))
def test_moments_of_parts_are_those_of_the_whole(sizes: list[int], offset: float) -> None:
    parts = [torch.from_numpy(offset + RANDOM.normal(size=(n, 4))) for n in sizes]
    mean, scale = combined_moments(parts)
    whole = torch.cat(parts)
    torch.testing.assert_close(mean, whole.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(scale, whole.std(0), rtol=1e-8, atol=0)


def test_vectors_beyond_one_chunk_are_standardised(
    tmp_path: Path, small: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", ARRAYS["vectors"])
    small()
    monkeypatch.setattr(mapped, "CHUNK_VALUES", 12 * 40)
    train = values(split("x", load(tmp_path / "x.npy", tmp_path), 0.2, None).train)
    torch.testing.assert_close(train.mean(0), torch.zeros(12), atol=1e-5, rtol=0)
    torch.testing.assert_close(train.std(0), torch.ones(12))


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.where(np.arange(900).reshape(300, 3) == 700, np.nan, 1.0), "NaN or infinite values, first in sample 233"),
        (np.full((30, 4, 4), 1.5), r"must hold numbers in \[0, 1\], not 1.5 to 1.5"),
        (np.full((30, 4, 4), 300), r"must hold whole numbers in 0..255"),
        (np.asfortranarray(RANDOM.random((30, 4))), "is in Fortran order"),
        (np.zeros(30), "reshape it to N x D"),
        (np.array([{}] * 30), "never loaded"),
    ],
)
def test_invalid_arrays_are_refused(
    tmp_path: Path, small: Callable[[], None], monkeypatch: pytest.MonkeyPatch, array: np.ndarray, problem: str
) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    small()
    monkeypatch.setattr(mapped, "CHUNK_VALUES", 60)
    with pytest.raises(ConfigError, match=problem):
        load(tmp_path / "x.npy", tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_truncated_arrays_are_refused(tmp_path: Path, small: Callable[[], None]) -> None:
    np.save(tmp_path / "x.npy", ARRAYS["vectors"])
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-50])
    small()
    with pytest.raises(ConfigError, match="is damaged"):
        load(tmp_path / "x.npy", tmp_path)


def test_a_header_that_asks_for_more_than_memory_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "x.npy").open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2**10)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(ConfigError, match="is damaged or larger than memory"):
        load(tmp_path / "x.npy", tmp_path)


@pytest.fixture(params=["gray", "colour"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Write 40 images of 10 x 6 in two class folders; in "colour", only the last one is coloured."""
    for number in range(40):
        path = tmp_path / "photos" / ("cats" if number < 25 else "dogs") / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = RANDOM.integers(0, 256, (6, 10), dtype=np.uint8)
        last = request.param == "colour" and number == 39
        Image.fromarray(np.stack([pixels, pixels // 2, pixels // 3], -1) if last else pixels).save(path)
    return tmp_path / "photos"


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Decode seven files at once, in this process; return a list that gets the number of files of each chunk."""
    decoded, read = list[int](), decode.read_pixels

    def recorded(files: Sequence[Path], *more: Any) -> tuple[np.ndarray, bool]:
        result = read(files, *more)
        decoded.append(len(files))
        return result

    monkeypatch.setattr(decode, "read_pixels", recorded)
    monkeypatch.setattr(decode, "CHUNK_FILES", 7)
    monkeypatch.setattr(decode, "usable_cores", lambda: 1)
    return decoded


@pytest.mark.parametrize("stays_in_file", [True, False])
def test_a_large_folder_reads_as_a_small_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunks: list[int], stays_in_file: bool
) -> None:
    expected = load(folder, tmp_path / "small")
    monkeypatch.setattr(large, "MANY_FILES", 0)
    if stays_in_file:
        monkeypatch.setattr(mapped, "MAPPED_BYTES", 0)
    samples = load(folder, tmp_path / "large")
    assert isinstance(samples, MappedSamples) == stays_in_file
    assert torch.equal(values(samples), expected.x)
    assert samples.fingerprint == expected.fingerprint
    assert samples.classes == expected.classes == ("cats", "dogs")
    assert samples.labels is not None
    assert expected.labels is not None
    assert torch.equal(samples.labels, expected.labels)
    assert chunks == [7] * 5 + [5]
    assert load(folder, tmp_path / "large").fingerprint == expected.fingerprint
    assert len(chunks) == 6, "it is decoded once"
    left = [path.suffix for path in (tmp_path / "large").rglob("*.*") if not path.name.startswith(".")]
    assert sorted(left) == ([".json", ".npy"] if stays_in_file else [".npy"])


def test_decoding_goes_on_where_it_stopped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunks: list[int]
) -> None:
    expected = read_images(sorted(folder.rglob("*.png")), "dataset").x
    chunks.clear()
    monkeypatch.setattr(large, "MANY_FILES", 0)
    broken = folder / "dogs" / "30.png"
    content, stat = broken.read_bytes(), broken.stat()
    broken.write_bytes(b"x" * len(content))
    os.utime(broken, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(ConfigError, match=r"30\.png is not an image"):
        load(folder, tmp_path / "cache")
    assert chunks == [7] * 4
    # The last line of the journal is torn, as by a kill.
    (journal,) = (tmp_path / "cache").rglob("*.journal")
    journal.write_text(journal.read_text()[:-3])
    broken.write_bytes(content)
    os.utime(broken, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert torch.equal(load(folder, tmp_path / "cache").x, expected)
    assert chunks == [7] * 4 + [7, 7, 5]


def test_all_cores_decode(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunks: list[int]) -> None:
    expected = load(folder, tmp_path / "small")
    chunks.clear()
    monkeypatch.setattr(large, "MANY_FILES", 0)
    monkeypatch.setattr(decode, "usable_cores", lambda: 2)
    monkeypatch.setattr(decode, "POOL_SECONDS", 0.0)
    assert torch.equal(load(folder, tmp_path / "large").x, expected.x)
    assert chunks == [7], "other processes decode all chunks but the first"
    (folder / "dogs" / "30.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"dogs/30\.png is not an image"):
        load(folder, tmp_path / "large")


MEMORY = """
import re, sys, threading, time
from pathlib import Path
import torch
from aldvae.data.load import load_dataset
from aldvae.config.resolve import Overrides, resolve
from aldvae.training.trainer import Trainer

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

path, most = Path(sys.argv[1]), 0.0
def watch():
    global most
    while True:
        most = max(most, anonymous())
        time.sleep(0.01)

before = anonymous()
threading.Thread(target=watch, daemon=True).start()
settings = {"network": "mlp", "hidden_dim": 8, "init_dim": 4, "fid_features": "none", "clusters": 2}
config = resolve("fixed", str(path), Overrides(settings, "paper"))
data = load_dataset("x", validation=0.1, cache_dir=path.parent, own_data=path)
loss = Trainer(config, data, torch.device("cpu")).train_epoch(1)
time.sleep(0.02)
print(most - before, loss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_training_on_a_file_takes_a_fraction_of_its_size_in_memory(tmp_path: Path) -> None:
    """300 MiB of images, of which an epoch reads each."""
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (19_200, 128, 128))
    x[::7] = 200
    x.flush()
    line = [sys.executable, "-c", MEMORY, str(tmp_path / "x.npy")]
    taken, loss = map(float, subprocess.run(line, check=True, capture_output=True, text=True).stdout.split())
    # In memory, they would take their 300 MiB more than once.
    assert taken < 250
    assert np.isfinite(loss)
