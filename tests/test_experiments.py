"""Every file under experiments/ is read by the real command line, and the toy ones are fitted."""

from __future__ import annotations

import csv
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from phd.cli import run
from phd.errors import UserError
from phd.loading import load_segmenter
from phd.student import PAPER_TRUNKS, Student
from phd.sweep import read_sweep_file
from phd.sweep.trials import expand_command, plan_trials
from phd.teachers import Teacher

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "experiments"
FILES = sorted(str(path.relative_to(EXPERIMENTS)) for path in EXPERIMENTS.rglob("*.y*ml"))
SWEEPS = [name for name in FILES if name.startswith("sweeps/")]
BACKBONES = [name for name in FILES if name.startswith("backbone/")]
# What lies under a file besides trainer.yaml, by folder or name.
UNDER = {"backbone": ["stage1.yaml"], "cached.yaml": ["stage1.yaml"], "toy/photos.yaml": ["toy/stage1.yaml"]}
UNDER["toy/stage1_small.yaml"] = ["toy/stage1.yaml"]
UNDER["toy/ablation_memory.yaml"] = ["toy/stage2.yaml"]
ABLATION_FREEZING = tuple(f"toy/ablation_freezing{part}.yaml" for part in ("", "_staged", "_neck_first"))
ABLATIONS3 = (*ABLATION_FREEZING, "toy/ablation_negatives.yaml")
UNDER |= {name: ["toy/stage3.yaml", *ABLATION_FREEZING[:1]] for name in ABLATION_FREEZING}
UNDER["toy/ablation_negatives.yaml"] = ["toy/stage3.yaml"]
TEACHER_MEMORY = tuple(f"toy/teacher_memory_{part}.yaml" for part in ("start", "small", "long", "apart", "192"))
STAGE2 = ("stage2.yaml", "toy/stage2.yaml", "toy/ablation_memory.yaml", *TEACHER_MEMORY)
TEACHER_CONCEPTS = tuple(f"toy/teacher_{part}.yaml" for part in ("boxes", "concepts", "concepts_fine"))
STAGE3 = ("stage3.yaml", "toy/stage3.yaml", *TEACHER_CONCEPTS, *ABLATIONS3)
TEXT = ("text.yaml", "toy/text.yaml")
NAMED = tuple(
    f"toy/teacher_{part}.yaml" for part in ("words_start", "words", "words_scenes", "things_small", "things", "points")
)


def fit_of(name: str, *more: str) -> list[str]:
    """The arguments of `phd fit` for one file."""
    under = UNDER.get(name, UNDER.get(name.split("/")[0], []))
    files = dict.fromkeys(["trainer.yaml", *under, name])
    return ["fit", *(word for file in files for word in ("-c", str(EXPERIMENTS / file))), *more]


