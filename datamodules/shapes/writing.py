"""What the writers of all raw formats share: checks of an order, and many processes."""

import io
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from phd.errors import UserError

JPEG_QUALITY = 92
LEAST_SECONDS, MOST_SECONDS = 2.0, 600.0
Result = TypeVar("Result")


def check_order(out: Path, samples: int, seed: int, workers: int) -> None:
    """Check what is asked for, and make the folder.

    Raises:
        UserError: `out` is a file or holds something, or a number is out of range.
    """
    for name, value, least in (("samples", samples, 1), ("seed", seed, 0), ("workers", workers, 1)):
        if value < least:
            raise UserError(f"{name} is {value}: give a number of at least {least}")
    if out.is_file():
        raise UserError(f"{out} is a file: name a folder that does not exist yet")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: name another folder, or delete it first")
    out.mkdir(parents=True, exist_ok=True)


def numbered(
    make: Callable[[int], Result], samples: int, workers: int, description: str, chunksize: int = 16
) -> Iterator[Result]:
    """Call `make` with 0 to `samples - 1` and yield what it returns, in this order.

    Args:
        make: makes one sample; at the top of a module if there are several processes.
        samples: how often.
        workers: processes.
        description: of the progress bar.
        chunksize: samples that a process fetches at once.
    """

    def results() -> Iterator[Result]:
        if workers == 1:
            yield from map(make, range(samples))
            return
        # A forked process would inherit the locks of the parent's threads.
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield from pool.map(make, range(samples), chunksize=chunksize)

    yield from track(results(), description=description, total=samples, console=Console(stderr=True))


def write_numbered(
    write: Callable[[int], None], samples: int, workers: int, description: str, chunksize: int = 16
) -> None:
    """Call `write`, which writes the files of one sample, with 0 to `samples - 1`; see `numbered`."""
    for _ in numbered(write, samples, workers, description, chunksize):
        pass


def check_seconds(seconds: tuple[float, float]) -> None:
    """Check the shortest and the longest duration of a clip.

    Raises:
        UserError: They are out of range or out of order.
    """
    shortest, longest = seconds
    if not LEAST_SECONDS <= shortest <= longest <= MOST_SECONDS:
        raise UserError(
            f"seconds are {shortest:g} to {longest:g}: give two numbers from {LEAST_SECONDS:g} to {MOST_SECONDS:g}, "
            f"the smaller one first"
        )


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """An RGB image `(height, width, 3)` as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name and rename it, so that it is there whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
