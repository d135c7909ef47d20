"""Track objects through a video of one's own, one frame at a time.

Example:
    from phd import VideoPredictor, load_segmenter
    predictor = VideoPredictor(load_segmenter("runs/student"))
    predictor.add(1, box=[10, 20, 200, 240])
    for image in frames:
        tracked = predictor.track(image)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phd.borders import LEAD, follow_borders
from phd.contract import ImageFeatures, ObjectPrompt
from phd.errors import UserError
from phd.heads.memory.rules import TrackRules, own_places
from phd.heads.memory.streaming import TrackState
from phd.predict import encode_image
from phd.segmenter import Segmenter
from phd.video_prompt import VideoPrompt


@dataclass
class TrackedImage:
    """What was found in one frame: N objects, in the order of their first prompts.

    Attributes:
        frame: Number of the frame.
        ids: Of the N objects.
        masks: (N, H, W) bool at the size of the frame; by the predictor's rules they may overlap or not, and follow the
            borders in the frame or not.
        scores: Predicted IoU of each mask.
        present: Probability that the object is seen in this frame; at most 0.5 gives an empty mask.
        logits: (N, m, m) mask logits over the canvas, -1024 where the object is not seen.
    """

    frame: int
    ids: list[int]
    masks: np.ndarray
    scores: list[float]
    present: list[float]
    logits: Tensor


class VideoPredictor:
    """Tracks objects through frames that come one at a time.

    Memory and time per frame do not grow with the video. An earlier frame cannot be asked again.

    Args:
        model: A teacher or a student that can track; left in eval mode.
        device: Where to run it; where it is by default.
        rules: What is remembered, and whether masks may overlap; by default what the model's configuration says.

    Attributes:
        rules: Those in force.

    Raises:
        UserError: The model cannot track.
    """

    def __init__(
        self, model: Segmenter, device: torch.device | str | None = None, rules: TrackRules | None = None
    ) -> None:
        if "track" not in model.verbs:
            raise UserError(f"{model.name}: segments single images and cannot track; take a model of SAM 2 or SAM 3")
        self.device = torch.device(device) if device is not None else next(model.parameters()).device
        self.model = model.to(self.device).eval()
        self.rules = rules or TrackRules.of(model.heads.tracker_model.config)
        self.reset()

    @property
    def memory_tokens(self) -> int:
        """Tokens that the model keeps of each frame for each object."""
        return self.model.heads.compressor.num_tokens

    def reset(self) -> None:
        """Forget objects, prompts and frames; the next frame is the first of another video."""
        self.frame = -1
        self.size: tuple[int, int] | None = None
        self._state: TrackState | None = None
        self._features: ImageFeatures | None = None
        self._image: np.ndarray | None = None
        self._coming: dict[int | None, dict[int, VideoPrompt]] = {}
        self._latest: dict[int, VideoPrompt] = {}

    def add(
        self,
        object_id: int,
        *,
        points: Sequence[Sequence[float]] | None = None,
        labels: Sequence[int] | None = None,
        box: Sequence[float] | None = None,
        mask: np.ndarray | None = None,
        frame: int | None = None,
    ) -> None:
        """Give a prompt for the next frame or a later one; an object that is tracked already begins again from it.

        Args:
            object_id: A number of your choice; a new one is a new object.
            points: Points (x, y) in pixels of the frame.
            labels: One for each point: 1 object, 0 background; all 1 by default.
            box: x0 y0 x1 y1 in pixels of the frame, x1 and y1 exclusive.
            mask: (H, W) bool, the object in the frame; stands alone.
            frame: Number of the frame, as `track` counts; the next one by default.

        Raises:
            UserError: The object has a prompt for that frame already, the frame has passed, or the prompt is none.
        """
        where = f"{'next frame' if frame is None else f'frame {frame}'}, object {object_id}"
        if frame is not None and frame <= self.frame:
            raise UserError(
                f"{where}: the frame has passed already, the latest is {self.frame}; give prompts before their frame, "
                f"or correct the latest"
            )
        asked = self._coming.setdefault(frame, {})
        if object_id in asked:
            raise _twice(where)
        with _located(where):
            asked[object_id] = VideoPrompt.of(points, labels, box, mask)

    @torch.inference_mode()
    def track(self, image: np.ndarray, number: int | None = None) -> TrackedImage:
        """Find the objects in the next frame; before the first prompt there are none.

        After an error nothing of the frame is kept, nor are the prompts for it.

        Args:
            image: (H, W, 3) uint8 RGB, of the same size in all frames.
            number: Of the frame in its source; one more than before by default, from 0. It only names the frame: the
                memory counts the frames that it was given.

        Raises:
            UserError: It is no RGB image or has another size than the frames before, a prompt does not fit it, or a
                frame with a prompt was left out.
        """
        frame = self.frame + 1 if number is None else number
        asked = self._due(frame)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise UserError(f"frame {frame}: array {image.dtype} of shape {image.shape}; give (H, W, 3) uint8 RGB")
        size = image.shape[:2]
        if self.size is not None and size != self.size:
            raise UserError(
                f"frame {frame}: is {size[0]} x {size[1]} pixels (height x width) but the frames before it are "
                f"{self.size[0]} x {self.size[1]}; give all frames in one size, or call reset for another video"
            )
        prompts: dict[int, ObjectPrompt] = {}
        for number, prompt in asked.items():
            with _located(f"frame {frame}, object {number}"):
                prompts[number] = prompt.on_canvas(self.model.contract, *size)
        features = None
        if self._state is not None or prompts:
            with _located(f"frame {frame}"):
                features = encode_image(self.model, image, self.device)
            self._state = self.model.track(features, self._state, prompts, self.rules)
        self.frame, self.size, self._features, self._latest = frame, size, features, asked
        # A camera may write its next frame into the same array before `correct`.
        self._image = image.copy() if self.rules.border_cells > 0 else None
        return self._answer()

    @torch.inference_mode()
    def correct(
        self,
        object_id: int,
        *,
        points: Sequence[Sequence[float]] | None = None,
        labels: Sequence[int] | None = None,
        box: Sequence[float] | None = None,
        mask: np.ndarray | None = None,
    ) -> TrackedImage:
        """Answer the frame just tracked again, with a prompt that is read beside the memory.

        Points join those that the object already has in this frame; a box replaces its box. A mask replaces them all,
        and is replaced by what comes after it.

        Args:
            object_id: Of an object that is tracked.
            points: As in `add`.
            labels: As in `add`.
            box: As in `add`.
            mask: As in `add`.

        Raises:
            UserError: No frame has been tracked, the object is unknown, or the prompt is none or does not fit.
        """
        if self._state is None or self._features is None or self.size is None:
            raise UserError(f"correct: object {object_id} is not tracked yet; call add and track first")
        if object_id not in self._state.ids:
            known = list(self._state.ids)
            raise UserError(f"correct: object {object_id} is not tracked; the objects are {known}, call add for others")
        with _located(f"frame {self.frame}, object {object_id}"):
            asked = VideoPrompt.of(points, labels, box, mask).after(self._latest.get(object_id))
            prompt = asked.on_canvas(self.model.contract, *self.size)
        self._state = self.model.correct(self._features, self._state, {object_id: prompt}, self.rules)
        self._latest = {**self._latest, object_id: asked}
        return self._answer()

    def _due(self, frame: int) -> dict[int, VideoPrompt]:
        """The prompts for a frame that has come; they are kept no longer."""
        if frame <= self.frame:
            raise UserError(f"frame {frame}: the latest is {self.frame} already; give frames in order, or call reset")
        asked = self._coming.pop(None, {})
        for number in sorted(number for number in self._coming if number is not None and number <= frame):
            for object_id, prompt in self._coming.pop(number).items():
                where = f"frame {number}, object {object_id}"
                if number < frame:
                    raise UserError(f"{where}: has a prompt, but frame {frame} came instead; name another frame")
                if object_id in asked:
                    raise _twice(where)
                asked[object_id] = prompt
        return asked

    def _answer(self) -> TrackedImage:
        assert self.size is not None
        if self._state is None or self._state.answer is None:
            nothing, side = np.zeros((0, *self.size), dtype=bool), self.model.contract.mask_size
            return TrackedImage(self.frame, [], nothing, [], [], torch.zeros(0, side, side))
        answer, logits = self._state.answer, self._state.answer.masks.float()
        whole = self.model.contract.to_image(logits, *self.size)
        masks = whole > 0
        if self.rules.exclusive:
            given = torch.tensor([number in self._latest for number in self._state.ids], device=whole.device)
            masks &= own_places(whole, given)
        if self.rules.border_cells > 0:
            masks = self._bordered(masks)
        return TrackedImage(
            frame=self.frame,
            ids=list(self._state.ids),
            masks=masks.cpu().numpy(),
            scores=answer.scores.amax(1).tolist(),
            present=answer.object_logits.float().sigmoid().tolist(),
            logits=logits.cpu(),
        )

    def _bordered(self, masks: Tensor) -> Tensor:
        """The masks (N, H, W) bool with the borders of the frame; those that a user gave stay as they are."""
        assert self._state is not None
        assert self._image is not None
        shares = follow_borders(masks, self._image, self.model.contract, self.rules.border_cells)
        asked = [self._latest.get(number) for number in self._state.ids]
        drawn = torch.tensor([prompt is not None and prompt.mask is not None for prompt in asked], device=masks.device)
        if self.rules.exclusive:
            found = (shares > 1 - shares.sum(0) - LEAD) & own_places(shares, torch.zeros_like(drawn))
            found &= ~masks[drawn].any(0)
        else:
            found = shares > 1 - shares - LEAD
        return torch.where(drawn[:, None, None], masks, found)


def _twice(where: str) -> UserError:
    return UserError(f"{where}: the id is used twice; give all points and the box at once, or another id")


@contextmanager
def _located(where: str) -> Iterator[None]:
    """Put the place before the message of a `UserError`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
