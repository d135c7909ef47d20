import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap

import pytest
import webdataset

from datamodules.open_files import OPEN_FILES
from datamodules.reader import ShardReader
from datamodules.shards import MANIFEST
from datamodules.writer import new_shards, terminable
from phd.errors import UserError


def members(number):
    record = {"image": {"file_name": f"{number}.jpg"}, "annotations": [], "text": "ü" * number}
    return {"jpg": bytes([number]) * (number * 100 + 1), "json": json.dumps(record, ensure_ascii=False).encode()}


def write(root, count=10, samples_per_shard=4):
    with new_shards(root, "sa1b", samples_per_shard) as writer:
        for number in range(count):
            writer.write(f"sa_{number}", members(number))
    return root


def files(root):
    return sorted(path.name for path in root.iterdir())


def test_a_sample_is_read_back(tmp_path):
    reader = ShardReader(write(tmp_path / "shards"))
    assert len(reader) == 10
    for number in (9, 0, 4, 3, 7):
        sample = reader.read(number)
        assert (sample.key, sample.jpg) == (f"sa_{number}", members(number)["jpg"])
        assert sample.record == json.loads(members(number)["json"])
        assert reader.key(number) == f"sa_{number}"
    assert reader.where(5).endswith("shard-000001.tar: sa_5")
    with pytest.raises(IndexError):
        reader.key(10)


def test_layout_and_manifest(tmp_path):
    root = write(tmp_path / "shards")
    names = [f"shard-00000{shard}.{suffix}" for shard in range(3) for suffix in ("index.json", "tar")]
    assert files(root) == [*names, MANIFEST]
    manifest = json.loads((root / MANIFEST).read_text())
    assert (manifest["samples"], manifest["kind"]) == (10, "sa1b")
    assert [shard["samples"] for shard in manifest["shards"]] == [4, 4, 2]


def test_webdataset_reads_the_tars(tmp_path):
    root = write(tmp_path / "shards")
    urls = [str(path) for path in sorted(root.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"sa_{number}" for number in range(10)]
    assert samples[3]["jpg"] == members(3)["jpg"]


def test_same_input_same_bytes(tmp_path):
    one, two = write(tmp_path / "one"), write(tmp_path / "two")
    assert files(one) == files(two)
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in files(one))


def test_the_reader_travels_to_a_worker_and_opens_files_there(tmp_path):
    reader = ShardReader(write(tmp_path / "shards"))
    reader.read(0)
    copy = pickle.loads(pickle.dumps(reader))
    assert not copy.folder.open_files.descriptors
    assert copy.read(9) == reader.read(9)


def test_few_files_are_open_at_once(tmp_path):
    reader = ShardReader(write(tmp_path / "shards", count=OPEN_FILES + 5, samples_per_shard=1))
    for number in [*range(len(reader)), 0]:
        assert reader.read(number).key == f"sa_{number}"
    assert len(reader.folder.open_files.descriptors) == OPEN_FILES
    descriptors = list(reader.folder.open_files.descriptors.values())
    del reader
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_max_shards(tmp_path):
    root = write(tmp_path / "shards")
    assert len(ShardReader(root, max_shards=2)) == 8
    for wrong in (4, 0):
        with pytest.raises(UserError, match=f"max_shards is {wrong} but the folder has 3 shards"):
            ShardReader(root, max_shards=wrong)


@pytest.mark.parametrize("error", [UserError("bad"), KeyboardInterrupt(), ValueError("bug")])
@pytest.mark.parametrize("existing", [True, False])
def test_an_error_leaves_the_folder_as_it_was(tmp_path, error, existing):
    root = tmp_path / "deep" / "shards"
    if existing:
        root.mkdir(parents=True)

    def fail():
        with new_shards(root, "sa1b", 2) as writer:
            for number in range(5):
                writer.write(f"sa_{number}", members(number))
            assert (root / "shard-000002.tar.partial").exists()
            raise error

    with pytest.raises(type(error)):
        fail()
    assert root.exists() == existing
    assert (tmp_path / "deep").exists() == existing
    assert not existing or files(root) == []


def test_a_full_disk_is_a_user_error(tmp_path):
    def fail():
        with new_shards(tmp_path / "shards", "sa1b") as writer:
            writer.write("a", members(1))
            raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"shards: cannot be written .*No space left"):
        fail()
    assert files(tmp_path) == []


