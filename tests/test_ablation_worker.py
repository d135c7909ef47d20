"""A pool whose command is killed does not go on in secret."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from phd.ablation.plan import Run, Variant, plan_runs
from phd.ablation.run import run_all
from phd.ablation.worker import share_of, visible_gpus

# A run that begins a program of its own, as a training does; both leave a sign of life ten times a second.
RUNS = r"""
import signal, subprocess, sys, threading, time
from pathlib import Path

BEAT = "import sys, time\nwhile True:\n    open(sys.argv[1], 'a').write('.')\n    time.sleep(0.1)"


def works(run, folder):
    def beat():
        while True:
            (folder / "worker").open("a").write(".")
            time.sleep(0.1)

    threading.Thread(target=beat, daemon=True).start()
    subprocess.run([sys.executable, "-c", BEAT, str(folder / "program")], check=False)
    return {}


if __name__ == "__main__":
    from phd.ablation.plan import Variant, plan_runs
    from phd.ablation.run import run_all
    import killed_pool

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell
    run_all(plan_runs([Variant("a", ()), Variant("b", ())], 0, 1), killed_pool.works, Path(sys.argv[1]), jobs=1)
"""


def until(true: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.2)
    return False


def test_workers_end_with_a_killed_command(tmp_path: Path) -> None:
    script = tmp_path / "killed_pool.py"
    script.write_text(RUNS)
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    command = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env={**os.environ, "PYTHONPATH": paths})
    signs = [tmp_path / "runs" / "a-seed0" / name for name in ("worker", "program")]
    try:
        assert until(lambda: all(sign.exists() for sign in signs), 90)
    finally:
        command.kill()
        command.wait()

    def silent() -> bool:
        before = [sign.stat().st_size for sign in signs]
        time.sleep(1.0)
        return before == [sign.stat().st_size for sign in signs]

    assert until(silent, 30)
    assert not (tmp_path / "runs" / "b-seed0").exists()  # the next run was in the worker's queue


def gpu_of(run: Run, folder: Path) -> dict[str, str]:
    (folder.parent / f"{run.name}.began").touch()
    assert until(lambda: len(list(folder.parent.glob("*.began"))) == 2, 90), "the other process never began"
    return {"gpu": os.environ["CUDA_VISIBLE_DEVICES"]}


def test_processes_share_the_gpus_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    runs = plan_runs([Variant("a", ()), Variant("b", ())], 0, 1)
    outcomes = run_all(runs, gpu_of, tmp_path, jobs=2)
    assert sorted(each.values["gpu"] for each in outcomes if each.values is not None) == ["3,7", "5"]
    assert visible_gpus() == ["3", "5", "7"]  # of the command itself nothing changes


def test_shares_by_hand() -> None:
    assert [share_of(["0", "1", "2", "3"], number, 1) for number in range(1)] == [["0", "1", "2", "3"]]
    assert [share_of(["0", "1", "2", "3"], number, 2) for number in range(2)] == [["0", "2"], ["1", "3"]]
    assert [share_of(["0", "1"], number, 5) for number in range(5)] == [["0"], ["1"], ["0"], ["1"], ["0"]]
    assert share_of([], 0, 2) == []
