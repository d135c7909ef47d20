"""A local sweep runs a W&B file: the same parameters, the same command line, one folder per trial."""

from __future__ import annotations

import csv
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from phd.errors import UserError
from phd.sweep import read_sweep_file, run_sweep, summary
from phd.sweep.metric import MetricMissing, read_metric
from phd.sweep.sweep_file import Parameter
from phd.sweep.trials import draw, expand_command, plan_trials, trial_key

# Stands for `phd fit`: scores lr by its distance to 0.01, fails where it is told to, counts its calls.
PROGRAM = """
import os, pathlib, sys
flags = dict(word[2:].split("=", 1) for word in sys.argv[1:])
folder = pathlib.Path(flags["--trainer.default_root_dir".lstrip("-")]) / "version_0"
folder.mkdir()
with open(pathlib.Path(__file__).with_name("calls.txt"), "a") as calls:
    calls.write(flags["model.lr"] + " " + os.environ["WANDB_MODE"] + "\\n")
if flags["model.lr"] == flags.get("fails"):
    print("Traceback\\nValueError: lr is cursed", file=sys.stderr)
    sys.exit(3)
score = 1 - abs(float(flags["model.lr"]) - 0.01)
(folder / "metrics.csv").write_text(
    f"epoch,step,train/loss,val/mask_iou\\n0,1,2.5,\\n0,2,,{score}\\n1,3,1.5,\\n1,4,,{score - 0.1}\\n"
)
"""


def write(folder: Path, **changes: object) -> Path:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    content = {
        "program": str(program),
        "method": "grid",
        "metric": {"name": "val/mask_iou", "goal": "maximize"},
        "parameters": {"model.lr": {"values": [0.1, 0.01, 0.2]}, "model.kind": {"value": "box"}},
        "command": ["${env}", "${interpreter}", "${program}", "${args}"],
        **changes,
    }
    file = folder / "sweep.yaml"
    file.write_text(
        yaml.safe_dump({key: value for key, value in content.items() if value is not None}, sort_keys=False)
    )
    return file


def calls(folder: Path) -> list[str]:
    file = folder / "calls.txt"
    return file.read_text().splitlines() if file.exists() else []


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_grid_runs_every_combination_and_ranks_them(tmp_path: Path) -> None:
    out = tmp_path / "out"
    trials = run_sweep(write(tmp_path), out)
    assert [trial.parameters["model.lr"] for trial in trials] == [0.01, 0.1, 0.2]
    assert [(trial.best, trial.last) for trial in trials] == [
        (pytest.approx(1), pytest.approx(0.9)),
        (pytest.approx(0.91), pytest.approx(0.81)),
        (pytest.approx(0.81), pytest.approx(0.71)),
    ]
    assert calls(tmp_path) == ["0.1 disabled", "0.01 disabled", "0.2 disabled"]
    assert [row["model.lr"] for row in rows(out)] == ["0.01", "0.1", "0.2"]
    table = [line for line in (out / "results.md").read_text().splitlines() if line.startswith("| ")]
    assert table[0] == "| trial | best | last | model.lr | model.kind | seconds |"
    assert table[1].startswith(f"| {trials[0].key} | 1 | 0.9 | 0.01 | box |")
    picture = np.array(Image.open(out / "parallel_coordinates.png").convert("L"))
    assert picture.std() > 1
    assert summary(trials, "val/mask_iou").startswith("3 of 3 trials done; best val/mask_iou 1 with --model.lr=0.01")


