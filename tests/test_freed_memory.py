"""Freed memory stays with the process."""

from __future__ import annotations

import io
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from datamodules.freed_memory import keep_freed_memory
from datamodules.record import decode_rgb

# Two blocks of 12 MB at once are more than glibc keeps after it has freed blocks of that size.
SCRIPT = """
import resource
from datamodules.freed_memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        blocks = [b"x" * (12 << 20) for _ in range(2)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before = faults()
keep_freed_memory()
faults()
print(before, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives the memory back")
def test_no_page_faults_once_it_is_kept() -> None:
    root = Path(__file__).resolve().parents[1]
    result = subprocess.run([sys.executable, "-c", SCRIPT], cwd=root, capture_output=True, text=True, check=True)
    before, after = map(int, result.stdout.split())
    assert before > 1000
    assert after < before / 20


def test_whatever_decodes_an_image_keeps_it() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG")
    keep_freed_memory.cache_clear()
    decode_rgb(stream.getvalue(), "an image")
    assert keep_freed_memory.cache_info().currsize == 1
