"""The core of the ablations: plan, resumable runs in processes, table, plot."""

from __future__ import annotations

import json
import math
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from phd.ablation.plan import Run, Variant, plan_runs
from phd.ablation.plot import Panel, plot_rows
from phd.ablation.run import LOG, RESULT, Outcome, run_all
from phd.ablation.table import Spread, markdown, put_between, spread
from phd.errors import UserError

A, B = Variant("a", ("--x=1",), {"n": 1}), Variant("b", ("--x=2",), {"n": 2})


def remembered(run: Run, folder: Path, calls: Path, broken: str = "") -> dict[str, Any]:
    """Stands for a training; counts its calls, prints, and fails where it is told to."""
    import torch

    with calls.open("a") as stream:
        stream.write(f"{run.name}\n")
    print("trained", run.name, *run.variant.flags)
    os.system("echo from another program")
    if run.name == broken:
        raise UserError("the disk is full")
    return {"score": run.seed + len(run.variant.name), "threads": torch.get_num_threads(), "process": os.getpid()}


def test_the_plan_goes_seed_by_seed() -> None:
    names = [run.name for run in plan_runs([A, B], first_seed=3, seeds=2)]
    assert names == ["a-seed3", "b-seed3", "a-seed4", "b-seed4"]
    with pytest.raises(UserError, match="--seeds is 0"):
        plan_runs([A], 0, 0)
    with pytest.raises(UserError, match="a is named twice"):
        plan_runs([A, B, A], 0, 1)
    with pytest.raises(UserError, match="names no variant"):
        plan_runs([], 0, 1)


def test_runs_are_done_once_and_one_failure_stops_no_other(tmp_path: Path) -> None:
    calls = tmp_path / "calls.txt"
    runs = plan_runs([A, B], 0, 2)
    first = run_all(runs, partial(remembered, calls=calls, broken="b-seed0"), tmp_path / "out", jobs=2)
    assert [each.run for each in first] == runs
    assert [each.error for each in first] == ["", "the disk is full", "", ""]
    assert [each.values is None for each in first] == [False, True, False, False]
    assert sorted(calls.read_text().split()) == sorted(run.name for run in runs)
    folder = tmp_path / "out" / "runs" / "b-seed0"
    log = (folder / LOG).read_text()
    assert "trained b-seed0 --x=2" in log
    assert "from another program" in log
    assert "UserError: the disk is full" in log
    assert not (folder / RESULT).exists()
    values = [each.values for each in first if each.values is not None]
    assert {each["threads"] for each in values} == {1}
    assert os.getpid() not in {each["process"] for each in values}
    # Again, with one seed more: what is done stays, what failed and what is new is done.
    more = plan_runs([A, B], 0, 3)
    again = run_all(more, partial(remembered, calls=calls), tmp_path / "out", jobs=1)
    assert sorted(calls.read_text().split()[4:]) == ["a-seed2", "b-seed0", "b-seed2"]
    assert again[0] == first[0]
    assert [each.values["score"] for each in again if each.values is not None] == [1, 1, 2, 2, 3, 3]
    assert json.loads((folder / RESULT).read_text()) == again[1].values


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    file = tmp_path / "runs" / "a-seed0" / RESULT
    file.parent.mkdir(parents=True)
    file.write_text('{"variant": "a"')
    with pytest.raises(UserError, match=r"a-seed0/result.json: is no result of a run"):
        run_all(plan_runs([A], 0, 1), partial(remembered, calls=tmp_path / "calls.txt"), tmp_path, jobs=1)
    with pytest.raises(UserError, match="--jobs is 0"):
        run_all([], partial(remembered, calls=tmp_path / "calls.txt"), tmp_path, jobs=0)


def test_mean_and_spread_by_hand() -> None:
    values = {"a": (0.5, 0.7, 0.9), "b": (0.25,)}
    outcomes = [
        Outcome(Run(variant, seed), {"jf": value})
        for variant in (A, B)
        for seed, value in enumerate(values[variant.name])
    ]
    outcomes.append(Outcome(Run(B, 1), None, "failed"))
    found = spread(outcomes, "a", "jf")
    assert found.values == (0.5, 0.7, 0.9)
    assert (found.mean, found.std) == (pytest.approx(0.7), pytest.approx(0.2))  # of n - 1
    assert str(found) == "0.700 ± 0.200"
    alone = spread(outcomes, "b", "jf")
    assert math.isnan(alone.std)
    assert str(alone) == "0.250"
    assert str(spread(outcomes, "c", "jf")) == "failed"


def test_the_table() -> None:
    text = markdown(["name", "J&F"], [["a|b", Spread((0.5,))], ["c", 1]])
    assert text.splitlines() == ["| name | J&F |", "| --- | ---: |", r"| a\|b | 0.500 |", "| c | 1 |"]


def test_a_section_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "docs" / "results.md"
    put_between(file, "x", "first")
    assert file.read_text() == "<!-- x begin -->\nfirst\n<!-- x end -->\n"
    file.write_text("# Results\n\n" + file.read_text() + "\n## After\n")
    put_between(file, "x", "\nsecond\n\nline\n")
    assert file.read_text() == "# Results\n\n<!-- x begin -->\nsecond\n\nline\n<!-- x end -->\n\n## After\n"
    put_between(file, "y", "other")
    assert file.read_text().endswith("## After\n\n<!-- y begin -->\nother\n<!-- y end -->\n")
    for broken in ("<!-- x end --> <!-- x begin -->", "<!-- x begin -->", "<!-- x end -->" * 2):
        file.write_text(broken)
        with pytest.raises(UserError, match="give one of each, in order"):
            put_between(file, "x", "third")
        assert file.read_text() == broken


def test_the_plot_shows_every_row(tmp_path: Path) -> None:
    """A row with a larger mean has its mark further to the right; the first row is on top."""
    rows = [Spread((0.2, 0.3)), Spread((0.8, 0.9)), Spread(())]
    plot_rows(tmp_path / "assets" / "plot.png", ["low", "high", "failed"], [Panel("J&F", {"one": rows}, start=0.0)])
    picture = np.asarray(Image.open(tmp_path / "assets" / "plot.png").convert("RGB")).astype(int)
    blue = np.abs(picture - [0x1B, 0x6C, 0xA8]).sum(-1) < 30
    heights, places = np.nonzero(blue)
    middle = (heights.min() + heights.max()) / 2
    assert places[heights < middle].mean() < places[heights > middle].mean()
