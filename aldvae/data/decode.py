"""Decode many image files into one array file, with all cores; without torch, so that workers start at once."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import numpy as np
from PIL import Image, UnidentifiedImageError

from aldvae.utils.errors import ConfigError
from aldvae.utils.files import cache_lock
from aldvae.utils.progress import progress
from aldvae.utils.threads import usable_cores

GRAY = ("1", "L", "LA")
# Files that a worker decodes at once; after a kill, at most so many for each core are decoded again.
CHUNK_FILES = 512
# Less work than this, in seconds, is done before other processes have started.
POOL_SECONDS = 10.0


class ImageError(ValueError):
    """A file that cannot be used, and the remedy."""


@dataclass(frozen=True)
class ImageBytes:
    """The content of an image file; `name` is for errors."""

    name: str
    content: bytes

    def __str__(self) -> str:
        """The name."""
        return self.name


ImageFile = Path | ImageBytes


def read_image(path: ImageFile, resize: int | None) -> Image.Image:
    """Return the image in `path`, with `resize` as `resize` x `resize` pixels.

    Raises `ImageError` for one that is not an image, is damaged, or has more than 8 bits per channel.
    """
    try:
        with Image.open(path if isinstance(path, Path) else io.BytesIO(path.content)) as image:
            image.load()
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is not an image; remove it") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path} is damaged or truncated; repair or remove it") from error
    if image.mode.startswith(("I", "F")):
        raise ImageError(f"{path} has more than 8 bits per channel; save such images as a .npy in [0, 1]")
    if resize is None:
        return image
    # Indices into a palette cannot be interpolated.
    smooth = image if image.mode in GRAY else image.convert("RGB")
    return smooth.convert("L" if smooth.mode == "1" else smooth.mode).resize((resize, resize))


def read_pixels(
    files: Sequence[ImageFile], first: ImageFile, size: tuple[int, int], resize: int | None
) -> tuple[np.ndarray, bool]:
    """Return the images as uint8 (N, 3, H, W), and whether all are gray; `size` is width and height of `first`.

    Raises `ImageError` as `read_image` does, and for an image of another size.
    """
    width, height = size
    pixels = np.empty((len(files), 3, height, width), np.uint8)
    gray = True
    for row, path in zip(pixels, files, strict=True):
        image = read_image(path, resize)
        if image.size != size:
            problem = f"{path} is {image.width} x {image.height} where {first.name} is {width} x {height}"
            raise ImageError(f"{problem}; use --resize N to make all N x N")
        gray = gray and image.mode in GRAY
        row[:] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return pixels, gray


@dataclass(frozen=True, eq=False)
class _Job:
    """A chunk of files, and where its pixels belong in the file `target`."""

    files: tuple[Path, ...]
    first: Path
    size: tuple[int, int]
    resize: int | None
    target: Path
    offset: int
    number: int

    def __call__(self) -> bool:
        """Decode and write the chunk; return whether all images are gray."""
        pixels, gray = read_pixels(self.files, self.first, self.size, self.resize)
        with self.target.open("r+b") as file:
            file.seek(self.offset)
            file.write(pixels.data)
            file.flush()
            os.fsync(file.fileno())
        return gray


def decode_files(files: Sequence[Path], path: Path, option: str, resize: int | None, cores: int | None = None) -> None:
    """Decode `files` into the array file `path`, uint8 (N, C, H, W), unless it exists: C is 1 if all are gray, else 3.

    It uses `cores` processes, by default all cores. What a killed process has decoded is kept. Raises `ConfigError`,
    naming `option` and the file, as `read_pixels` does, and if the cache cannot be written.
    """
    with cache_lock(path):
        if path.exists():
            return
        try:
            _decode(files, path, resize, cores or usable_cores())
        except ImageError as error:
            raise ConfigError(option, str(error)) from error
        except OSError as error:
            raise ConfigError("cache_dir", f"{path} cannot be written: {error.strerror or error}") from error


def _decode(files: Sequence[Path], path: Path, resize: int | None, cores: int) -> None:
    partial, journal = path.with_suffix(".partial"), path.with_suffix(".journal")
    size = read_image(files[0], resize).size
    shape = (len(files), 3, size[1], size[0])
    if not partial.exists() or not journal.exists():
        journal.unlink(missing_ok=True)
        _write_header(partial, shape)
        journal.touch()
    start = partial.stat().st_size - int(np.prod(shape))
    done = _read_journal(journal)
    rows, row_bytes = range(0, len(files), CHUNK_FILES), int(np.prod(shape[1:]))
    jobs = [
        _Job(tuple(files[i : i + CHUNK_FILES]), files[0], size, resize, partial, start + i * row_bytes, number)
        for number, i in enumerate(rows)
        if number not in done
    ]
    with progress("decoding images", len(files)) as shown, journal.open("a") as log:
        shown(len(files) - sum(len(job.files) for job in jobs))
        for job, gray in _execute(jobs, min(cores, len(jobs))):
            done[job.number] = gray
            print(json.dumps([job.number, gray]), file=log, flush=True)
            shown(len(job.files))
    if all(done.values()):
        _keep_one_channel(partial)
    partial.replace(path)
    journal.unlink()


def _write_header(path: Path, shape: tuple[int, ...]) -> None:
    """Make an array file of zeros, which takes no space on the disk until it is written."""
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + int(np.prod(shape)))


def _read_journal(path: Path) -> dict[int, bool]:
    """Return the chunks that are done, and for each whether all its images are gray; a torn last line is dropped."""
    done = dict[int, bool]()
    for line in path.read_text().split("\n")[:-1]:
        try:
            number, gray = json.loads(line)
        except ValueError:
            continue
        done[int(number)] = bool(gray)
    return done


def _execute(jobs: Sequence[_Job], cores: int) -> Iterator[tuple[_Job, bool]]:
    """Execute the jobs in `cores` processes; yield each that is done, and what it returned."""
    if not jobs:
        return
    start = time.perf_counter()
    yield jobs[0], jobs[0]()
    left = dict.fromkeys(jobs[1:])
    worthwhile = (time.perf_counter() - start) * len(left) > POOL_SECONDS
    # A worker of a sweep may start no processes; the main process of a sweep has decoded its data before.
    if cores > 1 and worthwhile and not multiprocessing.current_process().daemon:
        try:
            for job, gray in _execute_in_pool(list(left), cores):
                del left[job]
                yield job, gray
        except BrokenProcessPool:
            # A worker was killed, or the main module is a script that cannot be imported again.
            pass
    for job in left:
        yield job, job()


def _execute_in_pool(jobs: Sequence[_Job], cores: int) -> Iterator[tuple[_Job, bool]]:
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn"), _die_with_parent) as pool:
        futures: dict[Future[bool], _Job] = {pool.submit(job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _die_with_parent() -> None:
    """Let this worker end when the process that started it is killed: it would wait for work forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _keep_one_channel(path: Path) -> None:
    """Rewrite an array file of gray images with one channel instead of three."""
    colour = np.load(path, mmap_mode="r")
    smaller = path.with_suffix(".gray")
    _write_header(smaller, (len(colour), 1, *colour.shape[2:]))
    with smaller.open("r+b") as file:
        file.seek(smaller.stat().st_size - colour.size // 3)
        for start in range(0, len(colour), CHUNK_FILES):
            file.write(np.ascontiguousarray(colour[start : start + CHUNK_FILES, :1]).data)
        file.flush()
        os.fsync(file.fileno())
    smaller.replace(path)
