"""A world of rectangles in which detector and tracker say what is written down, for the rules that join them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from fake_segmenter import as_logits, make_contract
from torch import Tensor

from phd.concept_prompts import TextFeatures
from phd.contract import Detections, ImageFeatures
from phd.errors import UserError
from phd.heads.memory.bank import BankSize, MemoryBank
from phd.heads.memory.rules import PLAIN
from phd.heads.memory.streaming import TrackState
from phd.heads.memory.video import TrackedFrame
from phd.segmenter import Segmenter
from phd.video_concepts import ConceptFrame, ConceptTracker, ConceptTrackSettings

SIDE = 32
Box = tuple[int, int, int, int]  # x, y, width, height
Found = tuple[str, Box, float]  # phrase, where, score


def mask_of(box: Box | None) -> Tensor:
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    if box is not None:
        x, y, width, height = box
        mask[y : y + height, x : x + width] = True
    return mask


def iou(one: Tensor, other: Tensor) -> float:
    return float((one & other).sum() / (one | other).sum().clamp(min=1))


class Scripted(Segmenter):
    """Reads the number of the frame from its pixels.

    Args:
        found: By frame, what the detector finds.
        paths: Where the tracker sees each thing of the world, by frame. A masklet follows the thing that its prompt
            covers best.

    Attributes:
        prompted: (frame, object, box of the prompt) in order.
    """

    def __init__(self, found: list[list[Found]], *paths: list[Box | None]) -> None:
        super().__init__()
        self.contract, self.name = make_contract(SIDE, SIDE), "scripted"
        self.found, self.paths = found, paths
        self.phrases: list[str] = []
        self.prompted: list[tuple[int, int, Box]] = []
        self.present = 5.0

    @property
    def verbs(self):
        return ("encode", "segment", "track", "detect")

    def encode(self, images, branches=None):
        assert tuple(branches or ()) == ("tracker", "detector")
        return ImageFeatures({"tracker": (images,), "detector": (images,)})

    def frame(self, features: ImageFeatures) -> int:
        return round(float(features.branches["tracker"][0][0, 0, 0, 0]) * 255)

    def encode_text(self, phrases):
        if not all(phrases):
            raise UserError("phrase 1 is empty")
        self.phrases = list(phrases)
        tokens = torch.arange(len(phrases), dtype=torch.float32)[:, None, None]
        cut = sum(len(phrase) > 20 for phrase in phrases)
        return TextFeatures(tokens, torch.ones(len(phrases), 1, dtype=torch.bool), cut)

    def detect(self, features, text, image_index, exemplars=None, text_index=None, auxiliary=False, one_to_many=False):
        assert text_index is not None
        found = self.found[self.frame(features)]
        pairs, queries = len(image_index), 6
        logits, masks = torch.full((pairs, queries), -20.0), torch.full((pairs, queries, SIDE, SIDE), -10.0)
        presence = torch.full((pairs,), 0.25)
        for pair, number in enumerate(text_index.tolist()):
            mine = [(box, score) for phrase, box, score in found if phrase == self.phrases[number]]
            for query, (box, score) in enumerate(mine):
                logits[pair, query] = torch.tensor(score).double().logit()
                masks[pair, query] = as_logits(mask_of(box))
            presence[pair] = 1 - 1e-7 if mine else 0.25
        return Detections(logits, torch.zeros(pairs, queries, 4), presence.logit(), masks)

    def track(self, frame, state=None, prompts=None, rules=None):
        assert rules == PLAIN
        assert isinstance(frame, ImageFeatures)
        now, state, prompts = self.frame(frame), state or TrackState(), prompts or {}
        assert now == state.frame + 1
        ids = (*state.ids, *(number for number in prompts if number not in state.ids))
        bank = state.bank or MemoryBank.empty(BankSize(1, 1, 1), 0, 1, 1, 1, torch.zeros(1))
        bank = bank.grown(len(ids) - len(bank))
        things, logits = bank.values[:, 0, 0, 0], torch.zeros(len(ids), 1, SIDE, SIDE)
        object_logits = torch.zeros(len(ids))
        for row, number in enumerate(ids):
            asked = prompts.get(number)
            given = None if asked is None or asked.mask is None else asked.mask > 0
            if given is not None:
                things[row] = best_path(self.paths, now, given)
                self.prompted.append((now, number, box_of(given)))
            path = self.paths[int(things[row])]
            shown = mask_of(path[now]) if given is None else given
            logits[row, 0] = as_logits(shown)
            object_logits[row] = self.present if shown.any() else -5.0
        rest = torch.zeros(len(ids), 1)
        answer = TrackedFrame(logits, rest + 0.9, object_logits, rest, rest, logits[:, 0])
        return TrackState(ids, bank, now, bank, answer)


def best_path(paths: tuple[list[Box | None], ...], now: int, given: Tensor) -> int:
    """The thing of the world that a prompt covers best."""
    overlaps = [iou(mask_of(path[now]), given) for path in paths]
    return overlaps.index(max(overlaps))


def box_of(mask: Tensor) -> Box:
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


def frames(count: int) -> Iterator[np.ndarray]:
    for number in range(count):
        yield np.full((SIDE, SIDE, 3), number, dtype=np.uint8)


def followed(model: Scripted, phrases: list[str] | None = None, **settings: Any) -> list[ConceptFrame]:
    return list(tracker_of(model, phrases, **settings).follow(frames(len(model.found))))


def tracker_of(model: Scripted, phrases: list[str] | None = None, **settings: Any) -> ConceptTracker:
    return ConceptTracker(model, phrases or ["dog"], "cpu", ConceptTrackSettings(**settings))


def seen(answers: list[ConceptFrame]) -> list[dict[int, Box]]:
    """By frame, the objects with a mask and where they are."""
    return [
        {n: box_of(torch.from_numpy(mask)) for n, mask in zip(answer.ids, answer.masks, strict=True) if mask.any()}
        for answer in answers
    ]