def parsed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The whole configuration, as the command line understands it."""
    with pytest.raises(SystemExit) as end:
        run([*arguments, "--print_config"])
    assert end.value.code in (0, None)
    return yaml.safe_load(capsys.readouterr().out)


def test_there_is_a_file_for_each_backbone() -> None:
    assert {Path(name).stem for name in BACKBONES} == set(PAPER_TRUNKS)


@pytest.mark.parametrize("name", [name for name in FILES if name not in (*SWEEPS, "trainer.yaml")])
def test_files_parse(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = parsed(fit_of(name), capsys)
    stage, data = ("MemoryDistill", "Clips") if name in STAGE2 else ("EncoderDistill", "SA1B")
    if name in NAMED:
        stage, data = "NamedThings", "Concepts"
    stage, data = ("TextDistill", "Phrases") if name in TEXT else (stage, data)
    stage, data = ("ConceptFinetune", "Concepts") if name in STAGE3 else (stage, data)
    assert config["model"]["class_path"] == f"phd.stages.{stage}"
    assert config["data"]["class_path"] == f"datamodules.{data}"
    written = yaml.safe_load((EXPERIMENTS / name).read_text())
    for section in ("model", "data"):  # and nothing of the file gets lost
        mine = config[section]["init_args"]
        for key, value in written.get(section, {}).get("init_args", {}).items():
            assert contains(mine[key], value), f"{section}.{key}"
    if name in BACKBONES:
        assert config["model"]["init_args"]["backbone"] == Path(name).stem
    callbacks = [entry["class_path"].rsplit(".", 1)[-1] for entry in config["trainer"]["callbacks"]]
    assert {
        "LogMaskIoU",
        "LogJAndF",
        "LogFeatureMSE",
        "MaskPanels",
        "StudentArtefact",
        "Throughput",
        "ModelCheckpoint",
    } <= {*callbacks}
    assert ("ClipLength" in callbacks) == (name == "stage2.yaml")


def contains(mine: Any, value: Any) -> bool:
    """Whether a setting has at least what was written; the parser adds the defaults."""
    if isinstance(value, dict):
        return all(contains(mine[key], inner) for key, inner in value.items())
    if isinstance(value, list):
        return len(mine) == len(value) and all(map(contains, mine, value))
    return mine == value


def test_trainer_alone_names_what_is_missing() -> None:
    with pytest.raises(UserError, match=r"required: fit\.data, fit\.model"):
        run(fit_of("trainer.yaml"))


def test_a_slip_in_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "slip.yaml").write_text("model:\n  init_args:\n    learning_rate: 0.1\n")
    with pytest.raises(UserError, match="'learning_rate' is not accepted"):
        run(fit_of("toy/stage1.yaml", "-c", str(tmp_path / "slip.yaml")))


@pytest.mark.parametrize("name", SWEEPS)
def test_sweeps_parse(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], toy_folder: Path
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TEACHER", str(toy_folder))
    monkeypatch.setenv("DATA", "SHARDS")
    sweep = read_sweep_file(EXPERIMENTS / name)
    assert (sweep.metric, sweep.goal) == ("val/mask_iou", "maximize")
    trial = plan_trials(sweep, 1, seed=0)[0]
    words = expand_command(sweep, trial)
    config = parsed(words[words.index("fit") :], capsys)
    assert (config["model"]["init_args"]["teacher"], config["data"]["init_args"]["root"]) == (str(toy_folder), "SHARDS")
    for flag, value in trial.items():
        section, setting = flag.split(".")
        assert config[section]["init_args"][setting] == value


def made(target: str, *settings: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The configuration of the command that a target of the Makefile runs."""
    make = ["make", "--dry-run", target, "TEACHER=T", "DATA=D", "ARGS=--trainer.max_steps=7", *settings]
    printed = subprocess.run(make, capture_output=True, text=True, check=True).stdout.replace("\\\n", " ")
    line = next(line for line in printed.splitlines() if "phd fit" in line)
    return parsed(shlex.split(line)[1:], capsys)


@pytest.mark.parametrize("which", ["memory", "freezing", "negatives"])
def test_make_ablation_takes_a_named_student(which: str) -> None:
    make = ["make", "--dry-run", f"ablation-{which}"]
    alone, named = (
        subprocess.run([*make, *more], capture_output=True, text=True, check=True).stdout
        for more in ([], ["INIT=elsewhere"])
    )
    assert f"phd ablation {which} runs/ablation/{which} " in alone
    assert "--init" not in alone
    assert " --init elsewhere " in named


