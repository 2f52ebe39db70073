from __future__ import annotations

import gzip
import hashlib
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from torchvision import datasets

from aldvae.data import SOURCES, load_dataset
from aldvae.errors import ConfigError
from aldvae.protocol import PROTOCOLS


def test_every_dataset_has_a_protocol() -> None:
    assert set(SOURCES) == set(PROTOCOLS)


def test_digits_are_cut_once_and_for_all() -> None:
    data = load_dataset("digits")
    assert (len(data.train), len(data.validation)) == (1258, 539)
    assert data.shape == (1, 8, 8)
    assert data.train.x.dtype == torch.uint8
    assert int(data.train.x.max()) == 255
    assert sorted(set(data.validation.labels.tolist())) == list(range(10))
    assert data.fingerprint == load_dataset("digits").fingerprint


def test_a_limit_gives_the_same_part_each_time() -> None:
    small, same, large = (load_dataset("digits", limit=n) for n in (100, 100, 300))
    assert (len(small.train), len(small.validation)) == (70, 30)
    assert small.fingerprint == same.fingerprint != large.fingerprint
    known = {image.numpy().tobytes() for image in torch.cat([large.train.x, large.validation.x])}
    assert all(image.numpy().tobytes() in known for image in small.train.x)


@pytest.mark.parametrize(("limit", "problem"), [(1, "cannot be cut"), (1798, "more than the 1797")])
def test_senseless_limits(limit: int, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"--limit {limit}.*{problem}|--limit.*{problem}"):
        load_dataset("digits", limit=limit)


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashionmnist", "FashionMNIST")])
def test_real_data_is_torchvisions(data_dir: Path, name: str, folder: str) -> None:
    data = load_dataset(name, data_dir)
    theirs = getattr(datasets, folder)(data_dir, train=True)
    assert (len(data.train), len(data.validation), data.shape) == (54_000, 6_000, (1, 28, 28))
    images = torch.cat([data.train.x, data.validation.x])
    assert int(images.long().sum()) == int(theirs.data.long().sum())
    labels = torch.cat([data.train.labels, data.validation.labels])
    assert torch.equal(labels.bincount(), theirs.targets.bincount())
    first = (theirs.data == data.train.x[0]).flatten(1).all(1).nonzero()[0].item()
    assert theirs.targets[first] == data.train.labels[0]


def test_missing_data_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(ConfigError, match=f"--data-dir {tmp_path}: MNIST is not there"):
        load_dataset("mnist", tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="does not exist; make it"):
        load_dataset("mnist", tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is not a folder"):
        load_dataset("mnist", tmp_path / "file")


@pytest.mark.parametrize("size", [0, 3, 10, 5000])
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_truncated_files_are_named(data_dir: Path, tmp_path: Path, file: str, size: int) -> None:
    raw = tmp_path / "MNIST" / "raw"
    shutil.copytree(data_dir / "MNIST" / "raw", raw, copy_function=lambda a, b: Path(b).symlink_to(a))
    (raw / file).unlink()
    (raw / file).write_bytes((data_dir / "MNIST" / "raw" / file).read_bytes()[:size])
    with pytest.raises(ConfigError, match="MNIST/raw holds damaged or truncated files"):
        load_dataset("mnist", tmp_path)


def test_missing_data_is_downloaded_and_moved_into_place(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, target = tmp_path / "served", tmp_path / "target"
    served.mkdir()
    target.mkdir()
    resources = []
    for name, _ in datasets.MNIST.resources:
        content = gzip.compress((data_dir / "MNIST" / "raw" / Path(name).stem).read_bytes(), 1)
        (served / name).write_bytes(content)
        resources.append((name, hashlib.md5(content).hexdigest()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=served))
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    try:
        data = load_dataset("mnist", target, limit=1000)
    finally:
        server.shutdown()
        server.server_close()
    assert data.fingerprint == load_dataset("mnist", data_dir, limit=1000).fingerprint
    assert [path.name for path in target.iterdir()] == ["MNIST"]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""
