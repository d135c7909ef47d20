"""A conversion that was stopped goes on, and ends in the same bytes as one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from converted import contents, nothing_written
from raw_samples import write_raw_sa1b

from datamodules.convert import convert_coco, convert_sa1b, sa1b
from datamodules.reader import ShardReader
from datamodules.shards import JOURNAL, MANIFEST
from phd.errors import UserError

COUNT = 11


@pytest.fixture
def raw(tmp_path):
    """Eleven samples, the fourth and the eighth of them bad."""
    folder = write_raw_sa1b(tmp_path / "raw", COUNT)
    for number in (3, 7):
        (folder / f"sa_{number}.jpg").write_bytes(b"")
    return folder


def run(tmp_path, folder="out", **settings):
    settings = {"samples_per_shard": 2, "skip_bad": 2, "workers": 1, **settings}
    return convert_sa1b(tmp_path / "raw", tmp_path / folder, **settings)


def stop_at(monkeypatch, stem, error=None):
    """Let the reading of one sample end the conversion."""
    read = sa1b.read_pair

    def stopping(pair, max_pixels):
        if pair.stem == stem:
            raise error or KeyboardInterrupt
        return read(pair, max_pixels)

    monkeypatch.setattr(sa1b, "read_pair", stopping)
    return partial(monkeypatch.setattr, sa1b, "read_pair", read)


def stop(tmp_path, monkeypatch, number, **settings):
    undo = stop_at(monkeypatch, f"sa_{number}")
    with pytest.raises(KeyboardInterrupt) as caught:
        run(tmp_path, **settings)
    undo()
    return str(caught.value)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("number", [2, 4, 5, 9, 10])
def test_the_same_bytes_after_an_interrupt(tmp_path, raw, monkeypatch, number, workers):
    whole = run(tmp_path, "whole")
    said = stop(tmp_path, monkeypatch, number, workers=workers)
    # Two good samples a shard; 3 and 7 are none.
    complete = {2: 1, 4: 1, 5: 2, 9: 3, 10: 4}[number]
    assert f"{complete} complete shard" in said
    assert "go on with --resume" in said
    shards = {f"shard-00000{shard}.{suffix}" for shard in range(complete) for suffix in ("tar", "index.json")}
    assert set(contents(tmp_path / "out")) == {*shards, JOURNAL}
    summary = run(tmp_path, workers=workers, resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert summary.resumed == 2 * complete
    assert (summary.samples, summary.masks, summary.shards, summary.bytes) == (9, 18, 5, whole.bytes)
    assert summary.skipped == whole.skipped


def test_many_interrupts(tmp_path, raw, monkeypatch):
    run(tmp_path, "whole")
    for number in (2, 4, 6, 9, 10):
        stop(tmp_path, monkeypatch, number, resume=True)
    run(tmp_path, resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_without_a_complete_shard_nothing_stays(tmp_path, raw, monkeypatch):
    assert "--resume" not in stop(tmp_path, monkeypatch, 1)
    assert nothing_written(tmp_path)
    run(tmp_path, resume=True)  # nothing to go on from: from the start
    run(tmp_path, "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_what_is_skipped_is_listed(tmp_path, raw):
    summary = run(tmp_path)
    listed = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert listed == summary.skipped
    problem = "the image file is empty and cannot be decoded; replace or remove it"
    assert listed == [
        {"source": f"sa_{number}.jpg", "key": f"sa_{number}", "problem": f"{raw}/sa_{number}.jpg: {problem}"}
        for number in (3, 7)
    ]
    assert json.loads((tmp_path / "out" / MANIFEST).read_text())["skipped"] == 2


@pytest.mark.parametrize("mend", ["replace", "remove", "skip"])
def test_after_an_error_the_data_is_mended(tmp_path, raw, mend):
    with pytest.raises(UserError, match=r"sa_7\.jpg: .*; 3 complete shards stay in .*out: go on with --resume$"):
        run(tmp_path, skip_bad=1)
    if mend == "replace":
        (raw / "sa_7.jpg").write_bytes((raw / "sa_6.jpg").read_bytes())
    elif mend == "remove":
        (raw / "sa_7.jpg").unlink()
        (raw / "sa_7.json").unlink()
    skip_bad = 2 if mend == "skip" else 1
    run(tmp_path, skip_bad=skip_bad, resume=True)
    run(tmp_path, "whole", skip_bad=skip_bad)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_the_raw_data_may_be_moved(tmp_path, raw, monkeypatch):
    run(tmp_path, "whole", skip_bad=2)
    stop(tmp_path, monkeypatch, 6)
    raw.rename(tmp_path / "moved")
    convert_sa1b(tmp_path / "moved", tmp_path / "out", samples_per_shard=2, skip_bad=2, resume=True)
    names = sorted(path.name for path in (tmp_path / "out").glob("shard*"))
    assert all((tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in names)


def test_a_finished_folder(tmp_path, raw):
    first = run(tmp_path)
    before = contents(tmp_path / "out")
    again = run(tmp_path, resume=True)
    assert again.finished
    assert (again.samples, again.masks, again.bytes, again.skipped) == (9, 18, first.bytes, first.skipped)
    with pytest.raises(UserError, match="holds finished shards, but --samples-per-shard was 2 and is now 3"):
        run(tmp_path, resume=True, samples_per_shard=3)
    with pytest.raises(UserError, match="not an empty folder"):
        run(tmp_path)
    assert contents(tmp_path / "out") == before


def cut_a_shard(out):
    tar = out / "shard-000001.tar"
    tar.write_bytes(tar.read_bytes()[:-512])


def change_an_index(out):
    (out / "shard-000001.index.json").write_text("{}")


def lose_a_shard(out):
    (out / "shard-000001.tar").unlink()


def put_a_file(out):
    (out / "notes.txt").write_text("mine")


def damage_the_journal(out):
    (out / JOURNAL).write_text("{")


def lose_the_journal(out):
    (out / JOURNAL).unlink()


def lose_a_source(out):
    for suffix in ("jpg", "json"):
        (out.parent / "raw" / f"sa_2.{suffix}").unlink()


def lose_most_sources(out):
    for number in range(2, COUNT):
        for suffix in ("jpg", "json"):
            (out.parent / "raw" / f"sa_{number}.{suffix}").unlink()


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (None, {"resume": False}, "holds an unfinished conversion; go on with --resume"),
        (None, {"samples_per_shard": 3}, "cannot go on: --samples-per-shard was 2 and is now 3"),
        (None, {"resize": 30}, "cannot go on: --resize was None and is now 30"),
        (None, {"max_samples": 3}, "cannot go on: 7 sources are converted but now there are only 3"),
        (None, {"skip_bad": 0}, "1 bad samples were left out already; give at least --skip-bad 1"),
        (cut_a_shard, {}, r"shard-000001\.tar: has \d+ bytes where convert\.journal\.json says \d+"),
        (change_an_index, {}, r"shard-000001\.index\.json: not the index"),
        (lose_a_shard, {}, r"shard-000001\.tar: missing"),
        (put_a_file, {}, r"no conversion has left notes\.txt there"),
        (damage_the_journal, {}, r"convert\.journal\.json: damaged"),
        (lose_the_journal, {}, r"no conversion has left shard-000000\.index\.json there"),
        (lose_a_source, {}, r"the raw data changed since shard-000001 was made"),
        (lose_most_sources, {}, r"7 sources are converted but now there are only 2"),
    ],
)
def test_no_going_on_from_something_else(tmp_path, raw, monkeypatch, change, settings, message):
    stop(tmp_path, monkeypatch, 7)
    if change:
        change(tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path, **{"resume": True, **settings})
    assert "\n" not in str(caught.value)
    assert contents(tmp_path / "out") == before


def test_no_going_on_as_another_kind(tmp_path, raw, monkeypatch):
    stop(tmp_path, monkeypatch, 7)
    with pytest.raises(UserError, match="the kind was sa1b and is now coco"):
        convert_coco(raw, raw / "coco.json", tmp_path / "out", samples_per_shard=2, resume=True)


def test_the_reader_says_that_it_is_unfinished(tmp_path, raw, monkeypatch):
    stop(tmp_path, monkeypatch, 7)
    with pytest.raises(UserError, match="--resume"):
        ShardReader(tmp_path / "out")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal(tmp_path, raw, monkeypatch, request, number):
    read = sa1b.read_pair

    def interrupting(pair, max_pixels):
        if pair.stem == "sa_9":
            os.kill(os.getpid(), number)
            time.sleep(0.2)  # the signal reaches the main thread meanwhile
        return read(pair, max_pixels)

    monkeypatch.setattr(sa1b, "read_pair", interrupting)
    # A shell gives its background jobs an ignored SIGINT; a user at a terminal has Python's own handler.
    request.addfinalizer(
        partial(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
    )
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match="go on with --resume"):
        run(tmp_path)
    assert signal.getsignal(number) is before
    assert not list((tmp_path / "out").glob("*.partial"))
    monkeypatch.setattr(sa1b, "read_pair", read)
    run(tmp_path, resume=True)
    run(tmp_path, "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_kill_9(tmp_path):
    write_raw_sa1b(tmp_path / "raw", 600)
    run(tmp_path, "whole", samples_per_shard=7)
    code = (
        "import sys; from pathlib import Path; from datamodules.convert import convert_sa1b\n"
        "convert_sa1b(Path(sys.argv[1]), Path(sys.argv[2]), samples_per_shard=7, skip_bad=2, workers=1, resume=True)"
    )
    out = tmp_path / "out"
    for shard in (0, 4, 30):  # whatever it does just then
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "raw"), str(out)])
        while not (out / f"shard-{shard:06d}.tar.partial").exists() and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert (out / JOURNAL).exists()
        assert not (out / MANIFEST).exists()
    run(tmp_path, samples_per_shard=7, resume=True)
    assert contents(out) == contents(tmp_path / "whole")
