"""Sentences about means and spreads, and one line for what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_experiments import EXPERIMENTS

from phd.ablation.plan import Run, Variant
from phd.ablation.run import Outcome
from phd.ablation.table import Spread
from phd.ablation.words import apart, change, labelled, left_out, paragraph, standing
from phd.cli import run
from phd.errors import UserError


def test_two_means_are_apart_by_more_than_the_larger_spread() -> None:
    assert not apart(Spread((0.1,)), Spread((0.9,)))  # one seed each says nothing
    assert apart(Spread((0.1, 0.2)), Spread((0.3, 0.3)))  # 0.15 against 0.071
    assert not apart(Spread((0.1, 0.5)), Spread((0.4, 0.4)))  # 0.1 against 0.283


def test_the_best_is_named_with_those_that_are_near() -> None:
    found = [("a", Spread((0.5, 0.6))), ("b", Spread((0.52, 0.54))), ("c", Spread((0.1, 0.1)))]
    near = "Not apart from it by more than the spread of the seeds: b."
    assert standing("cgF1", found) == f"cgF1: the highest mean has a (0.550 ± 0.071). {near}"
    assert standing("ECE", found, lowest=True) == "ECE: the lowest mean has c (0.100 ± 0.000)."
    alone = "With one seed there is no spread to compare with."
    assert standing("x", [("a", Spread((0.5,))), ("b", Spread((0.4,)))]).endswith(f"has a (0.500). {alone}")
    assert standing("x", [("a", Spread((0.0, 0.0))), ("b", Spread((0.0,)))]) == "x: 0.000 in all."


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ((0.1, 0.1), (0.3, 0.3), "0.100 ± 0.000 and 0.300 ± 0.000: higher by 0.200, more than the spread of the seeds"),
        ((0.1, 0.5), (0.2, 0.2), "0.300 ± 0.283 and 0.200 ± 0.000: lower by 0.100, not more than the spread of the"),
        ((0.2,), (0.3,), "0.200 and 0.300: higher by 0.100, with one seed each"),
        ((0.2, 0.2), (0.2001, 0.2001), "the same to three digits"),
    ],
)
def test_a_change_says_whether_it_is_one(old: tuple[float, ...], new: tuple[float, ...], said: str) -> None:
    assert said in change(Spread(old), Spread(new))


def test_failed_runs_are_named_and_not_measured() -> None:
    one, other = Variant("one", (), {"label": "1"}), Variant("other", (), {"label": "2"})
    outcomes = [Outcome(Run(one, 0), {"x": 1.0}), Outcome(Run(other, 0), None, "disk"), Outcome(Run(one, 1), {"x": 3})]
    assert labelled([one, other], outcomes, "x") == [("1", Spread((1.0, 3.0)))]
    assert left_out(outcomes) == ["Failed and left out: other-seed0."]
    assert left_out(outcomes[:1]) == []


def test_code_stays_on_one_line() -> None:
    text = paragraph("word " * 22 + "`phd evaluate video --protocol sav` and so on " + "word " * 20)
    assert max(map(len, text.splitlines())) <= 120
    assert "`phd evaluate video --protocol sav`" in text


def refuse(match: str, *arguments: Any) -> None:
    with pytest.raises(UserError, match=match):
        run(["ablation", *map(str, arguments)])


@pytest.mark.parametrize("kind", ["memory", "freezing", "negatives"])
def test_bad_settings(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = [kind, tmp_path / "out", "--experiments", EXPERIMENTS]
    refuse("--steps is 0; give at least 1", *given, "--steps", 0)
    refuse("--jobs is 0; give at least 1", *given, "--jobs", 0)
    refuse(r"--init .*nowhere: no such folder", *given, "--init", tmp_path / "nowhere")
    refuse(r"no toy/(stage2|ablation_\w+)\.yaml", kind, "--experiments", tmp_path)
    if kind != "memory":  # which makes its own start
        refuse("there is no runs/demo/stage2/run/student; run `make demo` first, or name a student", *given)
        refuse(f"--only {kind}_x: no such variant", *given, "--only", f"{kind}_x")
    assert not (tmp_path / "out").exists()
