"""Stage 1 as a module: what a step returns, what it trains, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from tiny import tiny_sam
from torch.utils.data import DataLoader

from phd.batches import ImageBatch
from phd.contract import Contract
from phd.errors import UserError
from phd.outputs import StepOutput
from phd.stages import EncoderDistill, Phase, PromptMix
from phd.stages.encoder_distill import Losses

FEATURES = ("feature_mse", "feature_relative_mse", "feature_cosine")
MASKS = ("focal", "cross_entropy", "dice", "iou")
BOXES_ONLY = PromptMix(box=1.0, point=0.0, mask=0.0, box_jitter=0.0)


def make(teacher: Path | str, *phases: Phase, **settings: Any) -> EncoderDistill:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        losses = Losses(list(phases)) if phases else None
        return EncoderDistill(teacher=str(teacher), pretrained=False, losses=losses, **settings).train()


def at(stage: EncoderDistill, step: int, of: int) -> EncoderDistill:
    """Pretend to be a trainer before this step; it can answer questions, but not log."""
    trainer = SimpleNamespace(
        global_step=step,
        estimated_stepping_batches=of,
        global_rank=0,
        fit_loop=SimpleNamespace(total_batch_idx=step - 1),
    )
    stage.trainer = trainer
    return stage


def rectangles(contract: Contract, hollow: bool = False, filled: tuple[int, int] | None = None) -> ImageBatch:
    """Two images with two and one rectangle on noise; hollow ones have the same boxes."""
    side, cells = contract.image_size, contract.mask_size
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(2, 3, cells, cells, dtype=torch.uint8)
    corners = [(0, 0, 0.1, 0.1, 0.4, 0.4), (0, 1, 0.2, 0.05, 0.45, 0.3), (1, 0, 0.05, 0.2, 0.3, 0.45)]
    for image, place, *share in corners:
        top, left, bottom, right = (int(value * cells) for value in share)
        masks[image, place, top:bottom, left:right] = 1
        if hollow:
            masks[image, place, top + 2 : bottom - 2, left + 2 : right - 2] = 0
        pixels = side // cells
        images[image, :, top * pixels : bottom * pixels, left * pixels : right * pixels] //= 4
    content = torch.tensor([filled or (side, side)] * 2)
    return ImageBatch(images, content, masks, masks.flatten(2).any(2), ["a", "b"])


def same(one: StepOutput, two: StepOutput) -> bool:
    return one.terms.keys() == two.terms.keys() and all(torch.equal(one.terms[n], two.terms[n]) for n in one.terms)


def first_layer(stage: EncoderDistill) -> torch.nn.Parameter:
    return next(iter(stage.learner.trunk.parameters()))


@pytest.fixture(scope="module")
def stage(toy_folder: Path) -> EncoderDistill:
    """Shared by tests that change no weight; each sets the phases it needs."""
    return make(toy_folder)


@pytest.fixture
def batch(stage: EncoderDistill) -> ImageBatch:
    return rectangles(stage.contract)


def test_a_step_is_pure(stage: EncoderDistill, batch: ImageBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    def log(*_: object, **__: object) -> None:
        raise AssertionError("a step must not log")

    monkeypatch.setattr(stage, "log", log)
    monkeypatch.setattr(stage, "log_dict", log)
    stage.losses = Losses([Phase(feature_relative_mse=1.0, dice=1.0, focal=1.0, iou=1.0, rounds=1)])
    at(stage, 3, 10)
    weights = [parameter.detach().clone() for parameter in stage.learner.parameters()]
    randomness, image = torch.get_rng_state(), batch.images.clone()
    one, two = stage.step(batch, train=True), stage.step(batch, train=True)
    assert same(one, two)
    assert torch.equal(one.loss, two.loss)
    assert torch.equal(torch.get_rng_state(), randomness)
    assert torch.equal(batch.images, image)
    assert all(torch.equal(old, new) for old, new in zip(weights, stage.learner.parameters(), strict=True))
    later = at(stage, 4, 10).step(batch, train=True)
    assert torch.equal(one.terms["feature_relative_mse"], later.terms["feature_relative_mse"])
    assert not torch.equal(one.terms["dice"], later.terms["dice"])  # the next batch gets other prompts


@pytest.mark.parametrize(("progress", "number"), [(0.0, 0), (0.49, 0), (0.5, 1), (0.74, 1), (0.75, 2), (0.999, 2)])
def test_phases_take_their_share(progress: float, number: int) -> None:
    losses = Losses([Phase(share=2, dice=1.0), Phase(share=1, focal=1.0), Phase(share=1, iou=1.0)])
    assert losses.at(progress) is losses.phases[number]


def test_a_fit_changes_phase_and_keeps_the_heads_as_they_are(toy_folder: Path) -> None:
    class Watch(L.Callback):
        def __init__(self) -> None:
            self.terms: list[set[str]] = []
            self.calm: list[bool] = []

        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, *_: object) -> None:
            self.terms.append(set(outputs["output"].terms))
            learner, teacher = pl_module.learner, pl_module.teacher.model
            heads = any(module.training for module in learner.heads.modules())
            self.calm.append(learner.trunk.training and not heads and not teacher.training)

    stage = make(toy_folder, Phase(share=3, feature_mse=1.0), Phase(share=1, dice=1.0), branches=["tracker"])
    heads = {name: value.clone() for name, value in stage.learner.heads.state_dict().items()}
    trunk = first_layer(stage).detach().clone()
    watch, batch = Watch(), rectangles(stage.contract)
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_model_summary", "enable_progress_bar"], False)
    settings = {"accelerator": "cpu", "max_epochs": 2, "val_check_interval": 1, "num_sanity_val_steps": 0}
    trainer = L.Trainer(callbacks=[watch], **settings, **quiet)
    loader = DataLoader([batch, batch], batch_size=None)
    trainer.fit(stage, loader, DataLoader([batch], batch_size=None))
    assert watch.terms == [{"feature_mse"}] * 3 + [{"dice"}]
    assert watch.calm == [True] * 4  # a validation puts the whole module back into train mode
    assert all(torch.equal(heads[name], value) for name, value in stage.learner.heads.state_dict().items())
    assert not torch.equal(trunk, first_layer(stage))


@pytest.mark.parametrize("term", FEATURES + MASKS)
def test_each_term_alone_reaches_the_first_layer(stage: EncoderDistill, batch: ImageBatch, term: str) -> None:
    stage.losses = Losses([Phase(**{term: 3.0})])
    output = at(stage, 0, 1).step(batch, train=True)
    assert set(output.terms) == {term}
    assert torch.allclose(output.loss, 3 * output.terms[term])
    stage.learner.zero_grad(set_to_none=True)
    output.loss.backward()
    gradient = first_layer(stage).grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
    assert all(parameter.grad is None for parameter in stage.learner.heads.parameters())
    assert all(parameter.grad is None for parameter in stage.teacher.model.parameters())


def test_the_loss_is_the_weighted_sum(stage: EncoderDistill, batch: ImageBatch) -> None:
    weights = {"feature_mse": 2.0, "feature_cosine": 0.5, "focal": 20.0, "dice": 1.0}
    stage.losses = Losses([Phase(**weights)])
    output = at(stage, 0, 1).step(batch, train=True)
    assert output.terms.keys() == weights.keys()
    assert torch.allclose(output.loss, sum(weights[name] * value for name, value in output.terms.items()))
    assert sum(len(prediction.prompts) for prediction in output.masks.values()) == 3  # one prompt for each instance


@pytest.mark.parametrize("train_heads", [False, True])
def test_what_is_trained(toy_folder: Path, train_heads: bool) -> None:
    stage = make(toy_folder, Phase(dice=1.0, iou=1.0), train_heads=train_heads)
    at(stage, 0, 10).step(rectangles(stage.contract), train=True).loss.backward()
    decoder = stage.learner.heads.tracker_model.mask_decoder
    assert all(parameter.requires_grad == train_heads for parameter in decoder.parameters())
    assert any(parameter.grad is not None for parameter in decoder.parameters()) == train_heads
    # What no prompt reads waits for its stage.
    assert not any(parameter.requires_grad for parameter in stage.learner.heads.detector_model.parameters())
    optimised = {id(p) for group in stage.configure_optimizers()["optimizer"].param_groups for p in group["params"]}
    assert optimised == {id(p) for p in stage.learner.parameters() if p.requires_grad}
    stage.on_train_epoch_start()
    assert stage.learner.heads.training == train_heads


def test_a_batch_without_any_instance(stage: EncoderDistill, batch: ImageBatch) -> None:
    batch.masks.zero_()
    batch.valid.zero_()
    stage.losses = Losses([Phase(dice=1.0, focal=20.0, rounds=1)])
    output = at(stage, 0, 1).step(batch, train=True)
    assert output.loss == 0
    assert output.masks == {}
    stage.learner.zero_grad(set_to_none=True)
    output.loss.backward()  # on many processes everyone must take part
    missing = [name for name, p in stage.learner.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    stage.losses = Losses([Phase(feature_mse=1.0, dice=1.0)])
    assert stage.step(batch, train=True).loss > 0
    assert stage.step(batch, train=False).loss.isfinite()


def test_who_supervises(toy_folder: Path) -> None:
    def terms(supervision: str, hollow: bool) -> dict[str, torch.Tensor]:
        stage.supervision = supervision
        return at(stage, 0, 1).step(rectangles(stage.contract, hollow), train=True).terms

    stage = make(toy_folder, Phase(dice=1.0, cross_entropy=1.0), prompts=BOXES_ONLY)
    by_teacher, by_truth = terms("teacher", hollow=False), terms("ground_truth", hollow=False)
    both = terms("both", hollow=False)
    # The same boxes around other masks: only the ground truth sees the difference.
    assert all(torch.equal(by_teacher[name], value) for name, value in terms("teacher", hollow=True).items())
    assert all(by_truth[name] != value for name, value in terms("ground_truth", hollow=True).items())
    assert all(torch.allclose(both[name], (by_teacher[name] + by_truth[name]) / 2) for name in both)


def test_ground_truth_needs_no_teacher(toy_folder: Path) -> None:
    phase = Phase(dice=1.0, rounds=1)
    stage = make("", phase, segmenter=str(toy_folder), supervision="ground_truth", train_heads=True)
    output = at(stage, 0, 1).step(rectangles(stage.contract), train=True)
    assert output.teacher_features is None
    assert all(prediction.teacher is None for prediction in output.masks.values())
    output.loss.backward()
    assert first_layer(stage).grad.abs().max() > 0
    names = list(stage.state_dict())
    assert len(names) == len(set(names))
    assert all(name.startswith("learner.model.") for name in names)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "model.teacher: empty, but supervision is 'teacher'"),
        ({"supervision": "both"}, "model.teacher: empty, but supervision is 'both'"),
        ({"supervision": "ground_truth", "weights": {"dice": 1.0}}, "no contract to build a new student to"),
        ({"supervision": "ground_truth", "weights": {"feature_mse": 1.0}}, "there is no teacher; set it to 0"),
        ({"supervision": "ground_truth", "weights": {"feature_cosine": 1.0}}, "there is no teacher; set it to 0"),
        ({"supervision": "ground_truth"}, "there is no teacher; set it to 0"),  # the default phases have features
        (
            {"supervision": "ground_truth", "weights": {"dice": 1.0}, "segmenter": "a", "init_from": "b"},
            "model.segmenter and model.init_from are both set",
        ),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    others = {name: value for name, value in settings.items() if name != "weights"}
    with pytest.raises(UserError, match=message):
        make("", *([Phase(**settings["weights"])] if "weights" in settings else []), **others)


def test_validation_is_deterministic(stage: EncoderDistill, batch: ImageBatch) -> None:
    stage.eval()
    stage.losses = Losses([Phase(feature_mse=1.0)])
    with torch.no_grad():
        one, two = at(stage, 0, 9).step(batch, train=False), at(stage, 8, 9).step(batch, train=False)
    stage.train()
    assert same(one, two)
    assert set(one.terms) == {*FEATURES, "focal", "dice", "iou"}  # whatever the phase weighs
    assert {kind: len(prediction.prompts) for kind, prediction in one.masks.items()} == {"box": 3, "point": 3}
    assert all(torch.equal(one.masks[kind].student, two.masks[kind].student) for kind in one.masks)
    assert one.masks["box"].prompts.boxes[2].tolist() == [12, 2, 28, 18]  # cells 6 to 14 by 1 to 9, two pixels each


def test_padding_does_not_count(tmp_path: Path) -> None:
    tiny_sam().save(tmp_path / "sam")
    stage = make(tmp_path / "sam", Phase(feature_mse=1.0, feature_cosine=1.0, dice=1.0), prompts=BOXES_ONLY)
    at(stage, 0, 1)
    batch = rectangles(stage.contract, filled=(128, 64))
    output = stage.step(batch, train=True)
    batch.images[..., 64:] = 255 - batch.images[..., 64:]
    assert same(output, stage.step(batch, train=True))

    mine, theirs, phase = output.student_features, output.teacher_features, stage.losses.phases[0]
    before = stage.feature_terms(mine, theirs, batch.content, phase, train=True)
    theirs.tracker[0][..., 4:] += 7  # 8 cells over 128 pixels: the right half is padding
    assert all(torch.equal(stage.feature_terms(mine, theirs, batch.content, phase, True)[n], before[n]) for n in before)
    theirs.tracker[0][..., :1] += 7
    assert all(stage.feature_terms(mine, theirs, batch.content, phase, True)[n] != before[n] for n in before)


def test_switches_change_no_loss(stage: EncoderDistill, batch: ImageBatch, toy_folder: Path) -> None:
    phase = Phase(feature_mse=1.0, dice=1.0)
    stage.losses = Losses([phase])
    plain = at(stage, 0, 1).step(batch, train=True)
    stage.learner.zero_grad(set_to_none=True)
    plain.loss.backward()
    frugal = make(toy_folder, phase, gradient_checkpointing=True)
    output = at(frugal, 0, 1).step(batch, train=True)
    output.loss.backward()
    assert same(plain, output)
    assert torch.allclose(first_layer(frugal).grad, first_layer(stage).grad, rtol=1e-3, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        half = stage.step(batch, train=True)
    assert half.loss.dtype == torch.float32
    assert torch.allclose(half.loss, plain.loss, rtol=0.1)


def test_one_batch_can_be_learnt(toy_folder: Path) -> None:
    stage = make(toy_folder, Phase(feature_relative_mse=1.0, feature_cosine=1.0), branches=["tracker"], lr=5e-3)
    batch = rectangles(stage.contract)
    optimizer = at(stage, 0, 100).configure_optimizers()["optimizer"]
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = stage.step(batch, train=True).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
