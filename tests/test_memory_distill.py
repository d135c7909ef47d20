"""Stage 2: what it trains, what it compares with, and a fit through the command line."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import tiny_sam
from tiny_clips import MEMORY, squares
from torch import Tensor

from phd.batches import ClipBatch
from phd.errors import UserError
from phd.stages import ClipMix, MemoryDistill, TrackingLosses

TERMS = {"focal", "dice", "iou", "object_score", "feature_mse", "memory_mse"}
CLICKS = ClipMix(mask=0.0, point=0.0, box=1.0, clicks=1)


def make(student: Path | str = "", teacher: Path | str = "", **settings: Any) -> MemoryDistill:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stage = MemoryDistill(init_from=str(student), teacher=str(teacher), **settings)
    loop = SimpleNamespace(total_batch_idx=-1)
    stage.trainer = SimpleNamespace(global_step=0, estimated_stepping_batches=1, global_rank=0, fit_loop=loop)  # type: ignore[assignment]
    # The object score of random weights must not hide the masks.
    with torch.no_grad():
        for model in (stage.learner, *([stage.teacher.model] if stage.teacher else [])):
            model.heads.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(5.0)
    return stage


@pytest.fixture(scope="module")
def stage(student_folder: Path, toy_folder: Path) -> MemoryDistill:
    return make(student_folder, toy_folder, memory=MEMORY)


@pytest.fixture(scope="module")
def batch(stage: MemoryDistill) -> ClipBatch:
    return squares(stage.contract, (2, 1), frames=3)


def trained(stage: MemoryDistill) -> set[str]:
    return {name for name, parameter in stage.learner.named_parameters() if parameter.requires_grad}


def gradients(stage: MemoryDistill, batch: ClipBatch) -> dict[str, Tensor]:
    stage.zero_grad(set_to_none=True)
    stage.step(batch, train=True).loss.backward()
    return {name: p.grad for name, p in stage.learner.named_parameters() if p.grad is not None}


def test_a_step(stage: MemoryDistill, batch: ClipBatch) -> None:
    stage.learner.train()
    stage.settle_modes()
    before = {name: value.clone() for name, value in stage.learner.state_dict().items()}
    output = stage.step(batch, train=True)
    assert set(output.terms) == TERMS
    weights = asdict(TrackingLosses())
    expected = sum(weights[name] * float(value.detach()) for name, value in output.terms.items())
    assert float(output.loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert output.terms["memory_mse"] > 0
    assert output.batch_size == 6
    clip = output.clip
    assert clip is not None
    assert clip.student.shape == clip.target.shape == (3, 3, 32, 32)
    assert clip.teacher is not None
    assert clip.clip_index.tolist() == [0, 0, 1]
    # The frozen image encoder neither moves nor learns, in train mode too.
    assert all(torch.equal(before[name], value) for name, value in stage.learner.state_dict().items())
    found = gradients(stage, batch)
    assert found.keys() <= trained(stage)
    assert stage.teacher is not None
    assert all(parameter.grad is None for parameter in stage.teacher.model.parameters())
    parts = ("compressor.latents_2d", "memory_attention", "memory_encoder", "mask_decoder", "object_pointer_proj")
    for part in (*parts, "memory_temporal_positional_encoding"):
        assert any(part in name and bool(grad.any()) for name, grad in found.items()), part


def test_what_is_trained(stage: MemoryDistill) -> None:
    names = trained(stage)
    assert all(name.startswith(("heads.compressor.", "heads.tracker_model.")) for name in names)
    assert not any("prompt_encoder" in name for name in names)
    optimised = stage.learner.heads.track_parameters()
    assert len(names) == len(optimised) == len({id(parameter) for parameter in optimised})


def test_the_inherited_parts_may_learn_more_slowly(student_folder: Path, toy_folder: Path) -> None:
    stage = make(student_folder, toy_folder, memory=MEMORY, lr=0.4, weight_decay=0.2, inherited_rate=0.25)
    names = {id(parameter): name for name, parameter in stage.learner.named_parameters()}
    found = [(names[id(each)], group, each) for group in stage.optimised_groups() for each in group["params"]]
    assert {name for name, _, _ in found} == trained(stage)
    assert len(found) == len(trained(stage))
    for name, group, parameter in found:
        assert group["lr"] == (0.4 if name.startswith("heads.compressor.") else 0.1)
        assert group["weight_decay"] == (0.2 if parameter.ndim > 1 else 0.0)


def test_the_compressor_alone_may_learn(student_folder: Path, toy_folder: Path, batch: ClipBatch) -> None:
    stage = make(student_folder, toy_folder, memory=MEMORY, inherited_rate=0.0)
    assert trained(stage)
    assert all(name.startswith("heads.compressor.") for name in trained(stage))
    assert gradients(stage, batch).keys() == trained(stage)
    empty = replace(batch, valid=torch.zeros_like(batch.valid))
    assert not any(gradient.any() for gradient in gradients(stage, empty).values())
    with pytest.raises(UserError, match="dense memory has nothing else to train"):
        make(student_folder, toy_folder, inherited_rate=0.0)


def test_a_still_uses_the_first_frame_alone(student_folder: Path, toy_folder: Path, batch: ClipBatch) -> None:
    stage = make(student_folder, toy_folder, memory=MEMORY, prompts=ClipMix(mask=0.0, clicks=1, stills=0.99))
    output = stage.step(batch, train=True)
    assert output.batch_size == len(batch)
    assert output.clip is not None
    assert output.clip.student.shape[0] == 1
    assert float(output.terms["memory_mse"]) == 0
    found = gradients(stage, batch)
    assert found["heads.tracker_model.mask_decoder.mask_tokens.weight"].abs().sum() > 0
    assert not any("memory_attention" in name or "compressor" in name for name in found)
    assert stage.step(batch, train=False).batch_size == 3 * len(batch)


def test_a_lead_in(student_folder: Path, toy_folder: Path, stage: MemoryDistill) -> None:
    batch = squares(stage.contract, (2, 1), frames=5)
    led = make(student_folder, toy_folder, memory=MEMORY, lead_in=3, prompts=ClipMix(mask=1.0, point=0.0, box=0.0))
    sizes = set()
    for seen in range(8):
        led.trainer.fit_loop.total_batch_idx = seen - 1
        output = led.step(batch, train=True)
        sizes.add(output.batch_size)
        assert output.clip is not None
        assert output.batch_size == 2 * len(output.clip.student)
        assert output.terms["memory_mse"] > 0
        assert torch.isfinite(output.loss)
    assert sizes <= {4, 6, 8, 10}
    assert len(sizes) > 2
    assert led.step(batch, train=False).batch_size == 10
    with pytest.raises(UserError, match=r"model.lead_in is 3, but a clip has 4 frames \(data.clip_length\)"):
        led.step(batch.beginning(4), train=True)


def test_validation_is_repeatable_and_tracks_from_the_first_mask(stage: MemoryDistill, batch: ClipBatch) -> None:
    stage.learner.eval()
    with torch.no_grad():
        first, second = (stage.step(batch, train=False) for _ in range(2))
    assert first.clip is not None
    assert second.clip is not None
    assert torch.equal(first.clip.student, second.clip.student)
    assert torch.equal(first.clip.student[0] > 0, first.clip.target[0])
    assert first.terms.keys() == second.terms.keys() == TERMS


def test_an_object_in_a_frame_without_ground_truth_teaches_nothing(
    student_folder: Path, toy_folder: Path, batch: ClipBatch
) -> None:
    masks, labelled = batch.masks.clone(), batch.labelled.clone()
    labelled[:, 2] = False
    masks[:, 2] = 1 - masks[:, 2]

    def terms(supervision: Any, masks: Tensor) -> dict[str, float]:
        stage = make(student_folder, toy_folder, memory=MEMORY, supervision=supervision)
        stage.learner.eval()
        with torch.no_grad():
            output = stage.step(replace(batch, masks=masks, labelled=labelled), train=False)
        return {name: float(value) for name, value in output.terms.items()}

    assert terms("ground_truth", masks) == terms("ground_truth", batch.masks)
    assert terms("ground_truth", masks) != terms("teacher", masks)


def test_a_batch_without_objects(stage: MemoryDistill, batch: ClipBatch) -> None:
    empty = replace(batch, valid=torch.zeros_like(batch.valid))
    found = gradients(stage, empty)
    assert len(found) == 1  # enough for a backward pass; a zero gradient elsewhere would let weights decay
    assert not any(grad.any() for grad in found.values())
    assert stage.step(empty, train=False).clip is None


@pytest.mark.parametrize("rollout", ["own", "teacher", "ground_truth"])
def test_rollouts(rollout: Any, student_folder: Path, toy_folder: Path, batch: ClipBatch) -> None:
    stage = make(student_folder, toy_folder, memory=MEMORY, rollout=rollout, prompts=CLICKS)
    stage.learner.eval()
    with torch.no_grad():
        loss = stage.step(batch, train=True).loss
        others = [make(student_folder, toy_folder, memory=MEMORY, prompts=CLICKS)]
        others[0].learner.eval()
        own = others[0].step(batch, train=True).loss
    assert (float(loss) == pytest.approx(float(own), rel=1e-6)) == (rollout == "own")


def test_long_clips_learn_without_the_teacher(student_folder: Path, toy_folder: Path, batch: ClipBatch) -> None:
    stage = make(student_folder, toy_folder, memory=MEMORY, teacher_frames=2, supervision="teacher")
    assert stage.step(batch, train=True).terms.keys() == {"focal", "dice", "iou", "object_score"}
    assert stage.step(batch, train=False).terms.keys() == TERMS
    short = squares(stage.contract, (1,), frames=2)
    assert stage.step(short, train=True).terms.keys() == TERMS


def test_ground_truth_alone_trains_any_tracker(toy_folder: Path, batch: ClipBatch) -> None:
    stage = make(segmenter=str(toy_folder), supervision="ground_truth", prompts=CLICKS, truncate=1)
    found = gradients(stage, batch)
    assert any("memory_attention" in name for name in found)
    assert not any("vision_encoder" in name or "tracker_neck" in name for name in found)
    assert stage.step(batch, train=True).terms.keys() == {"focal", "dice", "iou", "object_score"}


def test_a_memory_that_is_there_is_kept(stage: MemoryDistill, tmp_path: Path) -> None:
    stage.learner.save(tmp_path / "student")  # type: ignore[operator]
    latents = stage.learner.heads.compressor.latents_1d
    for memory in (None, MEMORY):
        again = make(tmp_path / "student", supervision="ground_truth", memory=memory)
        assert torch.equal(again.learner.heads.compressor.latents_1d, latents)
    other = make(tmp_path / "student", supervision="ground_truth", memory=replace(MEMORY, num_global=2))
    assert other.learner.heads.compressor.num_tokens == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"supervision": "ground_truth"}, "model.init_from: empty"),
        ({"segmenter": "toy-random"}, "model.teacher: empty, but model.supervision is 'both'"),
        (
            {"segmenter": "toy-random", "supervision": "ground_truth", "rollout": "teacher"},
            "model.rollout is 'teacher'",
        ),
        (
            {"segmenter": "toy-random", "supervision": "ground_truth", "losses": TrackingLosses()},
            r"model\.losses\.feature_mse or losses\.memory_mse",
        ),
        ({"segmenter": "toy-random", "supervision": "ground_truth", "truncate": 0}, "model.truncate is 0"),
        ({"segmenter": "toy-random", "supervision": "ground_truth", "lead_in": -1}, "model.lead_in is -1"),
        ({"segmenter": "toy-random", "supervision": "ground_truth", "inherited_rate": -1.0}, "inherited_rate is -1.0"),
        ({"segmenter": "toy-random", "supervision": "ground_truth", "memory": MEMORY}, "model.memory: only a student"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**settings)


def test_sam_cannot_be_trained(tmp_path: Path) -> None:
    tiny_sam().save(tmp_path / "sam")
    with pytest.raises(UserError, match="SAM 1's family"):
        make(segmenter=str(tmp_path / "sam"), supervision="ground_truth")
