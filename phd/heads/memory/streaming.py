"""Tracking frame by frame: several objects, each with its own start, prompts on any frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from phd.contract import ImageFeatures, ObjectPrompt, Prompts
from phd.errors import UserError
from phd.heads.memory.bank import MemoryBank
from phd.heads.memory.looks import Looks
from phd.heads.memory.rules import TrackRules
from phd.heads.memory.video import TrackedFrame, VideoHeads


@dataclass(frozen=True)
class TrackState:
    """What is carried from frame to frame.

    Attributes:
        ids: Of the objects, in the order of their first prompts.
        bank: Their memory.
        frame: Number of the latest frame, from 0.
        before: The memory before the latest frame was written, so that the frame may be corrected.
        answer: The latest answer, or None before the first.
        decoded: The same before the rules between objects, for a correction.
        looks: What the objects looked like when they were prompted, where the rules ask for it.
    """

    ids: tuple[int, ...] = ()
    bank: MemoryBank | None = None
    frame: int = -1
    before: MemoryBank | None = None
    answer: TrackedFrame | None = None
    decoded: TrackedFrame | None = None
    looks: Looks | None = None


def track(
    heads: VideoHeads,
    features: ImageFeatures,
    state: TrackState | None = None,
    prompts: dict[int, ObjectPrompt] | None = None,
    rules: TrackRules | None = None,
) -> TrackState:
    """Answer for the next frame.

    An object with a prompt begins, or begins again, from that prompt alone, as in the library's session; the others are
    tracked from memory. An object that is not there stays in memory and may come back.

    Args:
        heads: Of the model.
        features: Of one image, the next frame.
        state: Of the frame before; None for the first frame.
        prompts: By object id; ids that are new begin here.
        rules: What is remembered, and whether masks may overlap; by default what the model's configuration says.

    Returns:
        The new state, whose `answer` holds one row for each of `ids`.

    Raises:
        UserError: There is no object at all, or a prompt is empty.
    """
    state, prompts = state or TrackState(), prompts or {}
    ids = (*state.ids, *(number for number in prompts if number not in state.ids))
    if not ids:
        raise UserError("track: no object yet; give a prompt for at least one object with the first frame")
    coarse = features.tracker[-1]
    before = _grown(heads, state.bank, len(ids), coarse)
    decoded = _answer(heads, features, before, ids, prompts)
    state = TrackState(ids, before, state.frame + 1, before, decoded=decoded, looks=state.looks)
    return _written(heads, features, state, prompts, set(prompts), rules)


def correct(
    heads: VideoHeads,
    features: ImageFeatures,
    state: TrackState,
    prompts: dict[int, ObjectPrompt],
    rules: TrackRules | None = None,
) -> TrackState:
    """Answer the latest frame again, with more prompts; unlike a first prompt, these are read beside the memory.

    Args:
        heads: Of the model.
        features: Of the latest frame.
        state: As `track` returned it.
        prompts: Points or a box by object id, for objects that are tracked.
        rules: As in `track`.

    Raises:
        UserError: An object is unknown, or no frame has been tracked.
    """
    if state.before is None or state.decoded is None:
        raise UserError("correct: no frame has been tracked yet; call track with the first prompts")
    unknown = sorted(set(prompts) - set(state.ids))
    if unknown:
        raise UserError(f"correct: object {unknown[0]} is not tracked; the objects are {list(state.ids)}")
    decoded = _copied(state.decoded)
    for number, prompt in prompts.items():
        rows = torch.tensor([state.ids.index(number)], device=decoded.scores.device)
        memory = state.before.of(rows)
        _put(decoded, rows, _prompted(heads, features, memory if bool(memory.coming() > 0) else None, prompt))
    # What was prompted in this frame before stays a conditioning frame.
    held: set[int] = set()
    if state.bank is not None:
        conditioning = state.bank.frames[:, : heads.bank_size.conditioning]
        prompted = (conditioning == state.before.coming()[:, None]).any(1).tolist()
        held = {number for number, was in zip(state.ids, prompted, strict=True) if was}
    return _written(heads, features, replace(state, decoded=decoded), prompts, held, rules)


def _grown(heads: VideoHeads, bank: MemoryBank | None, objects: int, like: Tensor) -> MemoryBank:
    if bank is None:
        return heads.new_bank(objects, like)
    return bank if len(bank) == objects else bank.grown(objects - len(bank))


def _answer(
    heads: VideoHeads,
    features: ImageFeatures,
    bank: MemoryBank,
    ids: tuple[int, ...],
    prompts: dict[int, ObjectPrompt],
) -> TrackedFrame:
    """One row for each object; those without a prompt together, the others one by one."""
    parts: list[tuple[Tensor, TrackedFrame]] = []
    device = features.device
    rest = torch.tensor([row for row, number in enumerate(ids) if number not in prompts], device=device)
    if len(rest):
        coarse, finer = _expanded(heads, features, len(rest))
        memory = bank.of(rest)
        conditioned = heads.read_memory(coarse, memory, memory.coming())
        nothing = Prompts(torch.zeros(len(rest), dtype=torch.long, device=device))
        parts.append((rest, heads.decode_frame(conditioned, finer, nothing, heads.wants_candidates(0, False))))
    for number, prompt in prompts.items():
        row = torch.tensor([ids.index(number)], device=device)
        parts.append((row, _prompted(heads, features, None, prompt)))
    return _joined(parts, len(ids))


def _prompted(
    heads: VideoHeads, features: ImageFeatures, bank: MemoryBank | None, prompt: ObjectPrompt
) -> TrackedFrame:
    """The answer for one object with a prompt, from memory too where there is a bank."""
    coarse, finer = _expanded(heads, features, 1)
    if prompt.mask is not None:
        return heads.given_frame(coarse, finer, prompt.mask.unsqueeze(0).to(coarse.device))
    asked = prompt.as_prompts(coarse.device)
    conditioned = heads.without_memory(coarse) if bank is None else heads.read_memory(coarse, bank, bank.coming())
    return heads.decode_frame(conditioned, finer, asked, heads.wants_candidates(prompt.num_points, bank is None))


def _written(
    heads: VideoHeads,
    features: ImageFeatures,
    state: TrackState,
    prompts: dict[int, ObjectPrompt],
    held: set[int],
    rules: TrackRules | None,
) -> TrackState:
    """The state with the latest frame in memory; `held` are the objects for which it is a conditioning frame."""
    assert state.decoded is not None
    assert state.before is not None
    before = state.before
    rules = rules or TrackRules.of(heads.tracker_model.config)
    device = features.device
    given = torch.tensor([number in prompts or number in held for number in state.ids], device=device)
    conditioning = torch.tensor([number in held for number in state.ids], device=device)
    sight = rules.sight(features.tracker, torch.zeros_like(given, dtype=torch.long), state.looks)
    answer = rules.settled(state.decoded, given, heads.tracker_model.no_object_pointer, sight=sight)
    state = replace(state, answer=answer, looks=sight and sight.noted(answer.canvas, given))
    rows = rules.remembered(answer, given)
    if not len(rows):
        return replace(state, bank=before)
    coarse = features.tracker[-1].expand(len(rows), -1, -1, -1)
    tokens = heads.remember(coarse, answer.canvas[rows], answer.object_logits[rows], given[rows])
    bank = before.write(before.coming()[rows], tokens, answer.pointers[rows], conditioning[rows], rows)
    return replace(state, bank=bank)


def _expanded(heads: VideoHeads, features: ImageFeatures, objects: int) -> tuple[Tensor, list[Tensor]]:
    coarse, finer = heads.decoder_levels(features.tracker)
    return coarse.expand(objects, -1, -1, -1), [level.expand(objects, -1, -1, -1) for level in finer]


FIELDS = ("logits", "scores", "object_logits", "pointers", "conditioned", "canvas")


def _joined(parts: list[tuple[Tensor, TrackedFrame]], objects: int) -> TrackedFrame:
    """One answer with the rows in order; where some have one candidate and others several, the best one is kept."""
    if len({answer.scores.shape[1] for _, answer in parts}) > 1:
        parts = [(rows, _best(answer)) for rows, answer in parts]
    order = torch.cat([rows for rows, _ in parts])
    assert len(order) == objects
    place = order.argsort()
    return TrackedFrame(**{name: torch.cat([getattr(answer, name) for _, answer in parts])[place] for name in FIELDS})


def _best(answer: TrackedFrame) -> TrackedFrame:
    rows = torch.arange(len(answer.scores), device=answer.scores.device)
    best = answer.scores.argmax(1)
    return replace(answer, logits=answer.logits[rows, best].unsqueeze(1), scores=answer.scores[rows, best].unsqueeze(1))


def _copied(answer: TrackedFrame) -> TrackedFrame:
    best = _best(answer)
    return TrackedFrame(**{name: getattr(best, name).clone() for name in FIELDS})


def _put(answer: TrackedFrame, rows: Tensor, found: TrackedFrame) -> None:
    found = _best(found)
    for name in FIELDS:
        getattr(answer, name)[rows] = getattr(found, name)
