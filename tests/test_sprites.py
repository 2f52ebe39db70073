from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aldvae.data import sprites
from aldvae.data.sprites import LABELS, character_order, compose, read_cache, sequences, write_cache
from aldvae.utils.errors import ConfigError

Composed = tuple[np.ndarray, np.ndarray, np.ndarray]

# Row and columns of the eight frames, counted by hand on the sheets.
WALK = (8, 1, 2, 3, 4, 5, 6, 7)
SPELLCARD = (0, 1, 2, 3, 4, 5, 4, 6)
SLASH = (0, 1, 2, 3, 4, 5, 4, 0)
PLACES = {
    "walk front": (10, WALK),
    "walk left": (9, WALK),
    "walk right": (11, WALK),
    "spellcard front": (2, SPELLCARD),
    "spellcard left": (1, SPELLCARD),
    "spellcard right": (3, SPELLCARD),
    "slash front": (14, SLASH),
    "slash left": (13, SLASH),
    "slash right": (15, SLASH),
}


@pytest.fixture(scope="module")
def composed(data_dir: Path) -> Composed:
    return compose(data_dir / "Sprites")


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write sheets of one colour per layer and number; from a column on, each layer covers the layers below."""
    folder = tmp_path_factory.mktemp("synthetic") / "Sprites"
    for layer, name in enumerate(("body", "bottomwear", "topwear", "hair")):
        for number in range(6):
            pixels = np.zeros((1344, 832, 4), np.uint8)
            cells = pixels.reshape(21, 64, 13, 64, 4)
            cells[:, (30, 62), :, 10 * (layer + 1) :] = (100, 50 * layer, 40 * number, 255)
            _save(folder / name / f"{number}.png", pixels)
    shoes = np.zeros((1344, 832, 4), np.uint8)
    cells = shoes.reshape(21, 64, 13, 64, 4)
    cells[:, 30, :, 50:] = (200, 201, 202, 255)
    cells[:, 62, :, :20] = (200, 0, 0, 128)
    cells[9, 0, 1, 0] = (1, 2, 3, 255)
    _save(folder / "shoes" / "1.png", shoes)
    return folder


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)


def _frames(sheets: Path, character: tuple[int, int, int, int], row: int, columns: tuple[int, ...]) -> np.ndarray:
    strip = Image.new("RGBA", (64 * 13, 64), "black")
    for name, number in zip(("body", "bottomwear", "topwear", "hair", "shoes"), (*character, 1), strict=True):
        with Image.open(sheets / name / f"{number}.png") as sheet:
            layer = sheet.crop((0, 64 * row, 64 * 13, 64 * row + 64)).convert("RGBA")
        strip = Image.alpha_composite(strip, layer)
    boxes = [(64 * column, 0, 64 * column + 64, 64) for column in columns]
    return np.stack([np.asarray(strip.crop(box).convert("RGB")).transpose(2, 0, 1) for box in boxes], axis=1)


def _lit(composed: Composed, label: str, frame: int) -> np.ndarray:
    """Return the mask (64, 64) of pixels where the first character is not black."""
    indices, palette, _ = composed
    colours = sequences(indices, palette, np.array([LABELS.index(label)]))[0, :, frame]
    return np.asarray(colours.any(0))


def test_labels_count_three_directions_per_action() -> None:
    assert list(LABELS) == list(PLACES)


def test_every_character_has_every_label_once(composed: Composed) -> None:
    indices, palette, labels = composed
    assert (indices.dtype.name, *indices.shape) == ("uint8", 11664, 8, 64, 64)
    assert (palette.dtype.name, *palette.shape) == ("uint8", 190, 3)
    assert not palette[0].any()
    assert len(np.unique(palette, axis=0)) == len(palette)
    assert int(indices.max()) == len(palette) - 1
    assert (labels.dtype.name, labels.tolist()) == ("int64", list(range(9)) * 1296)
    assert len({hash(sequence.tobytes()) for sequence in indices}) == 11664


# Between them, these characters use sheets 0 and 5 of each layer, and the semi-transparent top 4.
@pytest.mark.parametrize("character", [(0, 0, 0, 0), (2, 1, 3, 4), (3, 4, 4, 1), (5, 5, 5, 5)])
def test_frames_are_those_that_pillow_composes(
    composed: Composed, data_dir: Path, character: tuple[int, int, int, int]
) -> None:
    indices, palette, _ = composed
    body, bottom, top, hair = character
    first = 9 * (216 * body + 36 * bottom + 6 * top + hair)
    for offset, (row, columns) in enumerate(PLACES.values()):
        got = sequences(indices, palette, np.array([first + offset]))[0]
        expected = _frames(data_dir / "Sprites", character, row, columns)
        np.testing.assert_array_equal(got, expected, err_msg=LABELS[offset])


def test_characters_face_in_the_direction_of_their_label(composed: Composed) -> None:
    # The slashing arm reaches forward: in profile far to the facing side and not behind the back.
    left, right = (np.flatnonzero(_lit(composed, f"slash {side}", 4).any(0)) for side in ("left", "right"))
    assert left[0] < 16 < right[0]
    assert left[-1] < 48 < right[-1]
    # Seen from the front the spread arms are symmetric; in profile they are not.
    front, profile = (_lit(composed, f"spellcard {side}", 4) for side in ("front", "left"))
    assert (front != front[:, ::-1]).mean() < 0.02 < (profile != profile[:, ::-1]).mean()


def test_left_and_right_are_mirrored_not_equal(composed: Composed) -> None:
    for frame in range(8):
        left, right = (_lit(composed, f"walk {side}", frame) for side in ("left", "right"))
        assert (left != right).sum() > 3 * (left[:, ::-1] != right).sum()


def test_only_slashing_ends_where_it_began(composed: Composed) -> None:
    indices, _, labels = composed
    same = (indices[:, 0] == indices[:, 7]).all((1, 2))
    assert same[labels >= 6].all()
    assert not same[labels < 6].any()


def test_later_layers_cover_earlier_ones(synthetic: Path) -> None:
    indices, palette, labels = compose(synthetic)
    for body, bottom, top, hair in product((0, 2, 5), repeat=4):
        sequence = 9 * (216 * body + 36 * bottom + 6 * top + hair) + 4
        row = [[100, 50 * layer, 40 * number] for layer, number in enumerate((body, bottom, top, hair))]
        expected = np.array([[0, 0, 0], *row, [200, 201, 202]]).repeat([10, 10, 10, 10, 10, 14], axis=0)
        np.testing.assert_array_equal(palette[indices[sequence, 3, 30]], expected)
        # Half-transparent red on black, and on the body: 128/255 of 200, and that plus 127/255 of what is below.
        assert palette[indices[sequence, 3, 62, 5]].tolist() == [100, 0, 0]
        assert palette[indices[sequence, 3, 62, 15]].tolist() == [150, 0, round(40 * body * 127 / 255)]
    # Only the cell in row 9, column 1 has this pixel: the second frame of walking left.
    marked = np.argwhere((palette[indices[:, :, 0, 0]] == (1, 2, 3)).all(-1))
    assert set(labels[marked[:, 0]]) == {LABELS.index("walk left")}
    assert (len(marked), set(marked[:, 1])) == (1296, {1})


def test_sequences_have_the_requested_order() -> None:
    random = np.random.default_rng(0)
    indices = random.integers(0, 5, (4, 8, 64, 64)).astype(np.uint8)
    palette = random.integers(0, 256, (5, 3)).astype(np.uint8)
    got = sequences(indices, palette, np.array([3, 0, 3]))
    assert (got.dtype.name, *got.shape) == ("uint8", 3, 3, 8, 64, 64)
    for number, source in enumerate((3, 0, 3)):
        np.testing.assert_array_equal(got[number].transpose(1, 2, 3, 0), palette[indices[source]])


def test_the_order_of_characters_never_changes() -> None:
    order = character_order()
    assert sorted(order) == list(range(1296))
    assert order[:5].tolist() == [1116, 1135, 17, 469, 1293]
    assert order[sprites.N_TRAIN :][:3].tolist() == [884, 1285, 252]
    np.testing.assert_array_equal(order, character_order())


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def _resize(path: Path) -> None:
    _save(path, np.zeros((1344, 768, 4), np.uint8))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (Path.unlink, "is missing"),
        (_truncate, "is not a readable image"),
        (lambda path: path.write_text("<html>not found</html>"), "is not a readable image"),
        (_resize, "is 768x1344, not 832x1344"),
    ],
)
@pytest.mark.parametrize("name", ["body/0.png", "shoes/1.png"])
def test_an_invalid_sheet_is_refused(
    synthetic: Path, tmp_path: Path, name: str, damage: Callable[[Path], object], problem: str
) -> None:
    sheets = tmp_path / "Sprites"
    for path in synthetic.glob("*/*.png"):
        (sheets / path.parent.name).mkdir(parents=True, exist_ok=True)
        (sheets / path.parent.name / path.name).write_bytes(path.read_bytes())
    damage(sheets / name)
    with pytest.raises(ConfigError) as caught:
        compose(sheets)
    assert str(caught.value) == f"--data-dir {sheets / name} {problem}; delete {sheets} to have it downloaded again"


def test_sheets_of_too_many_colours_are_refused(synthetic: Path, tmp_path: Path) -> None:
    sheets = tmp_path / "Sprites"
    for name in ("body", "bottomwear", "topwear", "hair"):
        (sheets / name).mkdir(parents=True)
        for number in range(6):
            (sheets / name / f"{number}.png").symlink_to(synthetic / name / f"{number}.png")
    noise = np.random.default_rng(0).integers(0, 256, (1344, 832, 4)).astype(np.uint8)
    noise[..., 3] = 255
    _save(sheets / "shoes" / "1.png", noise)
    with pytest.raises(ConfigError, match="too many colours; delete"):
        compose(sheets)


def test_the_cache_returns_what_was_written(tmp_path: Path) -> None:
    original = (np.arange(65536).astype(np.uint8).reshape(2, 8, 64, 64), np.eye(3, dtype=np.uint8), np.array([4, 7]))
    path = tmp_path / "samples" / "sprites.npz"
    assert read_cache(path) is None
    write_cache(path, *original)
    assert list(path.parent.iterdir()) == [path]
    restored = read_cache(path)
    assert restored is not None
    for array, expected in zip(restored, original, strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)


def test_a_damaged_cache_is_none(tmp_path: Path) -> None:
    path = tmp_path / "sprites.npz"
    write_cache(path, np.arange(32768).astype(np.uint8).reshape(1, 8, 64, 64), np.eye(3, dtype=np.uint8), np.zeros(1))
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[: len(whole) // 2], whole[:100] + bytes(20) + whole[120:], b"not a cache"):
        path.write_bytes(damaged)
        assert read_cache(path) is None
