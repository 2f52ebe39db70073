"""Bad data and nonsense options: exit code 2, one line with the option and the remedy, and no file."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from aldvae.cli import main
from aldvae.data import own
from tests.conftest import Cli

N = 40


class Bad(NamedTuple):
    """A bad input: `make` writes it into a folder and returns its path; the message has `option` and `problem`."""

    name: str
    make: Callable[[Path], Path]
    problem: str
    option: str = "--dataset"


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape)


def npy(x: object, name: str = "x.npy") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        np.save(folder / name, np.asarray(x))
        return folder / name

    return make


def npz(**arrays: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        np.savez(folder / "x.npz", **{name: np.asarray(value) for name, value in arrays.items()})  # type: ignore[arg-type]
        return folder / "x.npz"

    return make


def text(content: str | bytes, name: str = "x.csv") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return folder / name

    return make


def half(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    """Return a function that writes the first half of what `make` writes."""

    def truncated(folder: Path) -> Path:
        path = make(folder)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path

    return truncated


def table(frame: pd.DataFrame, name: str = "x.csv") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        if name.endswith(".csv"):
            frame.to_csv(folder / name, index=False)
        else:
            pytest.importorskip("pyarrow")
            frame.to_parquet(folder / name)
        return folder / name

    return make


def numbers(**more: object) -> pd.DataFrame:
    """Return a table of numbers in the columns a and b, and the columns `more`."""
    return pd.DataFrame({"a": random(N), "b": np.arange(N), **more})


def images(**content: Image.Image | bytes | None) -> Callable[[Path], Path]:
    """Return a function that makes a folder: ``cats__1_png`` is the file 1.png in cats, None an empty folder."""

    def make(folder: Path) -> Path:
        root = folder / "images"
        root.mkdir()
        for name, value in content.items():
            *parents, file = name.split("__")
            path = root.joinpath(*parents, file.replace("_", "."))
            path.parent.mkdir(parents=True, exist_ok=True)
            if value is None:
                path.mkdir()
            elif isinstance(value, bytes):
                path.write_bytes(value)
            else:
                value.save(path)
        return root

    return make


def with_values(x: np.ndarray, value: float, *position: int | slice) -> np.ndarray:
    x = x.copy()
    x[position] = value
    return x


GOOD = random(N, 4)
SMALL = Image.new("L", (8, 6), 90)
OBJECTS = np.array([{"a": 1}] * N, dtype=object)
ARRAYS = [
    Bad("too few labels", npz(x=GOOD, labels=np.arange(9)), "labels must be 40 whole numbers"),
    Bad("too many labels", npz(x=GOOD, labels=np.arange(41)), "labels must be 40 whole numbers"),
    Bad("fractions as labels", npz(x=GOOD, labels=random(N)), "one per sample, not 40 of float64"),
    Bad("labels in two columns", npz(x=GOOD, labels=np.ones((N, 2), int)), "not 40 x 2 of int64"),
    Bad("text as labels", npz(x=GOOD, labels=["a"] * N), "labels must be 40 whole numbers"),
    Bad("NaN", npy(with_values(GOOD, np.nan, 3, 1)), "NaN or infinite values, first in sample 3 (from 0); remove"),
    Bad("infinity", npy(with_values(GOOD, np.inf, 7, 0)), "NaN or infinite values, first in sample 7"),
    Bad("NaN in an image", npy(with_values(random(N, 8, 8), np.nan, 5, 1, 1)), "first in sample 5"),
    Bad("an array of text", npy([["a", "b"]] * N), "not real numbers; convert it"),
    Bad("an array of objects", npy(OBJECTS), "Python objects, which are never loaded; write it again"),
    Bad("objects in an npz", npz(x=OBJECTS), "Python objects, which are never loaded; write it again"),
    Bad("complex numbers", npy(GOOD + 1j), "not real numbers; convert it"),
    Bad("dates", npy(np.arange(N).astype("datetime64[D]")), "not real numbers; convert it"),
    Bad("a single number", npy(3.0), "x is a single number; reshape it to N x D"),
    Bad("one dimension", npy(random(N)), "x is 40; reshape it to N x D"),
    Bad("six dimensions", npy(random(N, 2, 2, 2, 2, 2)), "x is 40 x 2 x 2 x 2 x 2 x 2; reshape it"),
    Bad("no rows", npy(random(0, 4)), "x is 0 x 4; reshape it"),
    Bad("no columns", npy(random(N, 0)), "x is 40 x 0; reshape it"),
    Bad("one vector", npy(random(1, 4)), "1 sample is too few to find a size; 10 or more are needed"),
    Bad("one image", npy(random(1, 8, 8)), "1 sample is too few to find a size; 10 or more are needed"),
    Bad("nine samples", npy(random(9, 4)), "9 samples are too few to find a size; 10 or more are needed"),
    Bad("a constant column", npy(with_values(GOOD, 2.0, slice(None), 1)), "column 1 (from 0) is constant; remove it"),
    Bad("constant columns", npy(np.ones((N, 9))), "columns 0, 1, 2, 3, 4 and 4 more (from 0) are constant; remove"),
    Bad("negative pixels", npy(random(N, 8, 8) - 0.5), "must hold numbers in [0, 1], not -0.49"),
    Bad("pixels above 1", npy(random(N, 8, 8) * 255), "must hold numbers in [0, 1]"),
    Bad("pixels above 255", npy(np.full((N, 8, 8), 300)), "must hold whole numbers in 0..255, not 300.0 to"),
    Bad("negative whole pixels", npy(np.full((N, 8, 8), -1)), "must hold whole numbers in 0..255"),
    Bad("black pixels", npy(np.arange(N * 64).reshape(N, 8, 8) % 2), "whole numbers up to 1, which is black in 0..255"),
    Bad("huge numbers", npy(GOOD * 1e300), "numbers too large to standardise; scale them down"),
    Bad("half an npz", half(npz(x=random(N, 50))), "is damaged"),
    Bad("half an npy", half(npy(random(N, 50))), "is damaged"),
    Bad("an empty npz", text(b"", "x.npz"), "is damaged"),
    Bad("text as npy", text("1,2\n3,4\n", "x.npy"), "is damaged"),
    Bad("no array x", npz(y=GOOD, z=GOOD), "has no array x (it holds: y, z); save the samples as x"),
]
TABLES = [
    Bad("a text column", table(numbers(city=["Rome"] * N)), "text in column city: drop it with frame.select_dtypes"),
    Bad("text columns", table(numbers(c=["r"] * N, d=["s"] * N)), "text in columns c, d: drop it"),
    Bad("text to encode", table(numbers(c=["r", "s"] * (N // 2))), "encode it with pandas.get_dummies(frame)"),
    Bad("dates as text", table(numbers(when=["2026-01-31"] * N)), "text in column when"),
    Bad("missing cells", table(numbers(c=[None, 1.5] * (N // 2))), "row 1 of column c is empty or not a number (20"),
    Bad("a column of nothing", table(numbers(c=[None] * N)), "row 1 of column c is empty or not a number"),
    Bad("a mistyped cell", table(numbers(c=[*range(N - 1), "1O"])), "row 40 of column c is empty or not a number"),
    Bad("text and gaps", table(numbers(c=["r"] * N, d=[None, 1.5] * (N // 2))), "frame.fillna(frame.median())"),
    Bad("infinite cells", table(numbers(c=[np.inf, *range(N - 1)])), "NaN or infinite values, first in sample 0"),
    Bad("a constant column by name", table(numbers(c=[7] * N)), "one value only in column c: drop with frame.drop"),
    Bad("semicolons", text("a;b\n" + "1;2\n" * N), "text in column a;b"),
    Bad("a header alone", text("a,b\n"), "holds no rows"),
    Bad("an empty csv", text(""), "cannot be read as a table"),
    Bad("rows of different lengths", text("a,b\n1,2\n3,4,5\n"), "cannot be read as a table"),
    Bad("bytes as csv", text(bytes(range(128, 256)) * 9), "cannot be read as a table"),
    Bad("an index without a name", text(",a\n0,1\n1,2\n"), "the first column has no name; name it or"),
    Bad("missing labels", table(numbers(labels=[None, "b"] * (N // 2))), "labels are missing, first in sample 0"),
    Bad("fractions as labels in a table", table(numbers(labels=random(N))), "labels must be whole numbers or text"),
    Bad("labels alone", table(numbers(labels=[1] * N)[["labels"]]), "holds no columns of values"),
    Bad("half a parquet", half(table(numbers(), "x.parquet")), "cannot be read as a table"),
    Bad("times", table(numbers(t=pd.date_range("2026", periods=N)), "x.parquet"), "times in column t: drop them with"),
]
FILES = [
    Bad("an empty folder", images(), "holds no images; name another folder"),
    Bad("hidden files alone", images(_DS_Store=b""), "holds no images"),
    Bad("notes among images", images(a_png=SMALL, notes_txt=b"hello"), "notes.txt is not an image; remove it"),
    Bad("an empty file", images(a_png=SMALL, b_png=b""), "b.png is not an image; remove it"),
    Bad("half an image", images(a_png=SMALL, b_png=b"\x89PNG\r\n\x1a\n" + b"\0" * 20), "b.png"),
    Bad("folders and files", images(cats__a_png=SMALL, b_png=SMALL), "both class folders and files such as b.png; use"),
    Bad("an empty class", images(cats__a_png=SMALL, dogs=None), "the class folder dogs is empty; remove it"),
    Bad(
        "two sizes",
        images(a_png=SMALL, b_png=SMALL.resize((9, 9))),
        "b.png is 9 x 9 where a.png is 8 x 6; use",
    ),
    Bad("16 bits", images(a_png=Image.fromarray(np.ones((8, 8), np.uint16))), "more than 8 bits per channel; save"),
    Bad("an unknown suffix", text("", "x.xlsx"), "is neither a folder of images nor one of .npz, .npy, .csv"),
    Bad("no such file", lambda folder: folder / "nowhere.npz", "does not exist; name another path"),
    Bad("a damaged or unreadable h5ad", text(b"", "x.h5ad"), "x.h5ad"),
]
OPTIONS: dict[str, tuple[str, str]] = {
    "--clusters=1": ("--clusters", "must be 2 or more"),
    "--clusters=8": ("--clusters", "8 is too many for the 8 samples behind the Silhouette score; use 7 or fewer"),
    "--clusters=many": ("--clusters", "should be a valid integer"),
    "--validation=0": ("--validation", "must be between 0 and 1"),
    "--validation=1.5": ("--validation", "must be between 0 and 1"),
    "--validation=nan": ("--validation", "must be between 0 and 1"),
    "--validation=0.001": ("--validation", "0.001 splits 40 samples"),
    "--validation=0.99": ("--validation", "0.99 splits 40 samples"),
    "--epochs=0": ("--epochs", "must be 1 or more"),
    "--epochs=1.5": ("--epochs", "should be a valid integer"),
    "--limit=0": ("--limit", "0 samples are too few to find a size; 10 or more"),
    "--limit=5": ("--limit", "5 samples are too few to find a size; 10 or more are needed"),
    "--limit=41": ("--limit", "41 is more than the 40 samples"),
    "--batch-size=0": ("--batch-size", "must be 1 or more"),
    "--fid-samples=1": ("--fid-samples", "must be 2 or more"),
    "--fid-samples=9": ("--fid-samples", "9 is more than the 8 validation samples; use 8 or less"),
    "--silhouette-samples=9": ("--silhouette-samples", "has no effect without clusters; add --clusters"),
    "--silhouette-on=means": ("--silhouette-on", "has no effect without clusters; add --clusters"),
    "--silhouette-groups=classes": ("--silhouette-groups", "has no effect without clusters; add --clusters"),
    "--rule=paper": (
        "--clusters",
        "is needed: --rule paper decides on the Silhouette score; for example",
    ),
    "--protocol=paper": ("--clusters", "is needed"),
    "--protocol=authors": ("--clusters", "is needed"),
    "--resize=8": ("--resize", "only with a folder of images; remove it"),
    "--lr=0": ("--lr", "must be a positive number"),
    "--lr=nan": ("--lr", "must be a positive number"),
    "--beta=-1": ("--beta", "must be zero or a positive number"),
    "--beta=0": ("--beta", "must be above 0 for the consolidate rule"),
    "--warmup=1": ("--warmup", "must be 0 or more and less than 1"),
    "--seed=-1": ("--seed", "must be 0 or more"),
    "--init-dim=1": ("--init-dim", "must be 2 or more"),
    "--init-dim=99999999": ("--init-dim", "must be 65536 or less"),
    "--min-dim=0": ("--min-dim", "must be 2 or more"),
    "--network=conv": ("--network", "conv needs images of at least 16 x 16 pixels, not (4,); use mlp"),
    "--likelihood=bernoulli": ("--likelihood", "not for vectors; use gaussian"),
    "--standardise": ("--standardise", "remove it"),
    "--fid-features=classifier": ("--fid-features", "use pca"),
    "--fid-features=colours": ("--fid-features", "is not known"),
    "--device=cuda:99": ("--device", "is not available"),
    "--threads=0": ("--threads", "must be 1 to 1024"),
    "--no-such-option": ("--no-such-option", "o such option"),
}


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., str]]:
    """Return a function that runs `aldvae ARGS`, asserts that it is refused in one line, and returns this line."""
    terminate = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")

    def run(*arguments: str | Path) -> str:
        own.load.cache_clear()
        monkeypatch.setattr(sys, "argv", ["aldvae", *map(str, arguments), "--results-dir=runs"])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert ended.value.code == 2, printed.err
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        assert line.startswith("aldvae: ")
        assert not Path("runs").exists()
        return line

    yield run
    signal.signal(signal.SIGTERM, terminate)


@pytest.mark.parametrize("bad", [*ARRAYS, *TABLES, *FILES], ids=lambda bad: bad.name.replace(" ", "-"))
def test_bad_data_are_refused_in_one_line(tmp_path: Path, refused: Callable[..., str], bad: Bad) -> None:
    line = refused("adaptive", "--dataset", bad.make(tmp_path))
    assert bad.option in line
    assert bad.problem in line


@pytest.mark.parametrize("argument", OPTIONS)
def test_a_nonsense_option_is_refused_in_one_line(tmp_path: Path, refused: Callable[..., str], argument: str) -> None:
    option, problem = OPTIONS[argument]
    line = refused("adaptive", "--dataset", npy(GOOD)(tmp_path), argument)
    assert option in line
    assert problem in line


@pytest.mark.parametrize("bad", [ARRAYS[0], TABLES[0], FILES[4]], ids=lambda bad: bad.name.replace(" ", "-"))
def test_a_process_with_bad_data_prints_no_traceback(cli: Cli, tmp_path: Path, bad: Bad) -> None:
    result = cli("adaptive", "--dataset", bad.make(tmp_path))
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert bad.problem in result.stderr


def test_there_are_sixty_and_more() -> None:
    assert len({bad.name for bad in (*ARRAYS, *TABLES, *FILES)}) + len(OPTIONS) >= 60
