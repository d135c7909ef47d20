"""`phd fit`: hand-over, the guard of --ckpt_path, and what it refuses before anything is written."""

from __future__ import annotations

import os
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
import yaml
from cli_runs import ROOT, files, refused, small
from lightning.fabric.utilities.warnings import PossibleUserWarning
from safetensors.torch import load_file
from tiny import tiny_sam

from phd.cli import main, run
from phd.stages import EncoderDistill

HAND_OVER = "--model.init_from"


class Other(EncoderDistill):
    """Another stage."""


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, toy_shards: Path, toy_folder: Path) -> Path:
    """The folder of a run of two steps."""
    folder = tmp_path_factory.mktemp("run")
    run(["fit", *small(toy_shards, folder, toy_folder)])
    return folder


def test_a_warning_is_one_line_without_a_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although Lightning puts in its own format, with file and line, when it is imported."""

    def warns(arguments: list[str]) -> None:
        warnings.warn("a data set\n without", PossibleUserWarning, stacklevel=1)
        warnings.warn("old", FutureWarning, stacklevel=1)

    monkeypatch.setattr("phd.commands.students.run", warns)
    warnings.simplefilter("always")
    run(["students"])
    user, programmer = capsys.readouterr().err.splitlines()[:2]
    assert user == "phd: warning: a data set without"
    assert "test_training_cli.py:" in programmer


def checkpoint_of(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"


def test_hand_over_starts_from_the_artefact(
    toy_shards: Path, toy_folder: Path, student_folder: Path, tmp_path: Path
) -> None:
    more = [f"{HAND_OVER}={student_folder}", "--model.lr=0", "--model.train_heads=true"]
    run(["fit", *small(toy_shards, tmp_path, toy_folder, *more)])
    before, after = (load_file(folder / "model.safetensors") for folder in (student_folder, tmp_path / "student"))
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items() if not name.endswith(statistics))
    assert any(not torch.equal(after[name], value) for name, value in before.items())  # it did run
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["model"]["init_args"]["init_from"] == str(
        student_folder
    )


def test_the_same_run_resumes(fitted: Path, toy_shards: Path, toy_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(fitted, folder)
    earlier = (folder / "metrics.csv").read_bytes()
    more = [f"--ckpt_path={checkpoint_of(folder)}"]
    run(["fit", *small(toy_shards, folder, toy_folder, *more, steps=4)])
    assert torch.load(checkpoint_of(folder), weights_only=True)["global_step"] == 4
    assert (folder / "metrics-1.csv").read_bytes() == earlier


@pytest.mark.parametrize("command", ["validate", "test"])
def test_a_checkpoint_is_measured(
    command: str, fitted: Path, toy_shards: Path, toy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [word for word in small(toy_shards, tmp_path, toy_folder) if "max_steps" not in word]
    limit = ["--trainer.limit_test_batches=1"]
    run([command, *arguments, *limit, f"--ckpt_path={checkpoint_of(fitted)}"])
    prefix = "val" if command == "validate" else "test"
    assert f"{prefix}/mask_iou/teacher/box" in capsys.readouterr().out
    assert not (tmp_path / "student").exists()


@pytest.mark.parametrize(
    ("flags", "setting"),
    [
        (["--model.lr=0.5"], "init_args.lr: 0.5 asked for, 0.002 in the checkpoint"),
        (["--model.backbone=repvit_m0_9"], "init_args.backbone: 'repvit_m0_9' asked for, 'efficientvit_b0' in the"),
        (["--model.supervision=both"], "init_args.supervision"),
        (["--model.prompts.centre=0.9"], "init_args.prompts.centre: 0.9 asked for, 0.5"),
        ([f"{HAND_OVER}=somewhere"], "init_args.init_from: 'somewhere' asked for, '' in the checkpoint"),
        (
            ["--model=test_training_cli.Other"],
            "class_path: test_training_cli.Other asked for, phd.stages.EncoderDistill",
        ),
    ],
)
def test_another_model_is_refused(
    flags: list[str],
    setting: str,
    fitted: Path,
    toy_shards: Path,
    toy_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = small(toy_shards, tmp_path, toy_folder, *flags, f"--ckpt_path={checkpoint_of(fitted)}", steps=4)
    said = refused(capsys, "fit", *words)
    assert f"--ckpt_path {checkpoint_of(fitted)}: it is a checkpoint of another model ({setting}" in said
    assert "use --model.init_from=FOLDER" in said
    assert files(tmp_path) == set()


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def bad_checkpoints(fitted: Path, folder: Path) -> dict[str, tuple[Path, str]]:
    """By kind: a file, and what is said about it."""
    whole = checkpoint_of(fitted).read_bytes()
    contents = {
        "garbage.ckpt": b"garbage" * 100,
        "empty.ckpt": b"",
        "cut.ckpt": whole[: len(whole) // 2],
        "trap.ckpt": pickle.dumps(Trap(folder / "sprung")),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    bad = {name: (folder / name, "not a checkpoint, or a damaged one") for name in contents}
    torch.save({"epoch": 1}, folder / "other.ckpt")
    torch.save([1, 2], folder / "list.ckpt")
    shutil.copy(fitted / "student" / "model.safetensors", folder / "weights.safetensors")
    for name in ("other.ckpt", "list.ckpt", "weights.safetensors"):
        bad[name] = folder / name, "not a checkpoint of `phd fit`"
    bad |= {name: (folder / name, "no such file") for name in ("missing.ckpt", "last")}
    return {**bad, "folder": (fitted / "student", "no such file")}


def test_bad_checkpoints_are_refused(
    fitted: Path, toy_shards: Path, toy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file, message in bad_checkpoints(fitted, tmp_path).values():
        words = small(toy_shards, tmp_path / "run", toy_folder, f"--ckpt_path={file}")
        assert f"--ckpt_path {file}: {message}" in refused(capsys, "fit", *words)
    assert not (tmp_path / "sprung").exists()
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, toy_shards: Path, toy_folder: Path) -> Path:
    """Folders that something is wrong with."""
    root = tmp_path_factory.mktemp("places")
    for name, left_out in (("no_weights", "*.safetensors"), ("no_processor", "*processor_config.json")):
        shutil.copytree(toy_folder, root / name, ignore=shutil.ignore_patterns(left_out))
    (root / "empty").mkdir()
    tiny_sam().save(root / "sam")
    shutil.copytree(toy_shards, root / "damaged")
    (root / "damaged" / "shard-000001.tar").write_bytes(b"short")
    return root


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.backbone=tinyvit_11"], "backbone 'tinyvit_11' does not exist; near ones: tinyvit_11m, tinyvit_21m"),
        (["--model.pretrained=true"], "set pretrained to false to start from random weights"),
        (["--model.teacher={tmp}/no_weights"], "{tmp}/no_weights: a teacher folder without weights"),
        (["--model.teacher={tmp}/no_processor"], "no_processor': no image processor"),
        (["--model.teacher={tmp}/empty"], "{tmp}/empty: no config.json"),
        (["--model.teacher=nobody/nothing"], "model 'nobody/nothing': neither a local folder nor a hub id"),
        (["--model.teacher="], "model.teacher: empty, but supervision is 'teacher'"),
        ([HAND_OVER + "={student}", "--model.teacher={tmp}/sam"], "were made for different contracts (family: sam3"),
        ([HAND_OVER + "={tmp}/empty"], "{tmp}/empty: no config.json"),
        ([HAND_OVER + "={student}", "--model.segmenter={student}"], "init_from are both set"),
        (["--model.prompts.box=-1"], "give shares of at least 0"),
        (["--data.root={tmp}/empty"], "{tmp}/empty: has no shards.json"),
        (["--data.root={tmp}/nowhere"], "{tmp}/nowhere: no such folder"),
        (["--data.max_shards=9"], "max_shards is 9 but the folder has 3 shards; ask for 1 to 3"),
        (["--data.val_samples=24"], "holds out 24 of its 24 samples"),
        (["--data.root={tmp}/damaged"], "{tmp}/damaged/shard-000001.tar: has"),
        (["--model.lrr=0.1"], "Option 'lrr' is not accepted"),
        (["--model.lr=much"], "\"lr\": Expected a <class 'float'>. Got value: much"),
        (["--model.supervision=nobody"], "Expected a typing.Literal['teacher', 'ground_truth', 'both']"),
        (["--wandb=perhaps"], "perhaps"),
        (["-c", "{tmp}/nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_bad_settings_and_inputs(
    flags: list[str],
    message: str,
    toy_shards: Path,
    toy_folder: Path,
    student_folder: Path,
    places: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [flag.format(tmp=places, student=student_folder) for flag in flags]
    said = refused(capsys, "fit", *small(toy_shards, tmp_path, toy_folder, *words))
    assert message.replace("{tmp}", str(places)) in said
    assert files(tmp_path) == set()


def test_a_batch_larger_than_the_data(
    toy_shards: Path, toy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "fit", *small(toy_shards, tmp_path, toy_folder, "--data.batch_size=64"))
    assert "20 samples are too few for a batch of 64" in said
    assert files(tmp_path) <= {"config.yaml"}


def test_without_recipe_it_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert "required: fit.data, fit.model" in refused(capsys, "fit")


def test_a_class_that_is_no_stage(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = str(ROOT / "experiments" / "trainer.yaml")
    said = refused(capsys, "fit", "-c", trainer, "--model=torch.nn.Linear", "--data=datamodules.SA1B")
    assert "does not correspond to a subclass of Stage" in said


def test_damage_within_a_shard_is_named_from_a_worker(
    toy_shards: Path, toy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(toy_shards, tmp_path / "damaged")
    for tar in (tmp_path / "damaged").glob("*.tar"):
        tar.write_bytes(tar.read_bytes().replace(b"\xff\xd8\xff", b"\x00\x00\x00"))
    more = [f"--data.root={tmp_path / 'damaged'}", "--data.num_workers=1"]
    said = refused(capsys, "fit", *small(toy_shards, tmp_path / "run", toy_folder, *more))
    assert f"{tmp_path / 'damaged'}/shard-00000" in said
    assert ".tar: sa_0000" in said
    assert not (tmp_path / "run" / "student").exists()


@pytest.mark.slow
def test_wandb_offline_keeps_the_run(
    toy_shards: Path, toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    main(["fit", *small(toy_shards, tmp_path, toy_folder, "--wandb=offline")])
    wandb.finish()  # a process of its own does so when it ends
    runs = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(runs) == 1
    assert b"val/mask_iou" in runs[0].read_bytes()
    assert list((tmp_path / "wandb").glob("offline-run-*/files/media/images/val/panels*"))
    assert {"metrics.csv", "config.yaml", "checkpoints/last.ckpt", "student/config.json"} <= files(tmp_path)
