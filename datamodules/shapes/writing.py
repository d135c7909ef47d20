"""What the writers of all raw formats share: checks of an order, and many processes."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import track

from phd.errors import UserError


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


def write_numbered(
    write: Callable[[int], None], samples: int, workers: int, description: str, chunksize: int = 16
) -> None:
    """Call `write` with 0 to `samples - 1`.

    Args:
        write: writes the files of one sample; at the top of a module if there are several processes.
        samples: how often.
        workers: processes.
        description: of the progress bar.
        chunksize: samples that a process fetches at once.
    """

    def results() -> Iterator[None]:
        if workers == 1:
            yield from map(write, range(samples))
            return
        # A forked process would inherit the locks of the parent's threads.
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield from pool.map(write, range(samples), chunksize=chunksize)

    for _ in track(results(), description=description, total=samples, console=Console(stderr=True)):
        pass
