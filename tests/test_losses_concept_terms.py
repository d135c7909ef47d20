"""How the terms of a detector are put together."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from concept_cases import detections, factors, normalisers, parameters, targets, terms_of
from pcs_cases import ABSENT, case_names, load_case

from phd.batches import ConceptBatch
from phd.errors import UserError
from phd.losses.matching import hungarian_match
from phd.stages.concept_losses import ConceptLosses, ConceptNormalisers, concept_counts
from phd.stages.concept_terms import concept_terms, phrase_targets

BOXES, SCORES, MASKS = ("box_l1", "box_giou"), ("score", "presence"), ("mask_focal", "mask_dice")
WEIGHTED = {
    "Boxes_core": {"box_l1": 5.0, "box_giou": 2.0},
    "IABCEMdetr_core": {"score": 20.0, "presence": 20.0},
    "Masks_core": {"mask_focal": 200.0, "mask_dice": 10.0},
}


@ABSENT
@pytest.mark.parametrize("name", case_names())
def test_the_whole_is_the_references(name: str) -> None:
    case = load_case(name)
    case.outputs.one_to_many = replace(case.outputs, presence=None, semantic=None)
    terms, total = terms_of(case.outputs, case.targets)
    weights, expected = ConceptLosses(), 0.0
    for suffix, branch, factor in (("", "o2o", 1.0), ("_one_to_many", "o2m", 2.0)):
        for core, parts in WEIGHTED.items():
            found = sum(
                getattr(weights, part) * terms[part + suffix].item() for part in parts if part + suffix in terms
            )
            assert found == pytest.approx(case.expected[branch][core], rel=1e-4, abs=1e-6)
            expected += factor * case.expected[branch][core]
    semantic = case.expected.get("semantic", {"loss_semantic_seg": 0.0, "loss_semantic_dice": 0.0})
    expected += 20 * semantic["loss_semantic_seg"] + 30 * semantic["loss_semantic_dice"]
    assert total.item() == pytest.approx(math.sqrt(len(case.targets)) * expected, rel=1e-4)


def test_the_names_of_all_terms() -> None:
    terms, _ = terms_of(detections(), targets([2, 0, 1, 0]), detections(7))
    layer = {*BOXES, "score"}
    expected = layer | {"presence", *MASKS, "semantic_focal", "semantic_dice"}
    expected |= {f"{name}_auxiliary" for name in (*layer, "presence")}
    expected |= {f"{name}_one_to_many" for name in (*layer, *MASKS)}
    expected |= {f"{name}_one_to_many_auxiliary" for name in layer}
    expected |= {"teacher_presence", "teacher_score", "teacher_focal", "teacher_dice"}
    assert set(terms) == expected
    assert all(value.ndim == 0 and torch.isfinite(value) for value in terms.values())


def test_earlier_layers_are_summed_each_with_its_own_matches() -> None:
    found, truth = detections(layers=2), targets([2, 0, 1, 0])
    terms, _ = terms_of(found, truth)
    alone = [terms_of(layer, truth)[0] for layer in found.auxiliary]
    for name in (*BOXES, *SCORES):
        total = sum(single[name].item() for single in alone)
        assert terms[f"{name}_auxiliary"].item() == pytest.approx(total, rel=1e-5)


def test_earlier_layers_of_the_branch_are_matched_one_to_one() -> None:
    found, truth = detections(layers=1), targets([2, 0, 1, 0])
    terms, _ = terms_of(found, truth)
    assert found.one_to_many is not None
    single, _ = terms_of(found.one_to_many.auxiliary[0], truth)
    for name in (*BOXES, "score"):
        assert terms[f"{name}_one_to_many_auxiliary"].item() == pytest.approx(single[name].item(), rel=1e-5)


def test_several_matches_on_earlier_layers_keep_the_scale_of_the_boxes() -> None:
    found, truth = detections(layers=1, branch=False), targets([2, 0, 1, 0])
    layer = found.auxiliary[0]
    once, _ = terms_of(found, truth)
    thrice, _ = terms_of(found, truth, auxiliary_matches=3)
    matches = hungarian_match(layer.logits, layer.boxes, truth.boxes, truth.counts, 3)
    assert len(matches.pair) == 9
    distance = (layer.boxes[matches.pair, matches.query] - truth.boxes[matches.target]).abs().sum()
    assert thrice["box_l1_auxiliary"].item() == pytest.approx(distance.item() / 9, rel=1e-5)
    assert thrice["box_l1"].item() == once["box_l1"].item()


def test_the_weighted_sum() -> None:
    found, truth = detections(), targets([2, 0, 1, 0])
    terms, total = terms_of(found, truth, auxiliary=0.5, one_to_many=3.0, phrase_scaling=False)
    weights, expected = ConceptLosses(), 0.0
    for name, value in terms.items():
        base = name.removesuffix("_auxiliary").removesuffix("_one_to_many")
        factor = (0.5 if "_auxiliary" in name else 1.0) * (3.0 if "_one_to_many" in name else 1.0)
        expected += getattr(weights, base) * factor * value.item()
    assert total.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", [*BOXES, *SCORES, *MASKS, "semantic_focal", "semantic_dice"])
def test_a_term_without_weight_is_not_computed(name: str) -> None:
    terms, _ = terms_of(detections(), targets([2, 0, 1, 0]), **{name: 0.0})
    assert terms
    assert not any(key.startswith(name) for key in terms)


def test_branches_without_weight_are_not_computed() -> None:
    terms, _ = terms_of(detections(), targets([2, 0, 1, 0]), auxiliary=0.0, one_to_many=0.0)
    assert set(terms) == {*BOXES, *SCORES, *MASKS, "semantic_focal", "semantic_dice"}


def test_where_gradients_flow() -> None:
    found = detections(grad=True)
    terms_of(found, targets([2, 0, 1, 0]))[1].backward()
    tensors = parameters(found)
    assert all(value.grad is not None and torch.isfinite(value.grad).all() for value in tensors.values())
    gradients = {name: value.grad for name, value in tensors.items() if value.grad is not None}
    for name, gradient in gradients.items():
        rows = gradient.flatten(1).abs().sum(1) if gradient.ndim > 1 else gradient.abs()
        # Phrases 1 and 3 are negatives: they teach presence, and nothing else.
        assert (rows[[1, 3]] > 0).all() if name.endswith("presence") else (rows[[1, 3]] == 0).all()
        # The branch may find no good query.
        assert (rows[[0, 2]] > 0).all() or name in ("one_to_many.boxes", "one_to_many.masks"), name


def test_presence_gets_its_gradient_from_its_own_loss_alone() -> None:
    found = detections(grad=True)
    terms, _ = terms_of(found, targets([2, 0, 1, 0]), presence=0.0)
    sum(terms.values(), torch.zeros(())).backward()
    assert found.presence is not None
    assert found.presence.grad is None
    assert found.logits.grad is not None


def test_a_phrase_that_is_not_exhaustive() -> None:
    truth = targets([2, 0], exhaustive=[False, False])
    found = detections(pairs=2, grad=True, branch=False, layers=0)
    terms_of(found, truth)[1].backward()
    assert found.presence is not None
    assert found.presence.grad is not None
    assert found.logits.grad is not None
    assert found.presence.grad[0] < 0  # seen, so it is there
    assert found.presence.grad[1] == 0  # not seen, which proves nothing
    matches = hungarian_match(found.logits, found.boxes, truth.boxes, truth.counts)
    taught = torch.zeros_like(found.logits, dtype=torch.bool)
    taught[matches.pair, matches.query] = True
    assert torch.equal(found.logits.grad != 0, taught)
    assert found.semantic is not None
    assert (found.semantic.grad == 0).all()  # the other instances are not annotated


@pytest.mark.parametrize("counts", [[0, 0, 0, 0], []])
def test_without_instances_nothing_is_infinite(counts: list[int]) -> None:
    found = detections(pairs=len(counts), grad=True)
    terms, total = terms_of(found, targets(counts), detections(9, pairs=len(counts)))
    total.backward()
    assert all(torch.isfinite(value) for value in terms.values())
    assert terms["box_l1"] == terms["score"] == terms["mask_dice"] == terms["semantic_dice"] == 0
    assert all(torch.isfinite(value.grad).all() for value in parameters(found).values() if value.grad is not None)


def test_masks_as_a_product_are_the_masks() -> None:
    truth, found = targets([2, 0, 1, 0]), detections(branch=False)
    product = factors(4)
    dense = torch.einsum("pqc,pchw->pqhw", product.embeddings, product.pixels)
    expected, _ = terms_of(replace(found, masks=dense), truth)
    terms, total = terms_of(replace(found, masks=product), truth)
    for name in MASKS:
        assert terms[name].item() == pytest.approx(expected[name].item(), rel=1e-5)
    total.backward()
    assert product.embeddings.grad is not None
    assert (product.embeddings.grad.flatten(1).abs().sum(1) > 0).tolist() == [True, False, True, False]


def test_two_processes_make_the_joint_batch() -> None:
    """Means of the two halves' terms are those of the whole, for unequal halves; what `joint_shares` would give."""
    found, truth = detections(branch=False), targets([3, 0, 1, 0])
    whole, _ = terms_of(found, truth)
    halves = [slice(0, 1), slice(1, 4)]
    parts = [
        replace(truth, counts=truth.counts[rows], exhaustive=truth.exhaustive[rows], boxes=boxes, masks=masks)
        for rows, boxes, masks in zip(halves, truth.boxes.split([3, 1]), truth.masks.split([3, 1]), strict=True)  # type: ignore[union-attr]
    ]
    counts = torch.stack([concept_counts(part) for part in parts])
    shares = counts / counts.mean(0).clamp(min=1e-9)
    total = dict.fromkeys(whole, 0.0)
    for rows, part, own, share in zip(halves, parts, counts, shares, strict=True):

        def cut(layer: object, rows: slice = rows) -> dict:
            names = ("logits", "boxes", "presence", "masks", "semantic")
            return {name: None if (value := getattr(layer, name)) is None else value[rows] for name in names}

        half = replace(found, **cut(found), auxiliary=[replace(layer, **cut(layer)) for layer in found.auxiliary])
        terms = concept_terms(half, part, ConceptLosses(), ConceptNormalisers.of(own, share))
        total = {name: total[name] + terms[name].item() / 2 for name in whole}
    assert total == pytest.approx({name: value.item() for name, value in whole.items()}, rel=1e-5)


