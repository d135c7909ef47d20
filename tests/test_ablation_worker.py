"""A pool whose command is killed does not go on in secret."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

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
