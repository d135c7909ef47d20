import io
import json
import tarfile
from itertools import chain, islice, product

import fsspec
import numpy as np
import pytest
import webdataset
from range_server import serve
from torch.utils.data import DataLoader

from datamodules import storage
from datamodules.foreign import is_stream, tars
from datamodules.stream import StreamedSamples
from datamodules.stream_plan import buffered_order, cycle, in_batches, interval
from datamodules.writer import new_shards
from phd.errors import UserError

SIZES = (7, 3, 9, 5)  # samples of the tars: 24 in all
KEYS = [f"{tar}/{number}" for tar, size in enumerate(SIZES) for number in range(size)]


def add(archive, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def pack(path, keys, image="jpg", prefix=""):
    """A tar as others make them: with folders, a note for every sample, and a member of no sample."""
    with tarfile.open(path, "w") as archive:
        add(archive, "__meta__", b"{}")
        for key in keys:
            record = {"image": {"file_name": key}, "annotations": []}
            add(archive, f"{prefix}{key}.json", json.dumps(record).encode())
            add(archive, f"{prefix}{key}.{image}", f"image {key}".encode() * 200)
            add(archive, f"{prefix}{key}.txt", b"a note")


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "tars"
    folder.mkdir()
    for tar, size in enumerate(SIZES):
        pack(folder / f"part-{tar:02d}.tar", [f"{tar}/{number}" for number in range(size)])
    return folder


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(storage, "FIRST_PAUSE", 0.001)


def keys_of(samples):
    return [sample.key for sample in samples]


def epoch_of(stream, epoch):
    stream.set_epoch(epoch)
    return stream


def loader(stream, workers, drop_last=True, **options):
    return DataLoader(
        stream, stream.batch_size, num_workers=workers, collate_fn=keys_of, drop_last=drop_last, **options
    )


def test_the_buffer_gives_a_bounded_permutation():
    generator = np.random.default_rng
    order = buffered_order(100, 8, generator(1))
    assert sorted(order) == list(range(100))
    assert all(order < np.arange(100) + 8)
    assert (order != np.arange(100)).any()
    assert (order == buffered_order(100, 8, generator(1))).all()
    assert list(buffered_order(5, 1, generator(1))) == [0, 1, 2, 3, 4]
    assert sorted(buffered_order(5, 64, generator(1))) == [0, 1, 2, 3, 4]
    assert len(buffered_order(0, 4, generator(1))) == 0


def test_batches_of_workers():
    # 10 samples by 3: batches of 3, 3, 3, 1, in turn from two workers.
    assert [in_batches(10, 3, worker, 2) for worker in (0, 1)] == [6, 4]
    assert [in_batches(10, 3, worker, 2, end=2) for worker in (0, 1)] == [3, 3]
    assert [in_batches(10, 3, worker, 2, end=4) for worker in (0, 1)] == [6, 4]
    assert [in_batches(10, 3, worker, 6) for worker in range(6)] == [3, 3, 3, 1, 0, 0]


def test_parts_of_tars():
    assert list(interval([3, 2, 4], [2, 0, 1], first=3, share=4)) == [(2, range(3, 4)), (0, range(0, 3))]
    assert list(interval([3, 2, 4], [2, 0, 1], first=9, share=0)) == []
    assert [(tar, part.step) for tar, part in islice(cycle([4, 5, 6], 1, 2), 2)] == [(5, 1), (5, 1)]
    # Five readers of two tars: three of the first, two of the second.
    shared = [next(cycle([7, 8], reader, 5)) for reader in range(5)]
    places = [(tar, part.start, part.step) for tar, part in shared]
    assert places == [(7, 0, 3), (8, 0, 2), (7, 1, 3), (8, 1, 2), (7, 2, 3)]


@pytest.mark.parametrize(("world_size", "workers"), [*product((1, 3), (0, 2)), (2, 3)])
def test_every_sample_once_and_the_same_number_of_steps(root, world_size, workers):
    seen, steps = [], set()
    for rank in range(world_size):
        stream = StreamedSamples(str(root), 5, None, 2, rank, world_size, buffer=4)
        batches = list(loader(stream, workers))
        assert len(batches) == stream.steps == len(loader(stream, workers))
        steps.add(len(batches))
        seen += chain.from_iterable(batches)
    assert steps == {24 // (2 * world_size)}
    assert sorted(seen) == sorted(KEYS)


def test_the_last_batch_may_be_smaller(root):
    stream = StreamedSamples(str(root), batch_size=5, drop_last=False, shuffle=False)
    batches = list(loader(stream, 2, drop_last=False))
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 4]
    assert sorted(chain.from_iterable(batches)) == sorted(KEYS)
    assert len(StreamedSamples(str(root), batch_size=5)) == 20


def test_samples_are_those_of_webdataset(root):
    urls = [str(path) for path in sorted(root.iterdir())]
    other = list(webdataset.WebDataset(urls, shardshuffle=False))
    mine = list(StreamedSamples(urls, shuffle=False))
    assert keys_of(mine) == [sample["__key__"] for sample in other] == KEYS
    assert [sample.jpg for sample in mine] == [sample["jpg"] for sample in other]
    assert mine[8].record == json.loads(other[8]["json"])
    assert mine[8].where == f"{root}/part-01.tar: 1/1"


def test_the_order_is_pure_in_seed_and_epoch(root):
    stream = StreamedSamples(str(root), 1, buffer=8)
    first = keys_of(stream)
    assert keys_of(stream) == first == keys_of(StreamedSamples(str(root), 1, buffer=8))
    stream.set_epoch(1)
    second = keys_of(stream)
    stream.set_epoch(0)
    assert keys_of(stream) == first
    assert first != second != keys_of(StreamedSamples(str(root), 2, buffer=8)) != first
    # Tars are shuffled too: within the buffer alone, none of the last tar could be among the first 12 samples.
    assert any(key.startswith("3/") for epoch in range(4) for key in keys_of(epoch_of(stream, epoch))[:4])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("counted", [True, False])
def test_a_resumed_epoch_goes_on_at_its_batch(root, workers, counted):
    def new():
        return StreamedSamples(str(root), 3, None if counted else 20, 2, rank=1, world_size=2, buffer=3)

    stream = new()
    stream.set_epoch(4)
    whole = list(loader(stream, workers))
    assert len(whole) == stream.steps
    for start in (1, 2, stream.steps - 1):
        again = new()
        again.seek(4 * again.steps + start)
        again.set_epoch(4)  # as Lightning does after the place is restored
        assert list(loader(again, workers)) == whole[start:]
    again.set_epoch(5)
    assert len(list(loader(again, workers))) == stream.steps


def test_what_is_skipped_is_not_read(root, monkeypatch):
    read = []
    extract = tarfile.TarFile.extractfile
    monkeypatch.setattr(
        tarfile.TarFile, "extractfile", lambda self, member: read.append(member.name) or extract(self, member)
    )
    stream = StreamedSamples(str(root), 0, batch_size=4, buffer=3)
    assert read == []  # counted by headers alone
    stream.seek(4)
    keys = keys_of(stream)
    assert sorted(read) == sorted(f"{key}.{name}" for key in keys for name in ("json", "jpg"))
    assert len(keys) == 8


def test_workers_that_live_on_see_the_epoch(root):
    stream = StreamedSamples(str(root), 0, batch_size=3, buffer=4)
    batches = loader(stream, 2, persistent_workers=True)
    first = list(batches)
    stream.set_epoch(1)
    second = list(batches)
    assert second == list(loader(stream, 2)) != first


def test_samples_that_were_not_counted_are_shared_by_tars(root):
    streams = [StreamedSamples(str(root), 0, 24, rank=rank, world_size=2, shuffle=False) for rank in (0, 1)]
    seen = [keys_of(stream) for stream in streams]
    assert [len(keys) for keys in seen] == [12, 12]
    # Tars 0 and 2 have 16 samples, of which 4 are left; tars 1 and 3 have 8 and begin again.
    assert seen[0] == [*KEYS[:7], *KEYS[10:15]]
    assert seen[1] == [*KEYS[7:10], *KEYS[19:], *KEYS[7:10], KEYS[19]]


def test_more_readers_than_tars_share_their_samples(root):
    urls = str(root / "part-{00..01}.tar")
    seen = [keys_of(StreamedSamples(urls, 0, 10, rank=rank, world_size=5, shuffle=False)) for rank in range(5)]
    assert seen == [["0/0", "0/3"], ["1/0", "1/2"], ["0/1", "0/4"], ["1/1", "1/1"], ["0/2", "0/5"]]


@pytest.mark.parametrize("ranges", [True, False])
def test_http(root, ranges):
    with serve(root) as (url, behaviour):
        behaviour.ranges = ranges
        stream = StreamedSamples(f"{url}/part-{{00..03}}.tar", 0, 24, shuffle=False)
        assert keys_of(stream) == KEYS
        assert tars(f"{url}/") == [f"{url}/part-0{number}.tar" for number in range(4)]


def test_a_lost_connection_goes_on_where_it_was(root):
    with serve(root) as (url, behaviour):
        behaviour.fail, behaviour.status = 2, 0
        stream = StreamedSamples(f"{url}/part-02.tar", 0, 9, shuffle=False)
        assert keys_of(stream) == KEYS[10:19]
        assert behaviour.fail == 0
        behaviour.fail, behaviour.status = 100, 503
        with pytest.raises(UserError, match=rf"{url}/part-02\.tar: .*503.* \(5 tries\)"):
            list(stream)
        behaviour.fail = 0
        with pytest.raises(UserError, match=rf"{url}/none\.tar: no such tar"):
            list(StreamedSamples(f"{url}/none.tar?token=secret", 0, 9))


def test_memory(root):
    system = fsspec.filesystem("memory")
    system.put(f"{root}/", "/streams/", recursive=True)
    assert is_stream("memory://streams")
    assert keys_of(StreamedSamples("memory://streams", 0, 24, shuffle=False)) == KEYS
    system.rm("/streams", recursive=True)


def test_what_is_a_stream(root, tmp_path):
    assert is_stream(str(root))
    assert is_stream(str(root / "part-{00..01}.tar"))
    assert is_stream(str(root / "part-00.tar"))
    assert not is_stream(str(tmp_path / "nowhere"))
    with new_shards(tmp_path / "ours", "sa1b") as writer:
        writer.write("a", {"jpg": b"", "json": b"{}"})
    assert not is_stream(str(tmp_path / "ours"))
    (tmp_path / "ours" / "shards.json").unlink()  # unfinished, and to be reported as such
    assert not is_stream(str(tmp_path / "ours"))


def test_published_sa1b_names_and_compressed_tars(tmp_path):
    pack(tmp_path / "sa.tar", ["sa_1", "sa_2"], image="JPG", prefix="./")
    assert keys_of(StreamedSamples(str(tmp_path / "sa.tar"), shuffle=False)) == ["sa_1", "sa_2"]
    with tarfile.open(tmp_path / "small.tar.gz", "w:gz") as archive:
        add(archive, "a.webp", b"image")
        add(archive, "a.json", b'{"image": {}, "annotations": []}')
    assert next(iter(StreamedSamples(str(tmp_path / "small.tar.gz")))).jpg == b"image"
