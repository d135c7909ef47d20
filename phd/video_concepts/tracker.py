"""The loop over frames: detect, track, associate, begin, prompt anew, remove."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from phd.contract import ImageFeatures, ObjectPrompt
from phd.errors import UserError
from phd.heads.memory.rules import PLAIN
from phd.heads.memory.streaming import TrackState
from phd.predict import encode_image
from phd.predict_concepts import MASK_CHUNK
from phd.segmenter import Segmenter
from phd.video_concepts.association import Association, associate, hidden_by_overlap
from phd.video_concepts.detections import FrameDetections, detect_frame
from phd.video_concepts.masklets import Masklet, count_matches, false_ones
from phd.video_concepts.settings import ConceptTrackSettings
from phd.video_predictor import TrackedImage


@dataclass
class ConceptFrame(TrackedImage):
    """One frame: N objects that were found by a phrase; ids are 1, 2, ... in the order in which they are handed out.

    Attributes:
        phrases: Of the N objects.
        detected: Score of the detection that each object began with.
        presence: Probability that each phrase that was asked is there.
    """

    phrases: list[str]
    detected: list[float]
    presence: dict[str, float]


@dataclass
class _Held:
    """A frame that is held back; its masks stay small."""

    frame: int
    masklets: list[Masklet]
    logits: Tensor
    scores: list[float]
    present: list[float]
    presence: list[float]


class ConceptTracker:
    """Finds every instance of noun phrases in frames that come one at a time, and keeps their identities.

    An answer comes `settings.delay` frames late, so that what turns out to be no object has not been shown. As in SAM 3
    an object that was lost keeps its id if the memory finds it again; if only the detector does, it is a new one.
    SAM 3 also takes hidden and overlapping masks out of the memory, which is not done here, whatever the model's own
    rules are: things that two phrases name may overlap.

    Args:
        model: A teacher or a student that can track and detect; left in eval mode.
        phrases: Noun phrases; repeated ones count once.
        device: Where to run it; where it is by default.
        settings: Thresholds.

    Raises:
        UserError: The model lacks a verb, there is no phrase or an empty one, or a setting is out of range.
    """

    def __init__(
        self,
        model: Segmenter,
        phrases: Sequence[str],
        device: torch.device | str | None = None,
        settings: ConceptTrackSettings | None = None,
    ) -> None:
        self.settings = settings or ConceptTrackSettings()
        self.settings.check()
        if "track" not in model.verbs:
            raise UserError(f"{model.name}: segments single images and cannot track; take a model of SAM 3")
        self.device = torch.device(device) if device is not None else next(model.parameters()).device
        self.model = model.to(self.device).eval()
        self.phrases = list(dict.fromkeys(phrases))
        if not self.phrases:
            raise UserError('no phrase; give one, such as "dog"')
        with torch.inference_mode():
            self._text = model.encode_text(self.phrases)
        if self._text.cut:
            warnings.warn(
                f"{self._text.cut} of {len(self.phrases)} phrases are longer than the text encoder reads and were cut",
                stacklevel=2,
            )
        self.reset()

    def reset(self) -> None:
        """Forget objects and frames; the next frame is the first of another video."""
        self.num_removed = self.num_over_limit = 0
        self.size: tuple[int, int] | None = None
        self._time = -1
        self._state: TrackState | None = None
        self._masklets: list[Masklet] = []
        self._held: deque[_Held] = deque()
        self._count, self._removed, self._ids = 0, set[int](), dict[int, int]()

    def follow(self, images: Iterable[np.ndarray]) -> Iterator[ConceptFrame]:
        """All frames in order; see `track`."""
        for image in images:
            yield from self.track(image)
        yield from self.finish()

    @torch.inference_mode()
    def track(self, image: np.ndarray, number: int | None = None) -> list[ConceptFrame]:
        """Take in the next frame, and hand out the frames that are certain now: at most one.

        Args:
            image: (H, W, 3) uint8 RGB, of the same size in all frames.
            number: Of the frame in its source; one more than before by default. It only names the frame.

        Raises:
            UserError: It is no RGB image, or has another size than the frames before.
        """
        if self.size is not None and image.shape[:2] != self.size:
            raise UserError(f"frame {number}: is of another size than the frames before; give all frames in one size")
        features = encode_image(self.model, image, self.device, ("tracker", "detector"))
        self.size, self._time = (image.shape[0], image.shape[1]), self._time + 1
        found = detect_frame(self.model, features, self._text, self.settings.threshold, self.settings.nms)
        tracked = self.model.track(features, self._state, rules=PLAIN) if self._masklets else None
        association = self._associate(found, tracked)
        count_matches(self._masklets, association, self.settings.keep_alive)
        self._remember(features, tracked, self._prompts(found, tracked, association), self._remove())
        self._hold(self._time if number is None else number, found.presence)
        return [self._release()] if len(self._held) > self.settings.delay else []

    def finish(self) -> list[ConceptFrame]:
        """Hand out the frames that are still held back; the video ends here."""
        return [self._release() for _ in range(len(self._held))]

    def _associate(self, found: FrameDetections, tracked: TrackState | None) -> Association:
        masks = found.logits.new_zeros(0, *found.logits.shape[1:], dtype=torch.bool)
        if tracked is not None:
            assert tracked.answer is not None
            masks = tracked.answer.masks > 0
        phrase = torch.tensor([masklet.phrase for masklet in self._masklets], device=masks.device, dtype=torch.long)
        return associate(found, masks, phrase, self.settings)

    def _prompts(
        self, found: FrameDetections, tracked: TrackState | None, association: Association
    ) -> dict[int, ObjectPrompt]:
        """The prompts of this frame by number; masklets that begin are added."""
        prompts: dict[int, ObjectPrompt] = {}
        every = self.settings.reprompt_every
        if tracked is not None and every and self._time % every == 0:
            assert tracked.answer is not None
            present, masks = tracked.answer.object_logits.float().sigmoid(), tracked.answer.masks
            for row, place in association.vouched.items():
                if float(present[row]) > self.settings.reprompt_score:
                    own = self.settings.reprompt_with == "masklet"
                    logits = masks[row] if own else found.logits[place]
                    prompts[self._masklets[row].number] = self._mask_prompt(logits)
        room = max(0, self.settings.max_objects - len(self._masklets))
        self.num_over_limit += len(association.new[room:])
        for place in association.new[:room]:
            self._count += 1
            begun = Masklet(
                self._count, int(found.phrase[place]), float(found.scores[place]), self._time, self.settings.keep_alive
            )
            self._masklets.append(begun)
            prompts[begun.number] = self._mask_prompt(found.logits[place])
        return prompts

    def _mask_prompt(self, logits: Tensor) -> ObjectPrompt:
        side = self.model.contract.image_size
        canvas = F.interpolate(logits[None, None].float(), (side, side), mode="bilinear", align_corners=False)[0, 0]
        return ObjectPrompt(mask=(canvas > 0).float())

    def _remove(self) -> set[int]:
        removed = false_ones(self._masklets, self._time, self.settings)
        self._masklets = [masklet for masklet in self._masklets if masklet.number not in removed]
        self._removed |= removed
        self.num_removed += len(removed)
        return removed

    def _remember(
        self,
        features: ImageFeatures,
        tracked: TrackState | None,
        prompts: dict[int, ObjectPrompt],
        removed: set[int],
    ) -> None:
        """Take the frame into the memory; with prompts it is tracked again, from the memory before it."""
        prompts = {number: prompt for number, prompt in prompts.items() if number not in removed}
        if prompts:
            before = self._state or TrackState()
            kept = _without(replace(before, frame=self._time - 1), removed)
            self._state = self.model.track(features, kept, prompts, PLAIN)
        elif self._masklets:
            assert tracked is not None
            self._state = _without(tracked, removed)
        else:
            self._state = TrackState(frame=self._time)

    def _hold(self, number: int, presence: Tensor) -> None:
        """Note the answer for a frame, without what is hidden in it."""
        state, side = self._state, self.model.contract.mask_size
        if state is None or not state.ids:
            self._held.append(_Held(number, [], torch.zeros(0, side, side), [], [], presence.tolist()))
            return
        assert state.answer is not None
        assert [masklet.number for masklet in self._masklets] == list(state.ids)
        answer, logits = state.answer, state.answer.masks.float()
        phrase, last = (
            torch.tensor([getattr(masklet, name) for masklet in self._masklets], device=logits.device)
            for name in ("phrase", "last_hidden")
        )
        hidden = hidden_by_overlap(logits > 0, phrase, last, self.settings.overlap_iou)
        unseen = hidden | ~(logits > 0).flatten(1).any(1)
        for masklet, gone in zip(self._masklets, unseen.tolist(), strict=True):
            masklet.last_hidden = self._time if gone else masklet.last_hidden
        shown = ~hidden
        if self.settings.hide_unconfirmed:
            shown &= torch.tensor([masklet.alive > 0 for masklet in self._masklets], device=shown.device)
        kept = shown.nonzero()[:, 0].tolist()
        scores, present = answer.scores.amax(1).tolist(), answer.object_logits.float().sigmoid().tolist()
        self._held.append(
            _Held(
                number,
                [self._masklets[row] for row in kept],
                logits[kept].cpu(),
                [scores[row] for row in kept],
                [present[row] for row in kept],
                presence.tolist(),
            )
        )

    def _release(self) -> ConceptFrame:
        held = self._held.popleft()
        assert self.size is not None
        kept = [row for row, masklet in enumerate(held.masklets) if masklet.number not in self._removed]
        masklets, logits = [held.masklets[row] for row in kept], held.logits[kept]
        for masklet in masklets:
            self._ids.setdefault(masklet.number, len(self._ids) + 1)
        parts = [self.model.contract.to_image(part, *self.size) > 0 for part in logits.split(MASK_CHUNK) if len(part)]
        masks = torch.cat(parts).numpy() if parts else np.zeros((0, *self.size), dtype=bool)
        return ConceptFrame(
            frame=held.frame,
            ids=[self._ids[masklet.number] for masklet in masklets],
            masks=masks,
            scores=[held.scores[row] for row in kept],
            present=[held.present[row] for row in kept],
            logits=logits,
            phrases=[self.phrases[masklet.phrase] for masklet in masklets],
            detected=[masklet.score for masklet in masklets],
            presence=dict(zip(self.phrases, held.presence, strict=True)),
        )


def _without(state: TrackState, removed: set[int]) -> TrackState:
    """The state without some of its objects."""
    rows = [row for row, number in enumerate(state.ids) if number not in removed]
    if len(rows) == len(state.ids):
        return state
    if not rows or state.bank is None:
        return TrackState(frame=state.frame)
    index = torch.tensor(rows, device=state.bank.frames.device)
    names = ("logits", "scores", "object_logits", "pointers", "conditioned", "canvas")
    answer = state.answer and replace(state.answer, **{name: getattr(state.answer, name)[index] for name in names})
    ids = tuple(state.ids[row] for row in rows)
    return TrackState(ids, state.bank.of(index), state.frame, None, answer)
