"""Every stage trains under bf16 autocast, as on a GPU, where parts that answer in fp32 meet parts that do not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_experiments import columns, two_steps
from test_joint import Loss
from test_memory_distill import make
from tiny_clips import MEMORY, clip_shards, squares
from tiny_concepts import concept_shards

from phd.heads.memory.compressors import CompressorKind
from phd.loading import load_segmenter
from phd.stages import ClipMix

BF16 = "--trainer.precision=bf16-mixed"
MIX = "{mask: 0.4, point: 0.3, box: 0.3, corrected_frames: 1, clicks: 1}"


def check_run(folder: Path, *metrics: str) -> None:
    found = columns(folder)
    assert len(found["train/loss"]) == 2
    assert all(math.isfinite(value) for name in ("train/loss", *metrics) for value in found[name])
    weights = load_segmenter(str(folder / "student")).state_dict().values()
    assert {value.dtype for value in weights if value.is_floating_point()} == {torch.float32}


@pytest.mark.slow
def test_stage_1(tmp_path: Path, toy_shards: Path, toy_folder: Path) -> None:
    check_run(two_steps("toy/stage1.yaml", tmp_path, toy_shards, f"--model.teacher={toy_folder}", BF16), "val/mask_iou")


def test_stage_2(tmp_path: Path, toy_folder: Path, student_folder: Path) -> None:
    shards = clip_shards(tmp_path / "shards", videos=8)
    more = [f"--model.teacher={toy_folder}", f"--model.init_from={student_folder}", f"--model.prompts={MIX}"]
    more += ["--data.clip_length=3", "--model.memory={kind: both, num_global: 3, windows: 2}", BF16]
    check_run(two_steps("toy/stage2.yaml", tmp_path / "run", shards, *more), "val/jf", "val/teacher_jf")


def test_stage_3(tmp_path: Path, toy_folder: Path, student_folder: Path) -> None:
    shards = concept_shards(tmp_path / "shards")
    more = [f"--model.teacher={toy_folder}", f"--model.init_from={student_folder}", "--data.batch_size=1", BF16]
    check_run(two_steps("toy/stage3.yaml", tmp_path / "run", shards, *more), "val/cgf1", "val/teacher_cgf1")


@pytest.mark.parametrize("kind", ["none", "flat", "spatial", "both", "pool", "state_space"])
def test_gradients_of_every_memory_are_those_of_fp32(
    kind: CompressorKind, toy_folder: Path, student_folder: Path
) -> None:
    memory = replace(MEMORY, kind=kind)
    given = ClipMix(mask=1.0, point=0.0, box=0.0, corrected_frames=0)  # draws nothing
    stage = make(student_folder, toy_folder, memory=memory, prompts=given).eval()
    batch = squares(stage.contract, (2, 1), frames=3)
    found = []
    for enabled in (False, True):
        stage.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = Loss(stage)(batch)  # type: ignore[arg-type]
        loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in stage.parameters() if p.grad is not None]))
    assert found[1].dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(*found, dim=0) > 0.9
