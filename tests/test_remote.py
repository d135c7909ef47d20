import json
import multiprocessing
import os
import pickle
import shutil
import sys

import fsspec
import pytest
from range_server import serve

from datamodules import storage
from datamodules.reader import ShardReader
from datamodules.remote import GAP, RemoteFolder, check_range, merged
from datamodules.shards import JOURNAL, MANIFEST
from datamodules.writer import new_shards
from phd.errors import UserError


def members(number):
    record = {"image": {"file_name": f"{number}.jpg"}, "annotations": []}
    return {"jpg": bytes([number]) * (number * 1000 + 1), "json": json.dumps(record).encode()}


@pytest.fixture
def root(tmp_path):
    with new_shards(tmp_path / "shards", "sa1b", 4) as writer:
        for number in range(10):
            writer.write(f"sa_{number}", members(number))
    return tmp_path / "shards"


@pytest.fixture
def served(root):
    with serve(root) as (url, behaviour):
        yield url, behaviour


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(storage, "FIRST_PAUSE", 0.001)


def same_samples(root, url):
    near, far = ShardReader(root), ShardReader(url)
    assert (len(far), far.form, far.shards) == (10, "image", near.shards)
    for number in (9, 0, 4, 3):
        one, other = near.read(number), far.read(number)
        assert (one.key, one.jpg, one.record) == (other.key, other.jpg, other.record)
    assert far.where(5) == f"{url}/shard-000001.tar: sa_5"
    return far


def test_http_has_the_same_samples(root, served):
    url, behaviour = served
    reader = same_samples(root, url)
    behaviour.asked.clear()
    reader.read(7)
    # Both members by one request.
    assert [name for name, _ in behaviour.asked] == ["shard-000001.tar"]
    assert behaviour.asked[0][1].startswith("bytes=")


def test_memory_has_the_same_samples(root):
    system = fsspec.filesystem("memory")
    system.put(f"{root}/", "/bucket/deep/", recursive=True)
    same_samples(root, "memory://bucket/deep")
    system.rm("/bucket", recursive=True)


def test_file_urls_are_local(root):
    assert ShardReader(f"file://{root}").read(3).jpg == members(3)["jpg"]


def read_in_child(reader, number, answers):
    answers.put(reader.read(number).jpg)


def test_a_forked_worker_makes_its_own_connections(served):
    reader = ShardReader(served[0])
    reader.read(0)  # this process is connected
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    children = [context.Process(target=read_in_child, args=(reader, 8, answers)) for _ in range(2)]
    for child in children:
        child.start()
    assert [answers.get(timeout=60) for _ in children] == [members(8)["jpg"]] * 2
    for child in children:
        child.join(timeout=60)
        assert child.exitcode == 0
    assert reader.read(1).jpg == members(1)["jpg"]


def test_a_connection_is_never_pickled(served):
    reader = ShardReader(served[0])
    reader.read(0)
    assert reader.folder._made is not None
    copy = pickle.loads(pickle.dumps(reader))
    assert copy.folder._made is None
    assert copy.read(2).jpg == members(2)["jpg"]


def test_a_server_that_ignores_ranges(served):
    url, behaviour = served
    behaviour.ranges = False
    with pytest.raises(UserError, match=rf"{url}/shards\.json, bytes 0-15: .* ignores byte ranges; use a") as caught:
        ShardReader(url)
    assert "\n" not in str(caught.value)
    assert not any(name.endswith(".tar") for name, _ in behaviour.asked)


def test_a_server_that_ignores_the_ranges_of_tars_only(served):
    url, behaviour = served
    reader = ShardReader(url)
    behaviour.ranges = False
    with pytest.raises(UserError, match=rf"{url}/shard-000000\.tar, bytes \d+-\d+: the server answered with \d+ bytes"):
        reader.read(0)


@pytest.mark.parametrize("status", [503, 0])
def test_a_few_failures_are_outlived(served, status):
    url, behaviour = served
    reader = ShardReader(url)
    behaviour.fail, behaviour.status = storage.ATTEMPTS - 1, status
    assert reader.read(4).jpg == members(4)["jpg"]
    assert behaviour.fail == 0