@pytest.mark.parametrize("settings", [[], ["INIT=elsewhere"]])
def test_make_stage2_takes_the_student_of_stage1(
    settings: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    config = made("stage2", "BACKBONE=tinyvit_11m", *settings, capsys=capsys)
    assert config["model"]["class_path"] == "phd.stages.MemoryDistill"
    student = "elsewhere" if settings else "runs/stage1/tinyvit_11m/student"
    assert (config["model"]["init_args"]["init_from"], config["model"]["init_args"]["teacher"]) == (student, "T")
    assert (config["data"]["init_args"]["root"], config["trainer"]["max_steps"]) == ("D", 7)
    assert config["trainer"]["default_root_dir"] == "runs/stage2/tinyvit_11m"


def test_make_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    config = made("text", "TEXT=mobileclip2_l", capsys=capsys)
    assert config["model"]["class_path"] == "phd.stages.TextDistill"
    assert (config["model"]["init_args"]["text"], config["model"]["init_args"]["teacher"]) == ("mobileclip2_l", "T")
    assert (config["data"]["init_args"]["root"], config["trainer"]["max_steps"]) == ("D", 7)
    assert config["trainer"]["default_root_dir"] == "runs/text/mobileclip2_l"


@pytest.mark.parametrize("backbone", ["efficientvit_b0", "tinyvit_11m"])
def test_make_stage1_runs_a_command_that_parses(
    backbone: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    config = made("stage1", f"BACKBONE={backbone}", capsys=capsys)
    assert (config["model"]["init_args"]["backbone"], config["model"]["init_args"]["teacher"]) == (backbone, "T")
    assert (config["data"]["init_args"]["root"], config["trainer"]["max_steps"]) == ("D", 7)


def two_steps(name: str, folder: Path, shards: Path, *more: str) -> Path:
    """Fit a file at its smallest; returns the run's folder."""
    small = ["--data.batch_size=2", "--data.val_samples=4", f"--data.root={shards}"]
    limits = ["max_steps=2", "limit_train_batches=2", "limit_val_batches=1", "log_every_n_steps=1", "accelerator=cpu"]
    run(
        fit_of(name, *small, *(f"--trainer.{limit}" for limit in limits), f"--trainer.default_root_dir={folder}", *more)
    )
    return folder


def columns(folder: Path) -> dict[str, list[float]]:
    """The values in metrics.csv by name."""
    with (folder / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}


def check_checkpoint(folder: Path, learner: torch.nn.Module) -> dict[str, Any]:
    """It holds the learner, whole, and of the teacher nothing but its name."""
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert set(checkpoint["state_dict"]) == {f"learner.{name}" for name in learner.state_dict()}
    assert checkpoint["global_step"] == 2
    return checkpoint


TOYS = {
    "toy/stage1.yaml": ["--model.teacher={toy}"],
    "toy/stage1_small.yaml": ["--model.teacher={toy}"],
    "toy/photos.yaml": ["--model.teacher={toy}"],
    "toy/teacher_64.yaml": [],
    "toy/teacher_128.yaml": ["--model.segmenter={toy}", "--model.image_size=64"],
    "toy/teacher_fine.yaml": ["--model.segmenter={toy}", "--model.image_size=64"],
    "toy/teacher_borders.yaml": ["--model.segmenter={toy}", "--model.image_size=64"],
    "toy/teacher_masks.yaml": ["--model.segmenter={toy}", "--model.image_size=64"],
}


def test_every_toy_is_fitted() -> None:
    # Tests of their own: stage 2 with clips, stage 3 and words with concepts, and the text encoders with phrases.
    assert {*TOYS, *STAGE2[1:], *TEXT[1:], *STAGE3[1:], *NAMED} == {name for name in FILES if name.startswith("toy/")}


@pytest.mark.parametrize("name", TOYS)
def test_toys_are_fitted(
    name: str, tmp_path: Path, toy_folder: Path, toy_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = two_steps(name, tmp_path, toy_shards, *(word.format(toy=toy_folder) for word in TOYS[name]))
    learner = load_segmenter(str(folder / "student"))
    distilled = "teacher=" in "".join(TOYS[name])
    assert isinstance(learner, Student if distilled else Teacher)
    assert learner.contract.image_size == 64
    metrics = columns(folder)
    assert 0 <= metrics["val/mask_iou"][0] <= 1
    assert metrics["val/mask_iou/ground_truth/box"]
    assert metrics["perf/images_per_s"]
    assert len(metrics["train/loss"]) == 2
    assert ("val/feature_mse" in metrics) == ("val/teacher_mask_iou/ground_truth/box" in metrics) == distilled
    assert [path.name for path in (folder / "media").iterdir()] == ["epoch_000.jpg"]
    check_checkpoint(folder, learner)
    capsys.readouterr()
    again = parsed(["fit", "-c", str(folder / "config.yaml")], capsys)  # what was resolved is a whole recipe
    assert (
        again["model"]["init_args"]["lr"]
        == yaml.safe_load((EXPERIMENTS / name).read_text())["model"]["init_args"]["lr"]
    )


@pytest.mark.parametrize(
    "precision",
    ["32-true", pytest.param("bf16-mixed", marks=pytest.mark.slow)],  # slow on a CPU without bf16
)
def test_switches(precision: str, tmp_path: Path, toy_folder: Path, toy_shards: Path) -> None:
    average = "--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging"
    switches = [f"--trainer.precision={precision}", "--model.gradient_checkpointing=true", "--model.neck=teacher"]
    more = [f"--model.teacher={toy_folder}", *switches, average, "--trainer.callbacks.decay=0.9"]
    folder = two_steps("toy/stage1.yaml", tmp_path, toy_shards, *more)
    student = load_segmenter(str(folder / "student"))
    assert student.config.neck == "teacher"
    # The checkpoint's weights are the averaged ones, which are those that were validated and saved.
    saved = check_checkpoint(folder, student)["state_dict"]
    assert all(torch.equal(saved[f"learner.{name}"], value) for name, value in student.state_dict().items())
