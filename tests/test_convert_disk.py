"""A disk that is full, at any moment: one line, and nothing half-written stays."""

import errno
import resource
import signal
from pathlib import Path

import pytest
from converted import contents, nothing_written
from raw_samples import write_raw_sa1b

from datamodules import shards
from datamodules.convert import convert_sa1b, journal
from datamodules.shards import JOURNAL
from phd.errors import UserError


def full(path, data):
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


@pytest.fixture
def small_files():
    """No file can grow beyond 60 kB; the signal about it is ignored, as Python does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_in_the_first_shard(tmp_path, small_files):
    raw = write_raw_sa1b(tmp_path / "raw", 30)
    small_files()
    with pytest.raises(UserError, match=r"out: cannot be written \(File too large\); .*, nothing was kept$"):
        convert_sa1b(raw, tmp_path / "out")
    assert nothing_written(tmp_path)


def test_in_a_later_shard(tmp_path, small_files, monkeypatch):
    raw = write_raw_sa1b(tmp_path / "raw", 6)
    # The fifth sample alone is larger than a file may become.
    (raw / "sa_4.json").write_text((raw / "sa_4.json").read_text() + " " * 10)
    whole = convert_sa1b(raw, tmp_path / "whole", samples_per_shard=2)
    assert whole.shards == 3
    convert = monkeypatch  # the limit falls when the third shard is opened
    open_path = Path.open

    def opening(path, *arguments, **more):
        if path.name == "shard-000002.tar.partial":
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return open_path(path, *arguments, **more)

    convert.setattr(Path, "open", opening)
    with pytest.raises(UserError, match=r"File too large.*2 complete shards stay in .*go on with --resume$"):
        convert_sa1b(raw, tmp_path / "out", samples_per_shard=2)
    monkeypatch.undo()
    small_files()
    assert {name for name in contents(tmp_path / "out") if "partial" in name} == set()
    convert_sa1b(raw, tmp_path / "out", samples_per_shard=2, resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("at", [0, 1, 2])
def test_while_the_journal_is_written(tmp_path, monkeypatch, at):
    raw = write_raw_sa1b(tmp_path / "raw", 5)
    convert_sa1b(raw, tmp_path / "whole", samples_per_shard=2)
    written = []

    def write(path, data):
        if len(written) == at:
            full(path, data)
        written.append(path)
        shards.write_atomically(path, data)

    monkeypatch.setattr(journal, "write_atomically", write)
    with pytest.raises(UserError, match="No space left on device"):
        convert_sa1b(raw, tmp_path / "out", samples_per_shard=2)
    monkeypatch.undo()
    if at < 2:  # no shard is on record
        assert nothing_written(tmp_path)
    else:
        assert set(contents(tmp_path / "out")) == {"shard-000000.tar", "shard-000000.index.json", JOURNAL}
    convert_sa1b(raw, tmp_path / "out", samples_per_shard=2, resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_while_the_manifest_is_written(tmp_path, monkeypatch):
    raw = write_raw_sa1b(tmp_path / "raw", 5)
    convert_sa1b(raw, tmp_path / "whole", samples_per_shard=2)
    monkeypatch.setattr(
        "datamodules.writer.write_atomically",
        lambda path, data: full(path, data) if path.name == "shards.json" else shards.write_atomically(path, data),
    )
    with pytest.raises(UserError, match=r"No space left on device.*2 complete shards stay"):
        convert_sa1b(raw, tmp_path / "out", samples_per_shard=2)
    monkeypatch.undo()
    assert "shard-000002.tar" not in contents(tmp_path / "out")
    convert_sa1b(raw, tmp_path / "out", samples_per_shard=2, resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
