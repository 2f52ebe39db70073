from __future__ import annotations

import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import aldvae
from aldvae.cli import main
from aldvae.config.execution import Execution
from aldvae.config.resolve import own_data
from aldvae.data.dataset import Samples, to_float
from aldvae.data.export import label_values, write_images, write_vectors
from aldvae.data.own import load as load_own
from aldvae.models.build import build_vae
from aldvae.models.serialization import FILE
from aldvae.models.vae import VAE
from aldvae.training.loop import run
from aldvae.utils.errors import ArgumentError
from tests.conftest import Cli, resolve

ROOT = Path(__file__).parents[1]
COLUMNS = ("height", "weight", "income", "age")
SETTINGS: dict[str, Any] = {
    "epochs": 60,
    "batch_size": 32,
    "lr": 4e-3,
    "validation": 0.2,
    "clusters": 2,
    "fid_features": "none",
    "silhouette_samples": 10,
    "hidden_dim": 32,
    "init_dim": 3,
    "likelihood": "gaussian",
    "scale": "optimal",
}


def people(n: int = 300) -> pd.DataFrame:
    """Return a table of two factors whose columns have very different means and scales."""
    random = np.random.default_rng(0)
    factors = random.normal(size=(n, 2)) @ random.normal(size=(2, 4)) + 0.05 * random.normal(size=(n, 4))
    return pd.DataFrame(factors * [0.1, 12, 9000, 15] + [1.7, 70, 40000, 45], columns=list(COLUMNS))


class TableRun(NamedTuple):
    path: Path
    table: Path
    frame: pd.DataFrame


def train(path: Path, **settings: Any) -> Path:
    execution = Execution(results_dir=path.parent / "runs", own_data=own_data(str(path)))
    return run(resolve("fixed", str(path), execution, **SETTINGS | settings), execution).path


@pytest.fixture(scope="module")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> TableRun:
    """Return a trained model of a table."""
    table = tmp_path_factory.mktemp("table") / "people.csv"
    people().to_csv(table, index=False)
    return TableRun(train(table), table, people())


@pytest.fixture(scope="module")
def folder_run(tmp_path_factory: pytest.TempPathFactory) -> TableRun:
    """Return a trained model of a folder of gray images in two classes, of which one file is no PNG."""
    root = tmp_path_factory.mktemp("images") / "photos"
    images, labels = load_digits().images[:60], load_digits().target[:60] % 2
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = root / ("odd" if label else "even") / f"{i:02}.{'bmp' if i == 3 else 'png'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(file)
    return TableRun(train(root, epochs=2, likelihood="bernoulli", scale="learned"), root, pd.DataFrame())


def test_latent_vectors_are_the_means_of_the_posterior(table_run: TableRun) -> None:
    model = aldvae.load(table_run.path)
    raw = torch.tensor(table_run.frame.to_numpy()).float()
    with torch.inference_mode():
        mu, _ = model.encode(model.standardise(raw))
    z = aldvae.encode(table_run.path, table_run.frame)
    assert z.shape == (300, 3)
    np.testing.assert_allclose(z, mu.numpy(), rtol=1e-5, atol=1e-6)


def test_reconstructions_of_a_table_are_in_its_units(table_run: TableRun) -> None:
    reconstructed = aldvae.reconstruct(table_run.path, table_run.frame)
    errors = np.abs(reconstructed - table_run.frame.to_numpy()).mean(0) / table_run.frame.std().to_numpy()
    # That of the columns' means is about 0.8.
    assert (errors < 0.6).all(), errors
    new = aldvae.sample(table_run.path, 500)
    np.testing.assert_allclose(new.mean(0), table_run.frame.mean(), rtol=0.25)


def test_columns_are_found_by_name(table_run: TableRun) -> None:
    shuffled = table_run.frame[["age", "income", "height", "weight"]].assign(other=1.0)
    np.testing.assert_array_equal(
        aldvae.encode(table_run.path, shuffled), aldvae.encode(table_run.path, table_run.frame)
    )
    reconstructed = aldvae.reconstruct(table_run.path, shuffled)
    np.testing.assert_array_equal(reconstructed, aldvae.reconstruct(table_run.path, table_run.frame))
    with pytest.raises(ArgumentError, match="has no column age"):
        aldvae.encode(table_run.path, table_run.frame.rename(columns={"age": "years"}))


