"""Tars that no writer of shards has made."""

import io
import json
import tarfile

import pytest
from raw_samples import write_raw_sa1b

from datamodules.convert import convert_sa1b
from datamodules.shards import MANIFEST, sha256
from datamodules.verify import verify
from datamodules.verify_tar import walk


@pytest.fixture
def shards(tmp_path):
    convert_sa1b(write_raw_sa1b(tmp_path / "raw", 3), tmp_path / "shards")
    return tmp_path / "shards"


def tar_of(shards):
    return shards / "shard-000000.tar"


def accept_size(shards):
    """Let the manifest agree with the size of the tar, so that only the tar itself is wrong."""
    manifest = json.loads((shards / MANIFEST).read_text())
    manifest["shards"][0]["bytes"] = tar_of(shards).stat().st_size
    (shards / MANIFEST).write_text(json.dumps(manifest))


def member(name, **more):
    info = tarfile.TarInfo(name)
    for attribute, value in more.items():
        setattr(info, attribute, value)
    return info


def append(shards, *members):
    """Append members of five bytes each, or none where they are no files."""
    with tarfile.open(tar_of(shards), "a:") as archive:
        for info in members:
            info.size = 5 if info.isreg() else 0
            archive.addfile(info, io.BytesIO(b"12345"[: info.size]))
    accept_size(shards)


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        (member("../evil.jpg"), "../evil.jpg: lies outside the folder"),
        (member("/etc/evil.jpg"), "/etc/evil.jpg: lies outside the folder"),
        (member("a/b.jpg"), "a/b.jpg: lies in another folder"),
        (member("a.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "a.jpg: is a link to /etc/passwd"),
        (member("a.jpg", type=tarfile.LNKTYPE, linkname="../x"), "a.jpg: is a link to ../x"),
        (member("a", type=tarfile.DIRTYPE), "a: is a folder"),
        (member("a.jpg", type=tarfile.FIFOTYPE), "a.jpg: is no file"),
        (member("sa_1.jpg"), "sa_1: sa_1.jpg is there twice"),
    ],
)
def test_a_member_that_no_shard_may_have(shards, info, problem):
    append(shards, info)
    report = verify(shards)
    assert len(report.problems) == 1  # its index and its samples are those that were written
    assert report.problems[0].startswith(f"shard-000000: {problem}")
    assert report.samples == 3


def test_a_sample_that_the_index_does_not_know(shards):
    append(shards, member("sa_9.jpg"), member("sa_9.json"))
    problems = verify(shards).problems
    assert problems[:2] == [
        "shard-000000: holds 4 samples where shards.json says 3",
        "shard-000000: shard-000000.index.json does not fit the tar: they differ at sa_9; is it older than the tar?",
    ]
    assert problems[2].startswith("shard-000000: sa_9: its JSON")
    assert problems[3] == "shards.json: says 3 samples, 4 were read"


def test_every_length_of_a_tar_is_noticed(shards):
    data = tar_of(shards).read_bytes()
    whole = walk(tar_of(shards))
    assert (list(whole[0]), whole[1]) == (["sa_0", "sa_1", "sa_2"], [])
    for length in range(0, len(data) + 700, 97):
        tar_of(shards).write_bytes((data + bytes(700))[:length])
        report = verify(shards)
        assert f"shard-000000: has {length} bytes where shards.json says {len(data)}" in report.problems


def test_a_tar_cut_in_a_member(shards):
    places, _ = walk(tar_of(shards))
    offset, size = places["sa_2"]["json"]
    with tar_of(shards).open("r+b") as stream:
        stream.truncate(offset + size - 10)
    problems = verify(shards).problems
    assert problems[1] == "shard-000000: the tar is damaged after sa_2.json (unexpected end of data)"
    assert problems[2].startswith("shard-000000: sa_2: its JSON cannot be parsed")
    assert len(problems) == 3


def test_a_damaged_header(shards):
    places, _ = walk(tar_of(shards))
    with tar_of(shards).open("r+b") as stream:
        stream.seek(places["sa_1"]["json"][0] - 512)
        stream.write(b"\xff" * 200)
    problems = verify(shards).problems
    assert problems[0].startswith("shard-000000: the tar is damaged after sa_1.jpg")
    assert "shard-000000: sa_1: has the members ['jpg'], not jpg and json" in problems


def test_a_header_that_tarfile_takes_for_the_end(tmp_path):
    path = tmp_path / "plain.tar"
    with tarfile.open(path, "w:", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("a.jpg", "a.json"):
            archive.addfile(member(name))
    assert walk(path) == ({"a": {"jpg": (512, 0), "json": (1024, 0)}}, [])
    data = bytearray(path.read_bytes())
    data[512] = 0xFF
    path.write_bytes(data)
    problem = "the tar is damaged after a.jpg (is cut short or damaged at byte 512)"
    assert walk(path) == ({"a": {"jpg": (512, 0)}}, [problem])


def test_no_tar_at_all(shards):
    tar_of(shards).write_bytes(b"<html>not found</html>" * 100)
    problems = verify(shards).problems
    assert problems[1].startswith("shard-000000: the tar is damaged after the start (")


def test_a_damaged_index_that_the_manifest_lists(shards):
    index = shards / "shard-000000.index.json"
    index.write_bytes(b"{}")
    manifest = json.loads((shards / MANIFEST).read_text())
    manifest["shards"][0]["index_sha256"] = sha256(b"{}")
    (shards / MANIFEST).write_text(json.dumps(manifest))
    assert verify(shards).problems == ["shard-000000: shard-000000.index.json does not fit the tar: it is damaged"]
