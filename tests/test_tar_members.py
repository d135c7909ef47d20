"""Where the members of a shard lie, and that a tar is read to its true end."""

import io
import tarfile

import pytest

from datamodules.shards import members_of
from phd.errors import UserError


def test_members_of_refuses_doubles_and_damage(tmp_path):
    path = tmp_path / "double.tar"
    with tarfile.open(path, "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("a.jpg"), io.BytesIO())
    with pytest.raises(UserError, match=r"holds a\.jpg twice"):
        members_of(path)
    path.write_bytes(b"no tar" * 200)
    with pytest.raises(UserError, match="cannot be read as a tar"):
        members_of(path)


def test_members_of_refuses_a_tar_that_breaks_off(tmp_path):
    path = tmp_path / "whole.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("a.jpg", "a.json"):
            info = tarfile.TarInfo(name)
            info.size = 100
            archive.addfile(info, io.BytesIO(bytes(100)))
    whole = path.read_bytes()
    assert members_of(path) == {"a": {"jpg": (512, 100), "json": (1536, 100)}}
    # In a header, in a member, in its padding, and where only the block of zeros is missing.
    for length in (100, 600, 700, 1024, 1100, 1600, 2047, 2048, 2100):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"whole\.tar: cannot be read as a tar .*; convert the raw data again"):
            members_of(path)
    # tarfile takes a damaged header in the middle for the end.
    path.write_bytes(whole[:1024] + b"\xff" * 512 + whole[1536:])
    with pytest.raises(UserError, match=r"whole\.tar: .*is cut short or damaged at byte 1024"):
        members_of(path)
