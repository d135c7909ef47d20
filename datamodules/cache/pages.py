"""Memory for large batches."""

from __future__ import annotations

import contextlib
import mmap

import torch
from torch import Tensor

# Smaller tensors come from memory that the process has already; larger ones are new pages each time.
LARGE = 8 << 20


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An empty tensor; a large one lies on huge pages where the system has them.

    The first touch of ordinary pages costs several times as much as reading a cached file into them.
    """
    size = dtype.itemsize * torch.Size(shape).numel()
    if size < LARGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(shape, dtype=dtype)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without huge pages
        pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=dtype).view(shape)
