"""A folder of runs belongs to one command at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from phd.errors import UserError
from phd.one_command import claim, only_command_in

HOLDS = """
import sys, time
from pathlib import Path
from phd.one_command import only_command_in

with only_command_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_command_is_refused_until_the_first_is_gone_also_when_it_was_killed(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "family"
    first = subprocess.Popen([sys.executable, "-c", HOLDS, str(out)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"runs/family: another command is at work in it"), only_command_in(out):
            pass
    finally:
        first.kill()
        first.wait()
    for _ in range(2):
        with only_command_in(out):
            pass


def test_an_error_lets_the_folder_go(tmp_path: Path) -> None:
    with pytest.raises(KeyError), only_command_in(tmp_path):
        raise KeyError
    with only_command_in(tmp_path):
        pass


def test_a_folder_belongs_to_one_set_of_settings(tmp_path: Path) -> None:
    claim(tmp_path / "out" / "settings.json", {"steps": 60, "more": ["--a=1"]})
    claim(tmp_path / "out" / "settings.json", {"steps": 60, "more": ["--a=1"]})
    with pytest.raises(UserError, match="holds results of steps 60, not 61"):
        claim(tmp_path / "out" / "settings.json", {"steps": 61, "more": ["--a=1"]})
    with pytest.raises(UserError, match="holds results of more"):
        claim(tmp_path / "out" / "settings.json", {"steps": 60, "more": []})
