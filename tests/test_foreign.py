import gzip
import io
import json
import os
import tarfile
from pathlib import Path

import fsspec
import pytest

from datamodules.foreign import samples_of, tars
from datamodules.stream import StreamedSamples
from phd.errors import UserError

RECORD = json.dumps({"image": {}, "annotations": []}).encode()


def pack(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return str(path)


def read(path):
    return list(StreamedSamples(path, samples=3, shuffle=False))


def test_a_truncated_tar(tmp_path):
    path = pack(tmp_path / "a.tar", [(f"{n}.{kind}", b"x" * 2000) for n in range(3) for kind in ("jpg", "json")])
    os.truncate(path, 3 * 2560 + 1000)  # in the second sample's second member
    with pytest.raises(UserError, match=r"a\.tar: is damaged or cut short after 1 samples"):
        list(samples_of(path, lambda _: True))
    with pytest.raises(UserError, match=r"a\.tar: is damaged or cut short after 1 samples"):
        StreamedSamples(path)


@pytest.mark.parametrize("length", [2 * 2560, 2 * 2560 + 100, 4 * 2560 + 511, 6 * 2560 + 300])
@pytest.mark.parametrize("mode", ["tar", "tar.gz"])
def test_a_tar_that_breaks_off_between_members(tmp_path, length, mode):
    """tarfile itself takes such a place for the end."""
    plain = pack(tmp_path / "a.tar", [(f"{n}.{kind}", b"x" * 2000) for n in range(3) for kind in ("jpg", "json")])
    data = Path(plain).read_bytes()
    assert len(list(samples_of(plain, lambda _: True))) == 3
    path = tmp_path / f"b.{mode}"
    path.write_bytes(data[:length] if mode == "tar" else gzip.compress(data[:length]))
    for url in (str(path), f"memory://{path}"):
        fsspec.filesystem("memory").pipe(str(path), path.read_bytes())
        with pytest.raises(UserError, match=r"b\.tar.*: is damaged or cut short after \d samples \(no end at byte"):
            list(samples_of(url, lambda _: True))


def test_no_tar_at_all(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"no tar" * 500)
    with pytest.raises(UserError, match=r"a\.tar: is damaged or cut short after 0 samples"):
        read(str(tmp_path / "a.tar"))
    with pytest.raises(UserError, match=r"b\.tar: no such tar"):
        read(str(tmp_path / "b.tar"))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.jpg", b""), ("b.jpg", b""), ("a.json", RECORD)], r"a: has no \.json beside it; pack the members"),
        ([("a.json", RECORD), ("b.json", RECORD)], "a: has no image beside it"),
        ([("a.jpg", b""), ("a.json", b"{")], r"a: \.json is no JSON"),
        ([("a.jpg", b""), ("a.json", b"[]")], 'a: has no "image" and "annotations"'),
        ([("a.jpg", b""), ("a.JPG", b""), ("a.json", RECORD)], r"a: two members are \.jpg"),
    ],
)
def test_samples_that_are_none(tmp_path, members, message):
    path = pack(tmp_path / "a.tar", members)
    with pytest.raises(UserError, match=rf"a\.tar: {message}") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_links_are_not_followed(tmp_path):
    (tmp_path / "secret.json").write_bytes(RECORD)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"), io.BytesIO())
        link = tarfile.TarInfo("a.json")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret.json")
        archive.addfile(link)
    with pytest.raises(UserError, match=r"a: has no \.json"):
        read(str(tmp_path / "a.tar"))


def test_too_few_samples(tmp_path):
    path = pack(tmp_path / "a.tar", [("a.jpg", b""), ("a.json", RECORD)])
    with pytest.raises(UserError, match="1 samples are too few for a batch of 2 on each of 1 processes"):
        StreamedSamples(path, batch_size=2)
    # One sample for two readers.
    with pytest.raises(UserError, match=r"has no sample for one of the workers; lower data\.num_workers"):
        list(StreamedSamples(path, samples=2, rank=1, world_size=2))
    stream = StreamedSamples(path)
    pack(tmp_path / "a.tar", [])
    with pytest.raises(UserError, match="holds fewer samples than were counted"):
        list(stream)


def test_urls_must_be_counted_by_the_user():
    with pytest.raises(UserError, match=r"a-1\.tar: samples behind a URL cannot be counted; .* data\.samples"):
        StreamedSamples("https://host.invalid/a-{1..2}.tar")


def test_names_of_tars(tmp_path):
    for name in ("b.tar", "a.tar", "c.tgz", "notes.txt"):
        (tmp_path / name).touch()
    found = [str(tmp_path / name) for name in ("a.tar", "b.tar", "c.tgz")]
    assert tars(str(tmp_path)) == found
    assert tars([str(tmp_path / "{a,b}.tar"), found[2]]) == found
    assert tars("s3://bucket/x-{08..10}.tar") == [f"s3://bucket/x-{number}.tar" for number in ("08", "09", "10")]
    with pytest.raises(UserError, match="a tar is named twice"):
        tars([found[0], str(tmp_path)])
    with pytest.raises(UserError, match="no tar here"):
        tars(str(tmp_path / "deeper"))
    with pytest.raises(UserError, match=r"\{1\.\.2\.tar'; write the pattern as shard"):
        tars(str(tmp_path / "{1..2.tar"))


def test_a_pattern_is_never_a_command(tmp_path):
    mark = tmp_path / "mark"
    with pytest.raises(UserError, match="no such tar"):
        read(f"pipe:touch {mark}; cat x.tar")
    assert not mark.exists()
