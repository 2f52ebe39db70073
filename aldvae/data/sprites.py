"""SPRITES: 1,296 characters that walk, cast spells and slash, composed from the Liberated Pixel Cup's sprite sheets.

Pixel art has few colours, so sequences are cached as indices into a palette, which takes a third of the space. Cells
and frames are those of the dataset of Li and Mandt (Disentangled Sequential Autoencoder, 2018).
"""

from __future__ import annotations

import io
import shutil
import tempfile
import zlib
from math import prod
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image

from aldvae.data.cache import files_key
from aldvae.data.dataset import Samples
from aldvae.data.directory import data_directory, download_into
from aldvae.utils.errors import ConfigError
from aldvae.utils.files import write_cached

CREDIT: Final = (
    "Sprites: Liberated Pixel Cup / Universal LPC spritesheet (its contributors, opengameart.org), "
    "CC BY-SA 3.0 and GPL 3.0"
)

FOLDER: Final = "Sprites"
# The repository of the dataset's authors, at the commit that holds these sheets.
ARCHIVE: Final = "https://github.com/YingzhenLi/Sprites/archive/3ce4048c5227802bd8f1888e293fd3afdba91c0c.zip"
# The layers from bottom to top, and the sheets used of each, NAME/NUMBER.png. No character uses the other sheets (body
# 6, hair 6-9 and so on, and all eyes).
LAYERS: Final[tuple[tuple[str, tuple[int, ...]], ...]] = (
    ("body", (0, 1, 2, 3, 4, 5)),
    ("bottomwear", (0, 1, 2, 3, 4, 5)),
    ("topwear", (0, 1, 2, 3, 4, 5)),
    ("hair", (0, 1, 2, 3, 4, 5)),
    ("shoes", (1,)),
)
ROWS: Final = 21
COLUMNS: Final = 13
SIZE: Final = 64

DIRECTIONS: Final = ("front", "left", "right")
# The first cell (COLUMNS * row + column) of each direction, and the frames as offsets from it.
ACTIONS: Final[dict[str, tuple[tuple[int, int, int], tuple[int, ...]]]] = {
    "walk": ((131, 118, 144), (7, 0, 1, 2, 3, 4, 5, 6)),
    "spellcard": ((26, 13, 39), (0, 1, 2, 3, 4, 5, 4, 6)),
    "slash": ((182, 169, 195), (0, 1, 2, 3, 4, 5, 4, 0)),
}
LABELS: Final[tuple[str, ...]] = tuple(f"{action} {direction}" for action in ACTIONS for direction in DIRECTIONS)
FRAMES: Final = 8
# The cell of every frame of every label, (9 * 8).
CELLS: Final = np.array([start + step for starts, steps in ACTIONS.values() for start in starts for step in steps])

N_CHARACTERS: Final = prod(len(numbers) for _, numbers in LAYERS)
N_TRAIN: Final = 1000
# With numpy's legacy generator, whose numbers never change, this seed gives the split of the original dataset.
_ORDER_SEED: Final = 423


