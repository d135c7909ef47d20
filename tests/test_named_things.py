"""Words for the things of the embedded world: pooled features, cross-entropy by kind, and a step."""

from __future__ import annotations

import math
from typing import Any
from unittest.mock import patch

import pytest
import torch

from phd.batches import ConceptBatch
from phd.errors import UserError
from phd.outputs import StepOutput
from phd.stages.encoder_distill import Losses, Phase
from phd.stages.named_things import NamedThings, as_image_batch, covered, pooled, words_loss
from phd.text.words import KINDS, WORD_VOCABULARY, word_ids

SIDE = 32


def a_batch() -> ConceptBatch:
    """Two images: "red ring" with two instances in the first, in the second a "star" and no "blue cross"."""
    masks = torch.zeros(3, SIDE // 2, SIDE // 2, dtype=torch.uint8)
    masks[0, :8, :8] = masks[1, 8:, 8:] = masks[2, :8, 8:] = 1
    return ConceptBatch(
        images=torch.randint(0, 255, (2, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
        content=torch.full((2, 2), SIDE),
        phrases=["red ring", "star", "blue cross"],
        image_index=torch.tensor([0, 1, 1]),
        exhaustive=torch.ones(3, dtype=torch.bool),
        hard=torch.zeros(3, dtype=torch.bool),
        phrase_index=torch.tensor([0, 0, 1]),
        boxes=torch.tensor([[0.0, 0, 16, 16], [16, 16, 32, 32], [16, 0, 32, 16]]),
        masks=masks,
        keys=["a", "b"],
    )


def test_the_kinds_hold_the_words() -> None:
    for kind, words in {"shape": "disk ring arrow beams", "colour": "red brown", "texture": "plain checks"}.items():
        first, end = KINDS[kind]
        assert all(first <= number < end for number in word_ids(words))
    assert KINDS["shape"][1] == KINDS["colour"][0]
    assert KINDS["colour"][1] == KINDS["texture"][0]


def test_pooled_features_are_means_over_the_instance() -> None:
    cells = torch.arange(2 * 16, dtype=torch.float32).view(2, 1, 4, 4)
    batch = a_batch()
    assert pooled(cells, covered(cells, batch), batch).squeeze(1).tolist() == [2.5, 12.5, 20.5]


def test_cells_at_the_edge_do_not_count() -> None:
    batch = a_batch()
    batch.masks[0, :8, 8:9] = 1  # a quarter of the next cells
    cells = torch.arange(2 * 16, dtype=torch.float32).view(2, 1, 4, 4)
    assert pooled(cells, covered(cells, batch), batch)[0].item() == 2.5
    # Of a thing that fills no cell the fullest ones do.
    batch.masks[0] = 0
    batch.masks[0, 0, 0] = 1
    assert pooled(cells, covered(cells, batch), batch)[0].item() == 0.0


def test_words_exclude_each_other_within_their_kind() -> None:
    logits = torch.zeros(3, WORD_VOCABULARY)
    logits[:, word_ids("ring")[0]] = math.log(9.0)
    terms = words_loss(logits, a_batch())
    shapes, colours = (KINDS[kind][1] - KINDS[kind][0] for kind in ("shape", "colour"))
    ring, star = math.log((shapes + 8) / 9), math.log(shapes + 8)
    assert terms["shape"].item() == pytest.approx((2 * ring + star) / 3)
    assert terms["colour"].item() == pytest.approx(math.log(colours))  # of the two red things
    assert terms["texture"].item() == 0.0  # nobody said one


def test_instances_are_the_masks_of_stage_1() -> None:
    images = as_image_batch(a_batch(), 2)
    assert images.valid.tolist() == [[True, True], [True, False]]
    assert torch.equal(images.masks[0], a_batch().masks[:2])
    assert as_image_batch(a_batch(), 1).valid.tolist() == [[True], [True]]


def build(**settings: Any) -> NamedThings:
    return NamedThings(
        segmenter="toy-random", image_size=SIDE, supervision="ground_truth", train_heads=True, **settings
    )


def test_a_phase_without_masks_teaches_the_trunk_alone() -> None:
    stage = build(losses=Losses([Phase()]))
    output = stage_step(stage)
    output.loss.backward()
    assert sorted(output.terms) == ["colour", "shape", "texture"]
    moved = {name.split(".")[0] for name, parameter in stage.named_parameters() if parameter.grad is not None}
    assert moved == {"learner", "words"}
    assert all(parameter.grad is None for parameter in stage.learner.neck.parameters())
    assert any(parameter.grad is not None for parameter in stage.learner.trunk.parameters())
    assert stage.words["tracker"].weight.grad is None


def test_a_phase_with_masks_teaches_both() -> None:
    stage = build(losses=Losses([Phase(cross_entropy=2.0, dice=1.0)]), names=0.5)
    output = stage_step(stage)
    masks = 2.0 * output.terms["cross_entropy"] + output.terms["dice"]
    words = torch.stack([output.terms[kind] for kind in KINDS]).mean()
    assert output.loss.item() == pytest.approx((masks + 0.5 * words).item(), rel=1e-5)
    output.loss.backward()
    assert stage.words["tracker"].weight.grad is not None


@pytest.mark.parametrize("masks", [False, True])
def test_borders_are_a_term_of_their_own(masks: bool) -> None:
    stage = build(losses=Losses([Phase(dice=1.0) if masks else Phase()]), names=0.0, extents=3.0)
    output = stage_step(stage)
    rest = output.terms["dice"] if masks else 0.0
    assert output.loss.item() == pytest.approx((rest + 3.0 * output.terms["extents"]).item(), rel=1e-5)
    output.loss.backward()
    assert stage.borders["tracker" if masks else "trunk"].weight.grad is not None
    assert any(parameter.grad is not None for parameter in stage.learner.trunk.parameters())


@pytest.mark.parametrize(("setting", "value"), [("names", -1), ("extents", -0.5), ("max_masks", 0)])
def test_bad_settings(setting: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"model\.{setting} is {value}"):
        build(**{setting: value})


def stage_step(stage: NamedThings) -> StepOutput:
    """A training step at the start of a run, without a trainer."""
    with patch.object(NamedThings, "progress", 0.0):
        return stage.step(a_batch(), train=True)