@pytest.mark.parametrize(
    ("status", "requests", "message"),
    [
        (503, storage.ATTEMPTS, r"the server answered 503 Service Unavailable \(5 tries\); check"),
        (0, storage.ATTEMPTS, r"payload is not completed.*\(5 tries\); check"),
        (403, 1, "the server answered 403 Forbidden; check the address and the access"),
        (404, 1, "the file is gone"),
    ],
)
def test_failures_are_one_line_that_names_url_and_range(served, status, requests, message):
    url, behaviour = served
    reader = ShardReader(f"{url}?signature=secret")
    behaviour.asked.clear()
    behaviour.fail, behaviour.status = 100, status
    with pytest.raises(UserError, match=rf"^{url}/shard-000001\.tar, bytes \d+-\d+: .*{message}") as caught:
        reader.read(4)
    assert len(behaviour.asked) == requests
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_nobody_answers():
    with pytest.raises(UserError, match=rf"^http://127\.0\.0\.1:9/shards\.json: .*\({storage.ATTEMPTS} tries\)"):
        ShardReader("http://127.0.0.1:9")


def test_unfinished_and_missing(root, served):
    url, _ = served
    (root / MANIFEST).rename(root / JOURNAL)
    with pytest.raises(UserError, match=rf"{url}: its conversion is unfinished .*--resume"):
        ShardReader(url)
    (root / JOURNAL).unlink()
    with pytest.raises(UserError, match=rf"{url}: has no shards\.json: no finished shards"):
        ShardReader(url)


def test_damage_at_the_server(root, served):
    url, _ = served
    reader = ShardReader(url)
    shutil.copyfile(root / "shard-000000.tar", root / "copy")
    os.truncate(root / "shard-000000.tar", 2048)
    with pytest.raises(UserError, match=rf"{url}/shard-000000\.tar, bytes \d+-\d+: only \d+ bytes came"):
        reader.read(1)
    with pytest.raises(UserError, match=rf"{url}/shard-000000\.tar: has 2048 bytes where shards\.json says"):
        ShardReader(url)
    (root / "shard-000000.tar").unlink()
    with pytest.raises(UserError, match=rf"{url}/shard-000000\.tar: missing"):
        ShardReader(url)
    (root / "copy").rename(root / "shard-000000.tar")
    (root / "shard-000002.index.json").unlink()
    with pytest.raises(UserError, match=rf"{url}/shard-000002\.index\.json: missing"):
        ShardReader(url)


@pytest.mark.parametrize(("protocol", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_package_that_is_not_installed(monkeypatch, protocol, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{protocol}://bucket/shards: .*`pip install {package}`"):
        ShardReader(f"{protocol}://bucket/shards")


def test_a_protocol_that_nobody_knows():
    with pytest.raises(UserError, match="nosuch://x: Protocol not known"):
        ShardReader("nosuch://x")


def test_ranges_are_merged_where_little_lies_between():
    assert merged([(600, 700), (0, 500)]) == [(0, 700)]
    assert merged([(0, 10), (10 + GAP, 20 + GAP)]) == [(0, 10), (10 + GAP, 20 + GAP)]
    assert merged([(0, 100), (20, 30)]) == [(0, 100)]


def test_far_members_are_read_by_ranges_of_their_own(tmp_path):
    contents = {f"{number:06d}.jpg": os.urandom(GAP) for number in range(0, 12, 4)}
    with new_shards(tmp_path / "shards", "sav") as writer:
        writer.write("clip", {**contents, "json": b"{}", "empty": b""})
    with serve(tmp_path / "shards") as (url, behaviour):
        reader = ShardReader(url)
        behaviour.asked.clear()
        assert reader.members(0, ["000008.jpg", "000000.jpg"]) == [contents["000008.jpg"], contents["000000.jpg"]]
        assert len(behaviour.asked) == 2
        assert reader.members(0, ["empty", "json"]) == [b"", b"{}"]


def test_names_of_a_folder(root, served):
    assert {name for name in RemoteFolder(served[0]).names() if name} >= {path.name for path in root.iterdir()}


def test_check_range():
    check_range(5, 8, b"abc", "u")
    with pytest.raises(UserError, match="u: only 2 bytes came"):
        check_range(5, 8, b"ab", "u")