def test_rows_keep_their_order_and_batches_change_nothing(table_run: TableRun) -> None:
    order = np.random.default_rng(1).permutation(300)
    z = aldvae.encode(table_run.path, table_run.frame)
    np.testing.assert_allclose(aldvae.encode(table_run.path, table_run.frame.iloc[order]), z[order], atol=1e-6)
    np.testing.assert_allclose(aldvae.encode(table_run.path, table_run.frame[:1]), z[:1], atol=1e-6)


def image_model(shape: tuple[int, ...]) -> VAE:
    torch.manual_seed(0)
    return build_vae(shape, 3, network="mlp", hidden_dim=8)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((1, 6, 5), (7, 6, 5)), ((1, 6, 5), (7, 6, 5, 1)), ((3, 6, 5), (7, 6, 5, 3)), ((2, 4, 6, 5), (7, 4, 6, 5, 2))],
)
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64", "bool"])
def test_images_and_video_keep_layout_and_range(shape: tuple[int, ...], layout: tuple[int, ...], dtype: str) -> None:
    model = image_model(shape)
    x = np.random.default_rng(0).random(layout)
    data = (x * 255).astype(dtype) if "int" in dtype else (x > 0.5) if dtype == "bool" else x.astype(dtype)
    channels_last = data[..., None] if len(layout) == 3 else data
    inside = torch.from_numpy(channels_last).movedim(-1, 1).float()
    inside = inside / 255 if "int" in dtype else inside
    data.setflags(write=False)
    with torch.inference_mode():
        mu, _ = model.encode(inside)
        expected = model.generate(mu).movedim(1, -1).reshape(layout).numpy()
    np.testing.assert_allclose(aldvae.encode(model, data), mu.numpy(), rtol=1e-5, atol=1e-6)
    reconstructed = aldvae.reconstruct(model, data)
    if "int" in dtype:
        assert reconstructed.dtype == np.uint8
        np.testing.assert_array_equal(reconstructed, (expected * 255).round())
    else:
        assert reconstructed.dtype == np.float32
        np.testing.assert_allclose(reconstructed, expected, rtol=1e-5)


def test_a_seed_decides_the_samples_and_the_model_the_units() -> None:
    model = image_model((1, 6, 5))
    new = aldvae.sample(model, 230, seed=3)
    assert new.shape == (230, 6, 5)
    assert new.dtype == np.uint8
    assert new.max() > 1
    np.testing.assert_array_equal(new, aldvae.sample(model, 230, seed=3))
    assert not np.array_equal(new, aldvae.sample(model, 230, seed=4))
    model.unit_pixels = True
    np.testing.assert_allclose(aldvae.sample(model, 230, seed=3), new / 255, atol=0.5 / 255 + 1e-6)


def test_the_model_stays_in_its_mode() -> None:
    model = image_model((1, 6, 5)).train()
    aldvae.encode(model, np.zeros((2, 6, 5)))
    assert model.training


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((4, 6, 4)), "is 4 x 6 x 4, but the model takes images of 6 x 5"),
        (np.zeros((4, 30)), "is 4 x 30, but the model takes images of 6 x 5"),
        (np.zeros((0, 6, 5)), "holds no samples"),
        (np.full((4, 6, 5), np.nan), "holds NaN or infinite values"),
        (np.full((4, 6, 5), 7.0), r"must hold numbers in \[0, 1\], not 7 to 7"),
        (np.full((4, 6, 5), 300), "must hold whole numbers in 0..255, not 300 to 300"),
        (np.ones((4, 6, 5), int), "must hold whole numbers in 0..255, not 1 to 1"),
        (np.full((4, 6, 5), "x"), "holds <U1, not real numbers"),
    ],
)
def test_data_that_do_not_suit_the_model_are_refused(data: np.ndarray, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"^data {message}"):
        aldvae.encode(image_model((1, 6, 5)), data)