def compose(sheets: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all sequences, composed from the folder `sheets`: palette indices, the palette, and the labels.

    Indices are uint8 (11664, 8, 64, 64); the palette is uint8 (at most 256, 3) and starts with black; labels are int64
    (11664,) and index `LABELS`. The index of a sequence is 9 * character + label. Characters are counted with hair
    changing fastest, then top, bottom and body. Raises `ConfigError` for a sheet that is missing, damaged or of another
    size.
    """
    layers = [np.stack([_read(sheets / name / f"{number}.png") for number in numbers]) for name, numbers in LAYERS]
    palette = _Palette()
    indices = np.empty((N_CHARACTERS, len(CELLS), SIZE * SIZE), np.uint8)
    for cell in np.unique(CELLS):
        canvases = np.zeros((1, SIZE * SIZE), np.uint16)
        for layer in layers:
            canvases = palette.paint(canvases, layer[:, cell])
        # The original sheets have 190 colours together; sheets with more than fit a byte are not the original.
        if len(palette.colours) > 256:
            raise ConfigError("data_dir", f"{sheets} holds sheets with too many colours; {_remedy(sheets)}")
        indices[:, cell == CELLS] = canvases[:, None]
    labels = np.tile(np.arange(len(LABELS)), N_CHARACTERS)
    return indices.reshape(-1, FRAMES, SIZE, SIZE), palette.colours, labels


def files(data_dir: Path | None, cache_dir: Path) -> list[Path]:
    """Return the paths of the sheets that characters use; downloads all sheets if their folder is missing.

    Raises `ConfigError` if they cannot be downloaded.
    """
    directory = data_directory(data_dir, cache_dir)
    if not (directory / FOLDER).exists():
        download_into(directory, FOLDER, _download)
    return [directory / FOLDER / name / f"{number}.png" for name, numbers in LAYERS for number in numbers]


def load(data_dir: Path | None, cache_dir: Path) -> Samples:
    """Return the sequences of the 1,000 training characters, uint8 (9000, 3, 8, 64, 64), and their labels.

    They are composed once and cached in compact form. Raises `ConfigError` for sheets that are missing or damaged.
    """
    sheets = files(data_dir, cache_dir)
    root = sheets[0].parents[1]
    if missing := [sheet for sheet in sheets if not sheet.exists()]:
        raise ConfigError("data_dir", f"{missing[0]} is missing; {_remedy(root)}")
    path = cache_dir / "samples" / f"sprites-{files_key(root, sheets)}.npz"
    composed = read_cache(path)
    if composed is None:
        composed = compose(root)
        write_cache(path, *composed)
    indices, palette, labels = composed
    characters = character_order()[:N_TRAIN]
    which = (len(LABELS) * characters[:, None] + np.arange(len(LABELS))).ravel()
    pixels = torch.from_numpy(sequences(indices, palette, which))
    return Samples(pixels, torch.from_numpy(labels[which]), LABELS)


def _download(into: str) -> None:
    """Download the archive of the authors' repository and unpack it as `FOLDER` in the folder `into`."""
    from torchvision.datasets.utils import download_and_extract_archive

    with tempfile.TemporaryDirectory() as temporary:
        download_and_extract_archive(ARCHIVE, temporary)
        (unpacked,) = (path for path in Path(temporary).iterdir() if path.is_dir())
        shutil.copytree(unpacked, Path(into) / FOLDER)


def sequences(indices: np.ndarray, palette: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Return the sequences with the indices `which` (n,) in colour: uint8 (n, 3, 8, 64, 64), channels before time."""
    selected = indices[which]
    pixels = np.empty((len(selected), 3, *selected.shape[1:]), np.uint8)
    # bytes.translate is four times as fast as numpy's indexing, which first converts every index to 64 bits.
    content = selected.tobytes()
    for channel in range(3):
        table = palette[:, channel].tobytes().ljust(256, b"\0")
        pixels[:, channel] = np.frombuffer(content.translate(table), np.uint8).reshape(selected.shape)
    return pixels


def character_order() -> np.ndarray:
    """Return the characters (1296,) in the order of the split: first `N_TRAIN` for training, then 296 for testing."""
    return np.random.RandomState(_ORDER_SEED).permutation(N_CHARACTERS)


def write_cache(path: Path, indices: np.ndarray, palette: np.ndarray, labels: np.ndarray) -> None:
    """Write the result of `compose` to `path`, compressed."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, indices=indices, palette=palette, labels=labels)
    write_cached(path, buffer.getvalue())


def read_cache(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return what `write_cache` wrote to `path`; None if there is no such file or it is damaged."""
    try:
        # We open the file because numpy, if it opens a damaged one, does not close it.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return file["indices"], file["palette"], file["labels"]
    except (OSError, EOFError, KeyError, ValueError, RuntimeError, BadZipFile, zlib.error):
        return None


class _Palette:
    """The colours seen so far, numbered in order of appearance, black first."""

    def __init__(self) -> None:
        self._numbers = {0: 0}

    @property
    def colours(self) -> np.ndarray:
        """All colours, uint8 (K, 3)."""
        packed = np.array(list(self._numbers), np.uint32)[:, None]
        return (packed >> np.array([16, 8, 0], np.uint32)).astype(np.uint8)

    def paint(self, canvases: np.ndarray, sheets: np.ndarray) -> np.ndarray:
        """Paint each cell of `sheets` (S, P, 4) on each of the `canvases` (N, P).

        Returns uint16 (N * S, P), with the sheet changing fastest.
        """
        painted = np.repeat(canvases[:, None], len(sheets), axis=1)
        for number, sheet in enumerate(sheets):
            alpha = sheet[:, 3]
            # Only a few hundred pixels are semi-transparent; opaque ones need no blending.
            opaque, sheer = alpha == 255, (alpha > 0) & (alpha < 255)
            painted[:, number, opaque] = self._number(sheet[opaque, :3])
            painted[:, number, sheer] = self._number(_over(self.colours[canvases[:, sheer]], sheet[sheer]))
        return painted.reshape(-1, canvases.shape[1])

    def _number(self, colours: np.ndarray) -> np.ndarray:
        """Return the numbers (...) of `colours` (..., 3); new colours get the next numbers."""
        packed = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        distinct, inverse = np.unique(packed, return_inverse=True)
        numbers = [self._numbers.setdefault(int(colour), len(self._numbers)) for colour in distinct]
        return np.array(numbers, np.uint16)[inverse.reshape(packed.shape)]  # numpy 1 returns it flat


def _over(below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Return `above` (P, 4) blended over the opaque colours `below` (N, P, 3), rounded: uint8 (N, P, 3)."""
    alpha = above[:, 3:].astype(np.uint32)
    return ((above[:, :3] * alpha + below * (255 - alpha) + 127) // 255).astype(np.uint8)


def _read(path: Path) -> np.ndarray:
    """Return the cells of a sheet as uint8 (ROWS * COLUMNS, SIZE * SIZE, 4)."""
    remedy = _remedy(path.parent.parent)
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGBA"))
    except FileNotFoundError as error:
        raise ConfigError("data_dir", f"{path} is missing; {remedy}") from error
    except PermissionError as error:
        raise ConfigError("data_dir", f"{path} cannot be read: permission denied; check its permissions") from error
    # Pillow raises any of these for a damaged PNG, depending on where the damage is.
    except (OSError, SyntaxError, ValueError) as error:
        raise ConfigError("data_dir", f"{path} is not a readable image; {remedy}") from error
    if pixels.shape != (ROWS * SIZE, COLUMNS * SIZE, 4):
        size, expected = f"{pixels.shape[1]}x{pixels.shape[0]}", f"{COLUMNS * SIZE}x{ROWS * SIZE}"
        raise ConfigError("data_dir", f"{path} is {size}, not {expected}; {remedy}")
    cells = pixels.reshape(ROWS, SIZE, COLUMNS, SIZE, 4).swapaxes(1, 2)
    return cells.reshape(ROWS * COLUMNS, SIZE * SIZE, 4)


def _remedy(sheets: Path) -> str:
    return f"delete {sheets} to have it downloaded again"
