"""Claims: one builder for a shard, and what is left by the dead."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from cached import Counting, builder, names, silent, whole
from tiny import tiny_sam

from datamodules.cache.claims import Claims


def leave(folder: Path, name: str, host: str, pid: int) -> None:
    """What a builder leaves that was killed at a shard."""
    claim = {"host": host, "pid": pid, "token": f"{host}-{pid}-abc"}
    (folder / f"features-{name}.claim").write_text(json.dumps(claim))
    (folder / f"features-{name}.tar.{claim['token']}.partial").write_bytes(b"half a tar")


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_claim_keeps_others_out_until_it_is_released(tmp_path: Path) -> None:
    mine, theirs = Claims(tmp_path, 0.2), Claims(tmp_path, 0.2)
    with mine.claimed("a") as ours:
        assert ours
        assert json.loads((tmp_path / "features-a.claim").read_text())["pid"] == os.getpid()
        for _ in range(4):  # much longer than a silent claim would live
            with theirs.claimed("a") as also:
                assert not also
            time.sleep(0.1)
        with theirs.claimed("b") as other:
            assert other
    assert names(tmp_path) == []
    with theirs.claimed("a") as now:
        assert now


def test_a_claim_is_released_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Claims(tmp_path).claimed("a"):
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_a_dead_process_of_this_machine_is_replaced_at_once(tmp_path: Path) -> None:
    leave(tmp_path, "a", socket.gethostname(), dead_pid())
    with Claims(tmp_path, stale_after=1000).claimed("a") as ours:
        assert ours
        assert names(tmp_path) == ["features-a.claim"]


def test_a_silent_builder_elsewhere_is_replaced_after_a_while(tmp_path: Path) -> None:
    leave(tmp_path, "a", "elsewhere", 1)
    claims = Claims(tmp_path, stale_after=0.3)
    for pause, taken in ((0.1, False), (0.4, False), (0.0, True)):
        with claims.claimed("a") as ours:
            assert ours == taken
        os.utime(tmp_path / "features-a.claim") if pause == 0.1 else None  # a sign of life
        time.sleep(pause)


def test_who_was_taken_for_dead_leaves_the_new_claim_alone(tmp_path: Path) -> None:
    slow, fast = Claims(tmp_path), Claims(tmp_path)
    with slow.claimed("a"):
        (tmp_path / "features-a.claim").unlink()  # as a builder does that takes over
        with fast.claimed("a") as ours:
            assert ours
            claim = (tmp_path / "features-a.claim").read_text()
            slow_again = json.loads(claim)["token"] == slow.token
            assert not slow_again
    assert names(tmp_path) == []


def test_a_killed_builder_does_not_stop_the_next_one(tmp_path: Path, toy_shards: Path) -> None:
    teacher = tiny_sam()
    work = builder(toy_shards, tmp_path, teacher, stale_after=0.3)
    leave(tmp_path, "shard-000000", socket.gethostname(), dead_pid())
    leave(tmp_path, "shard-000002", "elsewhere", 1)
    (tmp_path / "features-shard-000001.claim").write_text("")  # killed before it could write its name
    assert work.run(Counting(teacher), 4, 1, silent).finished
    assert names(tmp_path) == whole([f"shard-{number:06d}" for number in range(3)])
    # Killed when its work was done: nobody needs the shard any more, but the folder is to be clean.
    leave(tmp_path, "shard-000000", "elsewhere", 1)
    (tmp_path / f"cache.json.{socket.gethostname()}-{dead_pid()}-0123abcd.partial").write_text("")
    assert work.run(Counting(teacher), 4, 1, silent).finished
    assert names(tmp_path) == whole([f"shard-{number:06d}" for number in range(3)])
