"""Memory that a sample frees and the next one needs again."""

from __future__ import annotations

from functools import cache

# The largest block that moves glibc's limits is 32 MB.
LARGEST = 31 << 20


@cache
def keep_freed_memory() -> None:
    """Have the C library keep what samples free, once in each process; where it is not glibc, nothing happens.

    Given back to the system, the memory of a decoded image costs thousands of page faults when the next image needs it,
    up to a quarter of the time of a sample. glibc raises its limits when a large block is freed: blocks up to that size
    then come from the heap, which keeps twice as much (`man 3 mallopt`, M_MMAP_THRESHOLD).
    """
    bytearray(LARGEST)