def test_a_second_call_continues(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert len(run_sweep(write(tmp_path), out, max_runs=2)) == 2
    assert len(run_sweep(write(tmp_path), out)) == 3
    assert [call.split()[0] for call in calls(tmp_path)] == ["0.1", "0.01", "0.2"]


def test_a_failing_trial_is_recorded_and_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    parameters = {"model.lr": {"values": [0.1, 0.01, 0.2]}, "fails": {"value": 0.01}}
    trials = run_sweep(write(tmp_path, parameters=parameters), out)
    assert [trial.status for trial in trials] == ["done", "done", "failed"]
    assert (trials[2].returncode, trials[2].error) == (3, "Traceback\nValueError: lr is cursed")
    assert "FAILED (exit code 3)  model.lr=0.01 fails=0.01  ValueError: lr is cursed\n" in capsys.readouterr().err
    assert f"1 failed ({trials[2].key}" in summary(trials, "val/mask_iou")
    assert "ValueError: lr is cursed" in (out / "results.md").read_text()
    assert rows(out)[2]["status"] == "failed"

    program = tmp_path / "program.py"
    mended = write(tmp_path, parameters=parameters)
    program.write_text(PROGRAM.replace("sys.exit(3)", "pass"))
    trials = run_sweep(mended, out)
    assert [trial.status for trial in trials] == ["done"] * 3
    assert [call.split()[0] for call in calls(tmp_path)] == ["0.1", "0.01", "0.2", "0.01"]


def test_a_torn_record_runs_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_sweep(write(tmp_path), out)
    records = out / "trials.jsonl"
    records.write_text(records.read_text()[:-30])
    assert len(run_sweep(write(tmp_path), out)) == 3
    assert [call.split()[0] for call in calls(tmp_path)] == ["0.1", "0.01", "0.2", "0.2"]
    assert len([json.loads(line) for line in records.read_text().splitlines()]) == 3


def test_the_target_ends_the_sweep(tmp_path: Path) -> None:
    metric = {"name": "val/mask_iou", "goal": "maximize", "target": 0.99}
    trials = run_sweep(write(tmp_path, metric=metric), tmp_path / "out")
    assert [trial.parameters["model.lr"] for trial in trials] == [0.01, 0.1]


def test_another_sweep_needs_another_folder(tmp_path: Path) -> None:
    run_sweep(write(tmp_path), tmp_path / "out", max_runs=1)
    other = write(tmp_path, metric={"name": "val/mask_iou", "goal": "minimize"})
    with pytest.raises(UserError, match="holds results of goal maximize, not minimize; name another folder"):
        run_sweep(other, tmp_path / "out")


def test_a_metric_that_is_not_logged_fails_the_trial_and_names_what_is(tmp_path: Path) -> None:
    trials = run_sweep(write(tmp_path, metric={"name": "val/jf"}), tmp_path / "out", max_runs=1)
    assert trials[0].error == "the run does not log val/jf; it logs: train/loss, val/mask_iou"
    assert not (tmp_path / "out" / "parallel_coordinates.png").exists()


def test_random_is_seeded_and_extends(tmp_path: Path) -> None:
    parameters = {
        "lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-1},
        "depth": {"min": 1, "max": 8},
    }
    sweep = read_sweep_file(write(tmp_path, method="random", parameters=parameters, run_cap=4))
    four = plan_trials(sweep, None, seed=1)
    assert plan_trials(sweep, 9, seed=1)[:4] == four
    assert plan_trials(sweep, None, seed=2) != four
    assert len({trial_key(trial) for trial in four}) == 4


def test_random_over_few_combinations_ends(tmp_path: Path) -> None:
    sweep = read_sweep_file(write(tmp_path, method="random"))
    drawn = plan_trials(sweep, 50, seed=0)
    assert sorted(trial["model.lr"] for trial in drawn) == [0.01, 0.1, 0.2]


def sample(distribution: str, **settings: object) -> np.ndarray:
    parameter = Parameter("x", distribution, settings)
    return np.array([draw(parameter, np.random.default_rng([0, i])) for i in range(2000)])


def test_distributions() -> None:
    uniform = sample("uniform", min=2, max=4)
    assert (uniform.min() >= 2, uniform.max() <= 4) == (True, True)
    assert uniform.mean() == pytest.approx(3, abs=0.05)
    integers = sample("int_uniform", min=1, max=3)
    assert np.bincount(integers)[1:] / 2000 == pytest.approx([1 / 3] * 3, abs=0.05)
    for name, ends in (("log_uniform_values", (1e-4, 1)), ("log_uniform", (np.log(1e-4), 0))):
        logarithms = np.log10(sample(name, min=ends[0], max=ends[1]))
        assert logarithms.mean() == pytest.approx(-2, abs=0.1)
        assert (logarithms.min() >= -4, logarithms.max() <= 0) == (True, True)
    assert set(sample("q_uniform", min=0, max=0.5, q=0.1)) == {0.0, 0.1, 0.2, 0.3, 0.4, 0.5}
    normal = sample("normal", mu=5, sigma=2)
    assert (normal.mean(), normal.std()) == (pytest.approx(5, abs=0.2), pytest.approx(2, abs=0.2))
    assert np.log(sample("log_normal", mu=1, sigma=0.5)).mean() == pytest.approx(1, abs=0.05)
    weighted = sample("categorical", values=["a", "b"], probabilities=[0.9, 0.1])
    assert (weighted == "a").mean() == pytest.approx(0.9, abs=0.03)


def test_grid_over_quantised_ranges(tmp_path: Path) -> None:
    parameters = {"a": {"min": 1, "max": 2}, "b": {"distribution": "q_uniform", "min": 0.1, "max": 0.3, "q": 0.1}}
    trials = plan_trials(read_sweep_file(write(tmp_path, parameters=parameters)), None, seed=0)
    assert trials == [{"a": a, "b": b} for a in (1, 2) for b in (0.1, 0.2, 0.3)]


def test_command_macros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKBONE", "repvit_m1_1")
    values = {"model.lr": 0.1, "a": True, "b": False}

    def words(*command: str) -> list[str]:
        return expand_command(read_sweep_file(write(tmp_path, command=list(command))), values)

    assert words("${env}", "${interpreter}", "${program}") == [
        "/usr/bin/env",
        sys.executable,
        str(tmp_path / "program.py"),
    ]
    assert words("phd", "fit", "${args}") == ["phd", "fit", "--model.lr=0.1", "--a=True", "--b=False"]
    assert words("${args_no_boolean_flags}") == ["--model.lr=0.1", "--a"]
    assert words("${args_no_hyphens}") == ["model.lr=0.1", "a=True", "b=False"]
    assert words("-c", "experiments/${envvar:BACKBONE}.yaml") == ["-c", "experiments/repvit_m1_1.yaml"]
    for command, message in (("${argz}", "argz"), ("${envvar:NONE_SUCH}", "NONE_SUCH, which is not set")):
        with pytest.raises(UserError, match=message):
            words(command)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "bayes"}, "only grid and random run locally"),
        ({"metric": None}, "no metric.name"),
        ({"metric": {"name": "x", "goal": "maximise"}}, "write minimize or maximize"),
        ({"parameters": {}}, "no parameters"),
        ({"paramters": {}}, "'paramters' at top level; did you mean parameters"),
        ({"parameters": {"lr": {"distribution": "beta", "a": 1}}}, "unknown distribution 'beta'"),
        ({"parameters": {"lr": {"distribution": "uniform", "min": 0}}}, r"lr \(uniform\) lacks max"),
        ({"parameters": {"lr": {"min": 2, "max": 1}}}, "min 2 above max 1"),
        ({"parameters": {"lr": {"min": "low", "max": 1}}}, "parameters.lr.min is 'low'; write a number"),
        ({"parameters": {"lr": {"distribution": "log_uniform_values", "min": 0, "max": 1}}}, "needs min above 0"),
        ({"parameters": {"model": {"parameters": {"lr": {"value": 1}}}}}, "write dotted names"),
        ({"parameters": {"lr": {"values": [1, 2], "probabilities": [0.5, 0.2]}}}, "sum to 1"),
        ({"parameters": {"lr": {"min": 0.0, "max": 1.0}}}, "has no grid; list its values"),
        ({"method": "random"}, "has no end; add run_cap"),
        ({"command": ["no-such-program", "${args}"]}, "no-such-program, which is no program on the PATH"),
        ({"program": None}, "names no program"),
    ],
)
def test_wrong_files(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_sweep(write(tmp_path, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_number_without_a_point_is_a_number(tmp_path: Path) -> None:
    file = write(tmp_path, method="random", run_cap=1)
    content = yaml.safe_load(file.read_text())
    content["parameters"] = "LR"
    file.write_text(yaml.safe_dump(content).replace("LR", "{lr: {min: 1e-4, max: 1e-3, distribution: uniform}}"))
    assert read_sweep_file(file).parameters[0].settings == {"min": 1e-4, "max": 1e-3}


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_sweep_file(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(UserError, match="not valid YAML"):
        read_sweep_file(tmp_path / "broken.yaml")


def test_metric_ignores_values_that_are_not_finite(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,val/mask_iou\n1,0.5\n2,\n3,nan\n")
    assert read_metric(tmp_path, "val/mask_iou", "maximize") == (0.5, 0.5)
    (tmp_path / "metrics.csv").write_text("step,val/mask_iou\n1,nan\n")
    with pytest.raises(MetricMissing, match="no finite value"):
        read_metric(tmp_path, "val/mask_iou", "maximize")
    with pytest.raises(MetricMissing, match="wrote no metrics"):
        read_metric(tmp_path / "none", "val/mask_iou", "maximize")


def test_the_shipped_sweeps_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER", "toy-teacher-128")
    monkeypatch.setenv("DATA", "shards")
    files = sorted((Path(__file__).parents[1] / "experiments" / "sweeps").glob("*.yaml"))
    assert files
    for file in files:
        sweep = read_sweep_file(file)
        trials = plan_trials(sweep, None, seed=0)
        command = expand_command(sweep, trials[0])
        module = command.index("-m")
        assert command[module : module + 3] == ["-m", "phd", "fit"]
        configs = [Path(word) for before, word in itertools.pairwise(command) if before == "-c"]
        assert [config for config in configs if not (file.parents[2] / config).exists()] == []


def test_imports_no_lightning() -> None:
    code = "import sys, phd.sweep; sys.exit(any(name.split('.')[0] == 'lightning' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