def test_normalisers_count_what_the_terms_run_over() -> None:
    divisors = normalisers(targets([2, 0, 0, 1], exhaustive=[True, True, False, False]))
    counts = (divisors.instances, divisors.phrases, divisors.known, divisors.shown, divisors.teacher_objects)
    assert [value.item() for value in counts] == [3, 4, 3, 1, 1]  # nothing is divided by 0


def test_what_the_losses_lead_to() -> None:
    """Answers without a network, descended: presence, scores, boxes and masks become those of the targets."""
    found, truth = detections(branch=False, layers=0, grad=True), targets([2, 0, 1, 0])
    optimizer = torch.optim.Adam(parameters(found).values(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        terms_of(found, truth)[1].backward()
        optimizer.step()
    assert found.presence is not None
    assert (found.presence > 0).tolist() == truth.present.tolist()
    confident = found.logits.sigmoid() > 0.5
    assert confident[truth.present].sum(1).tolist() == [2, 1]
    matches = hungarian_match(found.logits, found.boxes, truth.boxes, truth.counts)
    assert confident[matches.pair, matches.query].all()
    assert (found.boxes[matches.pair, matches.query] - truth.boxes[matches.target]).abs().max() < 0.05
    assert truth.masks is not None
    agree = (found.masks_at(matches.pair, matches.query) > 0) == (truth.masks[matches.target] > 0)
    assert agree.float().mean() > 0.97


def test_targets_of_a_batch() -> None:
    batch = ConceptBatch(
        images=torch.zeros(2, 3, 100, 100, dtype=torch.uint8),
        content=torch.full((2, 2), 100),
        phrases=["cat", "dog", "red car"],
        image_index=torch.tensor([0, 0, 1]),
        exhaustive=torch.tensor([True, False, True]),
        hard=torch.zeros(3, dtype=torch.bool),
        phrase_index=torch.tensor([0, 2, 2]),
        boxes=torch.tensor([[10.0, 20.0, 30.0, 60.0], [0.0, 0.0, 100.0, 50.0], [50.0, 50.0, 60.0, 70.0]]),
        masks=torch.ones(3, 4, 4, dtype=torch.uint8),
    )
    truth = phrase_targets(batch, 100)
    assert truth.counts.tolist() == [1, 0, 2]
    assert truth.pair.tolist() == [0, 2, 2]
    assert truth.present.tolist() == [True, False, True]
    assert truth.boxes[0].tolist() == pytest.approx([0.2, 0.4, 0.2, 0.4])
    assert truth.boxes[1].tolist() == pytest.approx([0.5, 0.25, 1.0, 0.5])
    assert truth.exhaustive is batch.exhaustive


def test_weights_below_zero_are_refused() -> None:
    with pytest.raises(UserError, match=r"model\.losses\.presence is -1"):
        ConceptLosses(presence=-1.0)
    with pytest.raises(UserError, match="auxiliary_matches"):
        ConceptLosses(auxiliary_matches=0)
