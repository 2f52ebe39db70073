from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import aldvae
from aldvae.config.execution import Execution
from aldvae.config.resolve import own_data
from aldvae.data import own
from aldvae.data.dataset import Samples
from aldvae.data.load import load_dataset
from aldvae.training.loop import run
from aldvae.utils.errors import ConfigError
from tests.conftest import resolve

RANDOM = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write thirty RGB images of 20 x 16 in two class folders."""
    for name in ("cats", "dogs"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(15):
            pixels = RANDOM.integers(0, 256, (16, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{number}.png")
    return tmp_path / "pets"


def load(path: Path, cache: Path, resize: int | None = None) -> Samples:
    own.load.cache_clear()
    return own.load(path, resize, cache)


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_class_folders_give_labels_and_flat_folders_none(folder: Path, tmp_path: Path) -> None:
    samples = load(folder, tmp_path / "cache")
    assert samples.shape == (3, 16, 20)
    assert samples.classes == ("cats", "dogs")
    assert samples.labels is not None
    assert samples.labels.tolist() == [0] * 15 + [1] * 15
    first = np.asarray(Image.open(folder / "cats" / "0.png"))
    assert np.array_equal(samples.x[0].permute(1, 2, 0).numpy(), first)
    flat = load(folder / "cats", tmp_path / "cache")
    assert (len(flat), flat.labels, flat.classes) == (15, None, ())


def test_a_second_reading_comes_from_the_cache_until_a_file_changes(folder: Path, tmp_path: Path) -> None:
    first = load(folder, tmp_path / "cache")
    (cached,) = (tmp_path / "cache").rglob("*.safetensors")
    assert torch.equal(load(folder, tmp_path / "cache").x, first.x)
    assert list((tmp_path / "cache").rglob("*.safetensors")) == [cached]
    Image.new("RGB", (20, 16)).save(folder / "cats" / "0.png")
    assert int(load(folder, tmp_path / "cache").x[0].sum()) == 0


def test_gray_images_have_one_channel_and_are_resized_only_on_request(tmp_path: Path) -> None:
    for number, size in enumerate([(20, 20), (30, 30)]):
        Image.new("L", size, 100).save(tmp_path / f"{number}.png")
    with pytest.raises(ConfigError, match=r"1\.png is 30 x 30 where 0\.png is 20 x 20; use --resize"):
        load(tmp_path, tmp_path / ".cache")
    assert load(tmp_path, tmp_path / ".cache", resize=16).shape == (1, 16, 16)


def test_damaged_files_and_files_of_other_kinds_are_named(folder: Path, tmp_path: Path) -> None:
    file = folder / "dogs" / "3.png"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError, match=r"dogs/3\.png is damaged or truncated"):
        load(folder, tmp_path / "cache")
    file.write_bytes(content)
    (folder / "cats" / "notes.txt").write_text("meow")
    with pytest.raises(ConfigError, match=r"cats/notes\.txt is not an image"):
        load(folder, tmp_path / "cache")
    (folder / "cats" / "notes.txt").rename(folder / "notes.txt")
    with pytest.raises(ConfigError, match=r"both class folders and files such as notes\.txt"):
        load(folder, tmp_path / "cache")


def test_empty_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no images"):
        load(tmp_path / "empty", tmp_path / "cache")
    (folder / "eels").mkdir()
    with pytest.raises(ConfigError, match="class folder eels is empty"):
        load(folder, tmp_path / "cache")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((9, 5), (5,)), ((9, 8, 6), (1, 8, 6)), ((9, 8, 6, 3), (3, 8, 6)), ((9, 4, 8, 6, 3), (3, 4, 8, 6))],
)
def test_array_shapes(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    x = RANDOM.random(shape).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    samples = load(tmp_path / "x.npy", tmp_path)
    assert samples.shape == expected
    assert np.array_equal(samples.x[3].numpy(), np.moveaxis(x[3].reshape(*expected[1:], -1), -1, 0).reshape(expected))


def test_labels_may_be_any_whole_numbers(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", x=RANDOM.random((4, 3)), labels=np.array([7, -1, 7, 30]))
    samples = load(path, tmp_path)
    assert samples.labels is not None
    assert samples.labels.tolist() == [1, 0, 1, 2]
    assert samples.classes == ("-1", "7", "30")


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"y": np.zeros(3)}, r"no array x \(it holds: y\)"),
        ({"x": np.zeros((4, 3)), "labels": np.zeros(3, int)}, "labels must be 4 whole numbers"),
        ({"x": np.zeros((4, 3)), "labels": np.zeros(4)}, "labels must be 4 whole numbers"),
        ({"x": np.array([[0.0, 1], [np.nan, 2]])}, "NaN or infinite values, first in sample 1"),
        ({"x": np.full((3, 4, 4), 1.5)}, r"must hold numbers in \[0, 1\], not 1.5 to 1.5"),
        ({"x": np.eye(4, dtype=int)[None].repeat(3, 0)}, "whole numbers up to 1"),
        ({"x": np.full((3, 4, 4), 300)}, r"must hold whole numbers in 0..255"),
        ({"x": np.zeros((3, 4, 4), complex)}, "x holds complex128, not real numbers"),
        ({"x": np.array([["a", "b"]])}, "not real numbers"),
        ({"x": np.zeros(5)}, "x is 5; reshape it to N x D"),
        ({"x": np.zeros((0, 5))}, "x is 0 x 5; reshape"),
    ],
)
def test_invalid_arrays_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(save(tmp_path / "bad.npz", **arrays), tmp_path)


def test_python_objects_are_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "executed",)

    np.save(tmp_path / "bomb.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "bomb.npz", x=np.array([Bomb()], dtype=object))
    for name in ("bomb.npy", "bomb.npz"):
        with pytest.raises(ConfigError, match="never loaded"):
            load(tmp_path / name, tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("compressed", [True, False])
def test_a_damaged_array_raises_no_error_of_numpy(tmp_path: Path, compressed: bool) -> None:
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", x=RANDOM.random((20, 6)))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    for position in range(0, len(content), 7):
        damaged = content.copy()
        damaged[position] ^= 0xFF
        (tmp_path / "b.npz").write_bytes(damaged)
        with suppress(ConfigError):
            load(tmp_path / "b.npz", tmp_path)


def test_large_numbers_keep_their_digits(tmp_path: Path) -> None:
    x = 1.7e9 + RANDOM.normal(size=(200, 3))
    np.save(tmp_path / "x.npy", x)
    data = load_dataset("x.npy", validation=0.2, cache_dir=tmp_path, own_data=tmp_path / "x.npy")
    assert len(np.unique(data.train.x[:, 0].numpy())) == len(data.train)
    np.save(tmp_path / "y.npy", RANDOM.normal(size=(200, 3)) * 1e300)
    with pytest.raises(ConfigError, match="too large to standardise"):
        load_dataset("y.npy", validation=0.2, cache_dir=tmp_path, own_data=tmp_path / "y.npy")


def test_truncated_arrays_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", x=np.zeros((50, 50)))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ConfigError, match="is damaged"):
        load(path, tmp_path)


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("names", [["a", "b", "c"], [0, 1, 2]])
def test_tables_of_vectors(tmp_path: Path, header: bool, names: list[str] | list[int]) -> None:
    frame = pd.DataFrame(RANDOM.random((12, 3)), columns=names)
    frame.to_csv(tmp_path / "t.csv", index=False, header=header)
    samples = load(tmp_path / "t.csv", tmp_path)
    np.testing.assert_allclose(samples.x.numpy(), frame.to_numpy(), rtol=1e-6)


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame(RANDOM.random((12, 3)), columns=["a", "b", "c"])
    frame.to_parquet(tmp_path / "t.parquet")
    np.testing.assert_allclose(load(tmp_path / "t.parquet", tmp_path).x.numpy(), frame.to_numpy(), rtol=1e-6)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match="cannot be read as a table"):
        load(tmp_path / "t.parquet", tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a,b\n1,2\n3,x\n", "row 2 of column b is empty or not a number"),
        ("a,b\n1,2\n,4\n5,6\n", "row 2 of column a is empty or not a number"),
        ("a,b\n1,2\n1,2,3\n", "cannot be read as a table"),
        ("", "cannot be read as a table"),
        ("a,b\n", "holds no rows"),
        (",a,b\n0,1,2\n1,3,4\n", "the first column has no name"),
    ],
)
def test_invalid_tables_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        load(tmp_path / "t.csv", tmp_path)


def test_vectors_are_standardised_by_the_training_samples(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", RANDOM.normal(5, 3, (200, 4)))
    data = load_dataset("x.npy", validation=0.2, cache_dir=tmp_path, own_data=tmp_path / "x.npy")
    torch.testing.assert_close(data.train.x.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(data.train.x.std(0), torch.ones(4))
    assert data.standardisation is not None
    assert float(data.standardisation.mean.mean()) == pytest.approx(5, abs=1)


def test_a_constant_column_is_named(tmp_path: Path) -> None:
    x = RANDOM.random((50, 4))
    x[:, 2] = 0.1
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ConfigError, match=r"column 2 \(from 0\) is constant"):
        load_dataset("x.npy", validation=0.2, cache_dir=tmp_path, own_data=tmp_path / "x.npy")


def test_shape_and_labels_decide_the_defaults(folder: Path, tmp_path: Path) -> None:
    execution = Execution(cache_dir=tmp_path / "cache")
    pets = resolve("adaptive", str(folder), execution)
    assert (pets.model.network, pets.data.clusters, pets.metrics.fid_features, pets.data.dataset) == (
        "conv",
        2,
        "pca",
        "pets",
    )
    assert pets.name.startswith("pets-adaptive-dim100-seed0-")
    np.save(tmp_path / "v.npy", RANDOM.random((30, 12)))
    with pytest.raises(ConfigError, match=r"--clusters is needed: .* has no labels"):
        resolve("adaptive", str(tmp_path / "v.npy"), execution)
    one_class = save(tmp_path / "one_class.npz", x=RANDOM.random((30, 5)), labels=np.zeros(30, int))
    with pytest.raises(ConfigError, match=r"--clusters is needed: .* has one class only"):
        resolve("adaptive", str(one_class), execution)
    vectors = resolve("adaptive", str(tmp_path / "v.npy"), execution, clusters=3)
    assert (vectors.model.network, vectors.model.likelihood, vectors.model.init_dim) == ("mlp", "gaussian", 12)
    np.save(tmp_path / "s.npy", RANDOM.random((30, 8, 8)))
    assert resolve("adaptive", str(tmp_path / "s.npy"), execution, clusters=3).model.network == "mlp"


def test_black_and_white_images_have_a_bernoulli_likelihood(tmp_path: Path) -> None:
    gray = np.random.default_rng(0).random((40, 8, 8))
    kinds = {"gray": (gray, "gaussian"), "binary": (gray > 0.5, "bernoulli"), "ink": (gray.round() * 0.9, "bernoulli")}
    # Dark pictures are far from black and white, although most of their pixels are nearly black.
    kinds |= {"dark": (gray**8 / 4, "gaussian"), "black": (np.zeros((40, 8, 8)), "gaussian")}
    kinds["video"] = (np.random.default_rng(0).random((40, 4, 8, 8, 1)), "bernoulli")
    for name, (x, likelihood) in kinds.items():
        np.save(tmp_path / f"{name}.npy", x)
        path = str(tmp_path / f"{name}.npy")
        model = resolve("fixed", path, protocol="recommended", clusters=2).model
        assert (model.likelihood, model.standardise) == (likelihood, likelihood == "gaussian"), name
        assert model.scale == ("optimal" if likelihood == "gaussian" else "learned")
        assert resolve("fixed", path, protocol="paper", clusters=2).model.likelihood == "bernoulli"
        explicit = resolve("fixed", path, protocol="recommended", clusters=2, likelihood="bernoulli").model
        assert (explicit.likelihood, explicit.scale, explicit.standardise) == ("bernoulli", "learned", False)


def test_the_name_of_a_run_does_not_depend_on_the_path_of_its_data(folder: Path, tmp_path: Path) -> None:
    execution = Execution(cache_dir=tmp_path / "cache")
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "pets")
    names = {resolve("adaptive", str(path), execution).name for path in (folder, moved)}
    assert len(names) == 1
    Image.new("RGB", (20, 16)).save(moved / "cats" / "0.png")
    own.load.cache_clear()
    assert resolve("adaptive", str(moved), execution).name not in names


@pytest.mark.parametrize(
    ("dataset", "problem"),
    [
        ("nowhere/at/all", "does not exist"),
        ("nowhere.npz", "does not exist"),
        ("nowhere/", "does not exist"),
        ("nonsense", "--dataset nonsense is not known"),
    ],
)
def test_missing_data_is_refused(dataset: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        resolve("adaptive", dataset)


def test_features_are_refused_without_the_labels_or_images_they_need(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", RANDOM.random((300, 12)))
    np.save(tmp_path / "p.npy", RANDOM.random((300, 16, 16)))
    cases = [
        ("v.npy", "classifier", "classifier needs gray or RGB images, but v.npy holds vectors; use pca"),
        ("v.npy", "inception", "inception needs gray or RGB images"),
        ("p.npy", "classifier", "classifier needs labels of two classes or more, but p.npy has no labelled classes"),
    ]
    for name, features, problem in cases:
        path = tmp_path / name
        settings: dict[str, Any] = {
            "clusters": 3,
            "fid_features": features,
            "fid_samples": 20,
            "silhouette_samples": 20,
        }
        with pytest.raises(ConfigError, match=problem):
            run(
                resolve("adaptive", str(path), **settings),
                Execution(own_data=own_data(str(path)), results_dir=tmp_path),
            )


@pytest.mark.parametrize("kind", ["vectors", "images", "flat images", "video"])
def test_a_run_on_the_users_own_data(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mine.npz"
    digits = load_digits()
    x = {
        "vectors": RANDOM.normal(size=(300, 3)) @ RANDOM.normal(size=(3, 12)) + 0.1 * RANDOM.normal(size=(300, 12)),
        "images": np.repeat(np.repeat(digits.images[:300] / 16, 2, 1), 2, 2)[..., None].repeat(3, -1),
        "flat images": digits.images[:300] / 16,
        "video": np.stack([digits.images[i : i + 300] / 16 for i in range(4)], axis=1)[..., None],
    }[kind]
    save(path, x=x, labels=digits.target[:300])
    settings: dict[str, Any] = {
        "epochs": 4,
        "init_dim": 8,
        "rule": "paper",
        "patience": 2,
        "step": 3,
        "fid_samples": 60,
        "silhouette_samples": 60,
    }
    settings |= {"validation": 0.2} | ({"channels": 8, "network": "video"} if kind == "video" else {})
    execution = Execution(results_dir=tmp_path / "runs", own_data=own_data(str(path)))
    outcome = run(resolve("adaptive", str(path), execution, **settings), execution)
    metrics = pd.read_csv(outcome.path / "metrics.csv")
    assert metrics["recon_loss"].iloc[-1] < metrics["recon_loss"].iloc[0]
    assert set(metrics["fid_features"]) == {"pca"}
    model = aldvae.load(outcome.path)
    assert model.latent_dim == outcome.summary["latent_dim"] == 5
    assert str(tmp_path) not in (outcome.path / "provenance.json").read_text()
    if kind == "vectors":
        raw = torch.from_numpy(x[:5]).float()
        torch.testing.assert_close(model.restore(model.standardise(raw)), raw)
        assert float(model.standardise(torch.from_numpy(x).float()).std()) == pytest.approx(1, abs=0.1)
