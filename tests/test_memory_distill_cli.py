"""`phd fit` with the recipe of stage 2 on a few small videos, and two processes against one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_experiments import columns, two_steps
from test_joint import Loss, assert_equal_gradients, in_two_processes
from test_joint import gradients as all_gradients
from test_memory_distill import make
from tiny_clips import MEMORY, clip_shards, squares
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from phd.batches import ClipBatch
from phd.loading import load_segmenter
from phd.stages import ClipMix
from phd.student import Student

SMALL = ["--data.clip_length=3", "--model.memory={kind: both, num_global: 3, windows: 2}"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_shards(tmp_path_factory.mktemp("videos") / "shards", videos=8)


def test_a_student_learns_to_remember(tmp_path: Path, shards: Path, toy_folder: Path, student_folder: Path) -> None:
    more = [f"--model.teacher={toy_folder}", f"--model.init_from={student_folder}", *SMALL]
    folder = two_steps("toy/stage2.yaml", tmp_path, shards, *more)
    metrics = columns(folder)
    for name in ("val/jf", "val/j", "val/f", "val/teacher_jf"):
        assert 0 <= metrics[name][-1] <= 1, name
    assert metrics["val/memory_tokens"] == [7.0]
    for term in ("focal", "dice", "iou", "object_score", "feature_mse", "memory_mse"):
        assert len(metrics[f"train/loss/{term}"]) == 2, term
        assert metrics[f"val/loss/{term}"], term
    student, before = load_segmenter(str(folder / "student")), Student.from_pretrained(student_folder)
    assert isinstance(student, Student)
    assert student.heads.compressor.num_tokens == 7
    provenance = student.config.provenance
    assert provenance is not None
    assert provenance["stage"] == "MemoryDistill"
    assert provenance["metrics"]["val/jf"] == pytest.approx(metrics["val/jf"][-1], abs=1e-5)
    moved = {
        name
        for name, value in before.state_dict().items()
        if not torch.equal(value, student.state_dict().get(name, value))
    }
    assert any("memory_attention" in name for name in moved)
    assert not any(name.startswith(("trunk", "neck")) or "prompt_encoder" in name for name in moved)


@pytest.mark.parametrize("part", ["start", "small", "long", "apart", "192"])
def test_the_toy_learns_to_track(part: str, tmp_path: Path, shards: Path, toy_folder: Path) -> None:
    more = [f"--model.segmenter={toy_folder}", "--model.image_size=64", "--data.clip_length=3", "--data.batch_size=2"]
    more += ["--model.lead_in=1"] if part == "192" else []
    folder = two_steps(f"toy/teacher_memory_{part}.yaml", tmp_path, shards, *more)
    metrics = columns(folder)
    assert 0 <= metrics["val/jf"][-1] <= 1
    assert "val/teacher_jf" not in metrics
    assert metrics["val/memory_tokens"] == [64.0]
    assert "track" in load_segmenter(str(folder / "student")).verbs


@pytest.mark.slow
@pytest.mark.parametrize("objects", [(3, 1, 1, 0), (2, 1, 0, 0), (0, 0, 0, 0)], ids=["uneven", "none on one", "none"])
def test_gradients_are_those_of_the_joint_batch(
    objects: tuple[int, ...], tmp_path: Path, toy_folder: Path, student_folder: Path
) -> None:
    given = ClipMix(mask=1.0, point=0.0, box=0.0, corrected_frames=0)  # draws nothing, so that both sides ask the same
    stage = make(student_folder, toy_folder, memory=MEMORY, prompts=given).eval()
    batch = squares(stage.contract, objects, frames=3)

    def half(rank: int) -> ClipBatch:
        part = slice(2 * rank, 2 * rank + 2)
        names = ("frames", "content", "masks", "labelled", "valid", "void", "numbers", "keys")
        return replace(batch, **{name: getattr(batch, name)[part] for name in names})

    def work(rank: int) -> dict[str, Tensor | None]:
        wrapped = DistributedDataParallel(Loss(stage), find_unused_parameters=True)  # type: ignore[arg-type]
        for _ in range(2):
            stage.zero_grad(set_to_none=True)
            wrapped(half(rank)).backward()
        return all_gradients(stage)

    first, second = in_two_processes(work, tmp_path)
    Loss(stage)(batch).backward()  # type: ignore[arg-type]
    assert_equal_gradients(first, all_gradients(stage))
    assert all(value is None or torch.equal(value, second[name]) for name, value in first.items())