@pytest.mark.parametrize(("arguments", "message"), [((0,), "n must be 1 or more"), ((1, -1), "seed must be 0 or more")])
def test_impossible_samples_are_refused(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        aldvae.sample(image_model((1, 6, 5)), *arguments)


@pytest.mark.parametrize("names", ["3 10 7", "cat dog owl", "01 02 03"])
def test_labels_are_those_of_the_data(tmp_path: Path, names: str) -> None:
    samples = Samples(torch.zeros(4, 2), torch.tensor([2, 0, 1, 0]), tuple(names.split()))
    labels = label_values(samples)
    assert labels is not None
    first, second, third = names.split()
    assert [str(label) for label in labels] == [third, first, second, first]
    assert np.issubdtype(labels.dtype, np.integer) == (names == "3 10 7")
    write_vectors(tmp_path / "z.npz", np.ones((4, 2)), ("a", "b"), labels)
    again = label_values(load_own(tmp_path / "z.npz", None, tmp_path))
    stored = np.load(tmp_path / "z.npz")
    assert again is not None
    named = stored["classes"][again] if "classes" in stored else again
    assert list(map(str, named)) == list(map(str, labels))


def test_a_folder_of_written_images_is_read_back(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (12, 5, 4, 3), dtype=np.uint8)
    write_images(tmp_path / "out", x, np.repeat(["a/b", "c"], 6))
    samples = load_own(tmp_path / "out", None, tmp_path)
    np.testing.assert_array_equal(to_float(samples.x).movedim(1, -1).numpy(), (x / np.float32(255)))
    assert samples.classes == ("a-b", "c")


@pytest.mark.parametrize("n", [1, 7, 10, 25])
def test_a_grid_holds_any_number_of_images(tmp_path: Path, n: int) -> None:
    write_images(tmp_path / "grid.png", np.zeros((n, 48, 48), np.uint8))
    columns = int(np.ceil(np.sqrt(n)))
    assert pixels(tmp_path / "grid.png").shape == (49 * -(-n // columns) - 1, 49 * columns - 1)


class Output(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Here = Callable[..., Output]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Here:
    """Return a function that runs `aldvae ARGS` in this process and in an empty folder: torch is loaded already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def run_here(*args: str | Path) -> Output:
        monkeypatch.setattr(sys, "argv", ["aldvae", *map(str, args)])
        with pytest.raises(SystemExit) as end:
            main()
        assert isinstance(end.value.code, int)
        return Output(end.value.code, *capsys.readouterr())

    return run_here


def test_the_commands_work_in_a_process_of_their_own(cli: Cli, table_run: TableRun, tmp_path: Path) -> None:
    result = cli("encode", table_run.path, table_run.table, "-o", "z.csv")
    assert (result.returncode, result.stdout, result.stderr) == (0, "z.csv\n", "")
    z = pd.read_csv(tmp_path / "z.csv").to_numpy()
    np.testing.assert_allclose(z, aldvae.encode(table_run.path, table_run.frame), atol=1e-5)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npy", "npz"])
def test_the_command_line_encodes_and_reconstructs_a_table(here: Here, table_run: TableRun, suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    output = table_run.path.parent / f"out.{suffix}"
    order = np.random.default_rng(1).permutation(300)
    shuffled = table_run.table.with_name("shuffled.csv")
    table_run.frame.iloc[order].to_csv(shuffled, index=False)
    result = here("encode", table_run.path, shuffled, "-o", output)
    assert result == (0, f"{output}\n", "")
    z = aldvae.encode(table_run.path, table_run.frame)[order]
    np.testing.assert_allclose(read(output, ["z0", "z1", "z2"]), z, atol=1e-5)
    assert here("reconstruct", table_run.path, shuffled, "-o", output).returncode == 0
    expected = aldvae.reconstruct(table_run.path, table_run.frame)[order]
    np.testing.assert_allclose(read(output, list(COLUMNS)), expected, rtol=1e-5)
    assert here("sample", table_run.path, "-n", "5", "--seed", "2", "-o", output).returncode == 0
    np.testing.assert_allclose(read(output, list(COLUMNS)), aldvae.sample(table_run.path, 5, 2), rtol=1e-5)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def read(path: Path, columns: list[str]) -> np.ndarray:
    """Return the numbers in a file; in a table, they must be in `columns`."""
    if path.suffix in (".npy", ".npz"):
        stored = np.load(path)
        array: np.ndarray = stored if path.suffix == ".npy" else stored["x"]
        return array
    table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    assert list(table.columns) == columns
    return table.to_numpy()


def test_the_command_line_keeps_the_names_and_labels_of_images(
    here: Here, folder_run: TableRun, tmp_path: Path
) -> None:
    assert here("encode", folder_run.path, folder_run.table, "-o", "z.csv").returncode == 0
    table = pd.read_csv(tmp_path / "z.csv")
    assert list(table.columns) == ["file", "z0", "z1", "z2", "label"]
    assert (table["file"].str.split("/").str[0] == table["label"]).all()
    row = table[table["file"] == "odd/03.bmp"]
    image = pixels(folder_run.table / "odd" / "03.bmp")
    np.testing.assert_allclose(row[["z0", "z1", "z2"]], aldvae.encode(folder_run.path, image[None]), atol=1e-5)

    assert here("reconstruct", folder_run.path, folder_run.table, "-o", "again").returncode == 0
    assert len(list((tmp_path / "again").rglob("*.png"))) == 60
    expected = aldvae.reconstruct(folder_run.path, image[None])[0]
    np.testing.assert_array_equal(pixels(tmp_path / "again" / "odd" / "03.png"), expected)
    refused = here("reconstruct", folder_run.path, folder_run.table, "-o", "again")
    assert (refused.returncode, "holds files" in refused.stderr) == (2, True)

    assert here("sample", folder_run.path, "-n", "7", "-o", "grid.png").returncode == 0
    assert pixels(tmp_path / "grid.png").shape == (3 * 54 - 6, 3 * 54 - 6)


def test_an_array_without_labels_says_so(here: Here, folder_run: TableRun) -> None:
    result = here("encode", folder_run.path, folder_run.table, "-o", "z.npy")
    assert "z.npy holds no labels; an .npz would" in result.stderr
    assert here("encode", folder_run.path, folder_run.table, "-o", "z.npz").stderr == ""


def test_bad_input_is_one_line(here: Here, table_run: TableRun, folder_run: TableRun, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("height,weight,income,age\n1,2,3,x\n")
    (tmp_path / "thin.csv").write_text("height,weight\n1,2\n3,4\n")
    (tmp_path / "model.safetensors").write_bytes(b"no model")
    run_path, table = table_run.path, table_run.table
    cases: list[tuple[list[str | Path], str]] = [
        (["encode", run_path, "digits", "-o", "z.csv"], "DATA digits is 1797 x 8 x 8, but the model takes vectors"),
        (["encode", run_path, "nothere.csv", "-o", "z.csv"], "DATA nothere.csv does not exist"),
        (["encode", run_path, "digit", "-o", "z.csv"], "DATA digit is not known; did you mean digits?"),
        (
            ["encode", run_path, "bad.csv", "-o", "z.csv"],
            "(frame in pandas): text in column age",
        ),
        (["encode", run_path, "thin.csv", "-o", "z.csv"], "DATA thin.csv has no column income"),
        (["encode", "nowhere", table, "-o", "z.csv"], "RUN nowhere does not exist; a run writes its model"),
        (["encode", tmp_path, table, "-o", "z.csv"], "model.safetensors is damaged or not a model"),
        (["encode", run_path, table, "-o", "z.txt"], "--output z.txt must be .csv, .parquet, .npy or .npz"),
        (["encode", run_path, table], "Missing option '--output'"),
        (["encode", run_path, table, "-o", "z.csv", "--device", "abacus"], "--device abacus is not known"),
        (["reconstruct", folder_run.path, folder_run.table, "-o", "x.csv"], "must be .npy, .npz or a folder here"),
        (["sample", folder_run.path, "-n", "0", "-o", "x.npy"], "--number must be 1 or more, not 0"),
        (["sample", folder_run.path, "--seed", "-1", "-o", "x.npy"], "--seed must be 0 or more, not -1"),
    ]
    before = sorted(tmp_path.iterdir())
    for arguments, message in cases:
        result = here(*arguments)
        assert (result.returncode, result.stdout) == (2, ""), arguments
        (line,) = result.stderr.splitlines()
        assert line.startswith("aldvae: "), line
        assert message in line
    assert sorted(tmp_path.iterdir()) == before


def test_the_model_file_knows_the_columns_and_files_of_built_in_data_are_as_before(table_run: TableRun) -> None:
    model = aldvae.load(table_run.path / FILE)
    assert model.columns == COLUMNS
    assert (table_run.path / FILE).read_bytes().count(b"columns") == 1
    digits = resolve("fixed", "digits", epochs=1, limit=100, fid_features="none", silhouette_samples=11, init_dim=2)
    path = run(digits, Execution(results_dir=table_run.path.parent)).path
    header = (path / FILE).read_bytes()[:1000]
    assert b"columns" not in header
    assert b"unit_pixels" not in header
    assert aldvae.sample(path, 3).dtype == np.uint8


def test_float_images_are_sampled_as_floats(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", load_digits().images[:60] / 16)
    path = train(tmp_path / "x.npy", epochs=1, likelihood="bernoulli", scale="learned")
    new = aldvae.sample(path, 3)
    assert new.shape == (3, 8, 8)
    assert new.dtype == np.float32
    assert 0 <= new.min() <= new.max() <= 1


def test_the_example_in_the_page_runs(table_run: TableRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "use.md").read_text(), re.DOTALL)
    shutil.copytree(table_run.path, tmp_path / "runs" / "people")
    shutil.copy(table_run.table, tmp_path / "people.csv")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["z"].shape == (300, 3)
    assert names["new"].shape == (100, 4)
