"""What stage 3 asks beside phrases: exemplars that are drawn, and corrections of an answer, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from phd.concept_prompts import Exemplars
from phd.contract import Detections
from phd.errors import UserError
from phd.outputs import PhraseTargets
from phd.stages import ConceptMix
from phd.stages.concept_answers import found_instances, teacher_targets
from phd.stages.concept_prompts import ConceptPrompts, corrected_prompts, draw_concept_prompts, phrases_alone

SIZE = 100
# Two instances of phrase 0, none of 1 and 3, one of 2.
BOXES = torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.7, 0.7, 0.2, 0.4], [0.5, 0.5, 0.4, 0.4]])
EDGES = [[10.0, 10.0, 30.0, 30.0], [60.0, 50.0, 80.0, 90.0], [30.0, 30.0, 70.0, 70.0]]


def targets(exhaustive: tuple[bool, ...] = (True, True, True, True)) -> PhraseTargets:
    return PhraseTargets(torch.tensor([2, 0, 1, 0]), torch.tensor(exhaustive), BOXES)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def answer(boxes: list[list[list[float]]], scores: list[list[float]]) -> Detections:
    """Scores as given, for a phrase that is there for certain."""
    logits = torch.tensor(scores).logit()
    return Detections(logits, torch.tensor(boxes), torch.full((len(scores),), 30.0))


def test_shares_of_the_kinds() -> None:
    many = PhraseTargets(torch.tensor([1, 0] * 2000), torch.ones(4000, dtype=torch.bool), BOXES[:1].repeat(2000, 1))
    prompts = draw_concept_prompts(ConceptMix(0.5, 0.2, 0.3), many, SIZE, generator(0))
    assert prompts.exemplars is not None
    shown = prompts.exemplars.labels[:, 0] == 1
    assert not (shown | prompts.visual)[1::2].any()  # a phrase without instances has nothing to show
    assert prompts.visual[::2].float().mean().item() == pytest.approx(0.2, abs=0.03)
    assert (shown & ~prompts.visual)[::2].float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert (prompts.exemplars.labels[~shown] == -1).all()


def test_an_exemplar_is_one_of_the_phrases_own_instances() -> None:
    drawn = set()
    for seed in range(30):
        prompts = draw_concept_prompts(ConceptMix(0, 1, 1, box_jitter=0.0), targets(), SIZE, generator(seed))
        assert prompts.exemplars is not None
        boxes, labels = prompts.exemplars.boxes[:, 0], prompts.exemplars.labels[:, 0]
        assert labels.tolist() == [1, -1, 1, -1]
        assert boxes[2].tolist() == pytest.approx(EDGES[2])
        drawn.add(tuple(round(value) for value in boxes[0].tolist()))
    assert drawn == {tuple(round(value) for value in box) for box in EDGES[:2]}


def test_noise_moves_an_edge_within_limits() -> None:
    mix = ConceptMix(0, 0, 1, box_jitter=0.5, box_jitter_limit=4)
    moved = [draw_concept_prompts(mix, targets(), SIZE, generator(seed)).exemplars for seed in range(40)]
    distances = torch.stack([(m.boxes[2, 0] - torch.tensor(EDGES[2])).abs() for m in moved if m is not None])
    assert 1 < distances.mean() < 4
    assert distances.max() <= 4


def test_phrases_alone() -> None:
    for prompts in (phrases_alone(targets()), draw_concept_prompts(ConceptMix(1, 0, 0), targets(), SIZE, generator(0))):
        assert prompts.exemplars is None
        assert not prompts.visual.any()


def corrected(found: Detections, truth: PhraseTargets, before: Exemplars | None = None, seed: int = 0) -> Exemplars:
    visual = torch.tensor([False, False, True, False])
    prompts = corrected_prompts(ConceptPrompts(visual, before), found, truth, SIZE, generator(seed))
    assert torch.equal(prompts.visual, visual)
    assert prompts.exemplars is not None
    return prompts.exemplars


def query(*boxes: Tensor | list[float]) -> list[list[float]]:
    return [box.tolist() if isinstance(box, Tensor) else box for box in boxes]


FAR = [0.9, 0.1, 0.1, 0.1]


def test_a_missed_instance_and_a_false_positive() -> None:
    found = answer(
        [query(BOXES[0], FAR), query(FAR, FAR), query(BOXES[2], FAR), query(FAR, FAR)],
        [[0.9, 0.2], [0.4, 0.8], [0.9, 0.4], [0.1, 0.2]],
    )
    shown = corrected(found, targets())
    # Phrase 0 misses its second instance, 1 is absent and was answered, 2 is right, 3 is absent and was not answered.
    assert shown.labels[:, 0].tolist() == [1, 0, -1, -1]
    assert shown.boxes[0, 0].tolist() == pytest.approx(EDGES[1], abs=1e-4)
    assert shown.boxes[1, 0].tolist() == pytest.approx([85, 5, 95, 15], abs=1e-4)


def test_a_found_instance_needs_confidence_and_overlap() -> None:
    beside = [0.55, 0.5, 0.4, 0.4]  # IoU 0.78 with the instance of phrase 2
    off = [0.7, 0.5, 0.4, 0.4]  # IoU 1/3: neither a hit nor far enough away to be wrong
    for box, score, label in ((beside, 0.9, -1), (beside, 0.4, 1), (off, 0.9, 1)):
        found = answer(
            [query(BOXES[0], BOXES[1])] + [query(box, box)] * 3, [[0.9, 0.9], [0.1] * 2, [score] * 2, [0.1] * 2]
        )
        shown = corrected(found, targets())
        assert shown.labels[:, 0].tolist() == [-1, -1, label, -1]
        if label == 1:
            assert shown.boxes[2, 0].tolist() == pytest.approx(EDGES[2], abs=1e-4)


def test_what_is_not_annotated_whole_has_no_false_positive() -> None:
    found = answer([query(FAR)] * 4, [[0.9]] * 4)
    shown = corrected(found, targets((True, False, False, True)))
    assert shown.labels[1:, 0].tolist() == [-1, 1, 0]


def test_every_mistake_is_drawn_as_often() -> None:
    found = answer([query(FAR, FAR)] * 4, [[0.9, 0.1]] * 4)
    labels, boxes = [], set()
    for seed in range(300):
        shown = corrected(found, targets(), seed=seed)
        labels.append(int(shown.labels[0, 0]))
        boxes.add(tuple(round(value) for value in shown.boxes[0, 0].tolist()))
    assert labels.count(1) / 300 == pytest.approx(2 / 3, abs=0.1)  # two missed, one wrong
    assert len(boxes) == 3


def test_corrections_come_behind_what_was_shown() -> None:
    before = Exemplars(torch.zeros(4, 1, 4), torch.tensor([[1], [-1], [1], [-1]]))
    shown = corrected(answer([query(FAR)] * 4, [[0.1]] * 4), targets(), before)
    assert shown.labels.tolist() == [[1, 1], [-1, -1], [1, 1], [-1, -1]]


def test_nothing_to_correct_without_instances() -> None:
    truth = PhraseTargets(torch.tensor([0, 0]), torch.ones(2, dtype=torch.bool), torch.zeros(0, 4))
    prompts = corrected_prompts(
        phrases_alone(truth), answer([query(FAR)] * 2, [[0.9], [0.1]]), truth, SIZE, generator(0)
    )
    assert prompts.exemplars is not None
    assert prompts.exemplars.labels.tolist() == [[0], [-1]]


def test_what_the_teacher_finds_becomes_the_target() -> None:
    found = answer([query(BOXES[0], FAR, BOXES[1]), query(FAR, FAR, FAR)], [[0.9, 0.3, 0.6], [0.9, 0.9, 0.9]])
    assert found.presence is not None
    found.presence[1] = 0.0  # half of 0.9 is below the threshold
    found.masks = torch.linspace(-1, 1, 2 * 3 * 4).view(2, 3, 2, 2)
    truth = teacher_targets(found)
    assert truth.counts.tolist() == [2, 0]
    assert truth.exhaustive.all()
    assert torch.equal(truth.boxes, BOXES[:2])
    assert truth.masks is not None
    assert torch.equal(truth.masks, found.masks[0, [0, 2]] > 0)
    shown = found_instances(found)
    assert shown.pair.tolist() == [0, 0]
    assert shown.scores.tolist() == pytest.approx([0.9, 0.6])
    assert shown.presence.tolist() == pytest.approx([1.0, 0.5])
    assert torch.equal(shown.masks, truth.masks)


@pytest.mark.parametrize("settings", [{"phrase": -1.0}, {"phrase": 0.0, "exemplar": 0.0, "both": 0.0}, {"rounds": -1}])
def test_shares_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"model\.prompts"):
        ConceptMix(**settings)  # type: ignore[arg-type]