@pytest.mark.slow
def test_a_terminated_process_leaves_nothing(tmp_path):
    script = """
        import os, signal, sys
        from pathlib import Path
        from datamodules.writer import new_shards, terminable
        with terminable(), new_shards(Path(sys.argv[1]), "sa1b", 2) as writer:
            for number in range(3):
                writer.write(str(number), {"jpg": b"x", "json": b"{}"})
            assert list(Path(sys.argv[1]).glob("*.partial"))
            os.kill(os.getpid(), signal.SIGTERM)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "shards")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt: terminated" in run.stderr
    assert run.returncode != 0
    assert files(tmp_path) == []


def test_terminable_puts_the_handlers_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_writer_refuses_what_it_cannot_write(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep me")
    with pytest.raises(UserError, match="not an empty folder"):
        write(tmp_path / "full")
    assert files(tmp_path / "full") == ["mine.txt"]
    with pytest.raises(UserError, match="not an empty folder"):
        write(tmp_path / "full" / "mine.txt")
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "full" / "mine.txt" / "below")
    with pytest.raises(UserError, match="samples per shard is 0"):
        write(tmp_path / "none", samples_per_shard=0)
    with pytest.raises(UserError, match="no sample to write"):
        write(tmp_path / "none", count=0)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("keys", [["a", "a"], ["a.b"], ["a/b"], [""], ["x" * 90]])
def test_bad_keys(tmp_path, keys):
    def fail():
        with new_shards(tmp_path / "shards", "sa1b") as writer:
            for key in keys:
                writer.write(key, members(1))

    with pytest.raises(UserError, match=r"two samples have this key|cannot name a sample"):
        fail()


def test_the_longest_key_fits(tmp_path):
    key = "ü" * 44
    with new_shards(tmp_path / "shards", "sa1b") as writer:
        writer.write(key, members(1))
    assert ShardReader(tmp_path / "shards").read(0).key == key


def remove_manifest(root):
    (root / MANIFEST).unlink()


def damage_manifest(root):
    (root / MANIFEST).write_text("{")


def other_manifest(root):
    (root / MANIFEST).write_text('{"format": "other"}')


def remove_tar(root):
    (root / "shard-000001.tar").unlink()


def cut_tar(root):
    os.truncate(root / "shard-000001.tar", 1000)


def remove_index(root):
    (root / "shard-000001.index.json").unlink()


def change_index(root):
    path = root / "shard-000001.index.json"
    path.write_text(path.read_text().replace("sa_5", "sa_6"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_manifest, "has no shards.json: no finished shards; make them with `phd shards convert`"),
        (damage_manifest, "shards.json: not JSON"),
        (other_manifest, "shards.json: not a manifest of phd-shards version 1"),
        (remove_tar, "shard-000001.tar: missing"),
        (cut_tar, "shard-000001.tar: has 1000 bytes where shards.json says"),
        (remove_index, "shard-000001.index.json: missing"),
        (change_index, "shard-000001.index.json: not the index"),
    ],
)
def test_damage_is_one_line_that_names_the_file(tmp_path, damage, message):
    root = write(tmp_path / "shards")
    damage(root)
    with pytest.raises(UserError, match=message) as caught:
        ShardReader(root)
    assert "\n" not in str(caught.value)


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        ShardReader(tmp_path / "nowhere")


def test_damage_after_opening(tmp_path):
    root = write(tmp_path / "shards")
    reader = ShardReader(root)
    os.truncate(root / "shard-000002.tar", 600)
    with pytest.raises(UserError, match=r"shard-000002.tar: sa_9: \.\w+ is cut short"):
        reader.read(9)
    (root / "shard-000000.tar").unlink()
    with pytest.raises(UserError, match=r"shard-000000.tar: cannot be opened"):
        reader.read(0)
    with pytest.raises(UserError, match=r"have no \.mp4"):
        reader.member(5, "mp4")


def test_record_that_is_none(tmp_path):
    with new_shards(tmp_path / "shards", "sa1b") as writer:
        writer.write("a", {"jpg": b"", "json": b"{"})
        writer.write("b", {"jpg": b"", "json": b"[]"})
    reader = ShardReader(tmp_path / "shards")
    with pytest.raises(UserError, match=r"a: \.json is no JSON"):
        reader.read(0)
    with pytest.raises(UserError, match='b: has no "image" and "annotations"'):
        reader.read(1)
