"""From a stored video to a clip at a contract: frames, objects and augmentation drawn from (seed, epoch, key)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.augmentation import Augmentation, Colours, View, draw_colours, draw_view, generator, recolour
from datamodules.clip_frames import drawn_clip, first_clip, returns
from datamodules.clip_video import ReadFrames, Video
from datamodules.placement import Placement, require_fit
from phd.contract import Contract
from phd.errors import UserError

# Clips from which one with objects that come back is chosen.
DRAWS = 12


@dataclass(frozen=True)
class ClipExample:
    """One sample of a `ClipBatch`; its fields without the batch."""

    key: str
    frames: Tensor
    content: Tensor
    masks: Tensor
    labelled: Tensor
    valid: Tensor
    void: Tensor
    numbers: Tensor


@dataclass(frozen=True)
class ClipChoice:
    """How clips are chosen.

    Attributes:
        max_objects: Places for objects, M.
        gaps: Smallest and largest step from one frame to the next, counted in labelled frames.
        reverse_probability: Of a clip that runs backwards.
        labelled_only: Whether clips consist of labelled frames; otherwise steps count all stored frames.
        min_area_cells: Objects with fewer cells on the mask grid of the first frame are not chosen.
        returning: Share of clips that are chosen for objects that come back: of `DRAWS` clips the one with the most of
            them, which are then chosen first. Without it most clips show none.
    """

    max_objects: int = 3
    gaps: tuple[int, int] = (1, 3)
    reverse_probability: float = 0.5
    labelled_only: bool = True
    min_area_cells: int = 4
    returning: float = 0.0

    def check(self) -> None:
        """Raise if a setting is out of range.

        Raises:
            UserError: Names the setting.
        """
        low, high = self.gaps
        if not 1 <= low <= high:
            raise UserError(f"data.gaps is [{low}, {high}]; give 1 <= smallest <= largest")
        if not 0 <= self.reverse_probability <= 1:
            raise UserError(f"data.reverse_probability is {self.reverse_probability}; give a number from 0 to 1")
        if not 0 <= self.returning <= 1:
            raise UserError(f"data.returning is {self.returning}; give a number from 0 to 1")


class ClipTransform:
    """Makes clips for one contract.

    A clip begins at a frame that shows an object, and its objects are among those of this frame: a tracker is
    prompted there. One view (mirror, crop) and one change of colours go for all its frames. A crop that shows no
    object in the first frame is not used. A video without any object gives a clip without objects.

    Args:
        contract: Canvas, resize rule and mask grid.
        augmentation: What to vary, or None.
        choice: How clips are chosen.
        seed: Of augmentation and choice.
        train: Choose at random; otherwise the first clip with the smallest gap, and the first objects.
    """

    def __init__(
        self,
        contract: Contract,
        augmentation: Augmentation | None = None,
        choice: ClipChoice | None = None,
        seed: int = 0,
        train: bool = True,
    ) -> None:
        self.contract, self.augmentation, self.choice = contract, augmentation, choice or ClipChoice()
        self.seed, self.train = seed, train
        self.choice.check()
        if augmentation is not None:
            augmentation.check()

    def __call__(
        self, record: dict[str, Any], read: ReadFrames, key: str, epoch: int = 0, length: int = 8, where: str = ""
    ) -> ClipExample:
        """Choose, decode, augment, resize; only the frames of the clip are read, each once.

        Args:
            record: Of the video.
            read: Fetches the files of frames by their numbers in the source.
            key: Names the sample; keys its random numbers.
            epoch: Likewise.
            length: Frames of the clip, T.
            where: Names the sample in errors; the key by default.

        Raises:
            UserError: No frame is labelled, a frame cannot be decoded or is not of the video's size, or a mask does
                not fit.
        """
        video = Video(record, read, where or key)
        require_fit(self.contract, video.height, video.width, where or key)
        rng = generator(self.seed, epoch, key)
        clip, back = self._clip(rng, video, length)
        view = draw_view(rng, self.augmentation, video.height, video.width)
        colours = draw_colours(rng, self.augmentation)
        objects = video.objects
        if self.train:
            order = rng.permutation(len(objects))
            objects = [objects[index] for index in order[np.argsort(~back[order], kind="stable")]]
        objects, placement = self._prompted(video, objects, clip[0], view)
        masks = np.zeros((length, self.choice.max_objects, placement.grid, placement.grid), dtype=np.uint8)
        for time, place in enumerate(clip):
            for index, item in enumerate(objects):
                masks[time, index] = video.mask(item, place, placement)
        void = np.stack([video.void(place, placement) for place in clip])
        labelled = set(video.labelled)
        return ClipExample(
            key=key,
            frames=_frames(video, clip, placement, colours),
            content=torch.tensor(placement.content),
            masks=torch.from_numpy(masks),
            labelled=torch.tensor([place in labelled for place in clip]),
            valid=torch.arange(self.choice.max_objects) < len(objects),
            void=torch.from_numpy(void.astype(bool)),
            numbers=torch.tensor([video.numbers[place] for place in clip]),
        )

    def _clip(self, rng: np.random.Generator, video: Video, length: int) -> tuple[list[int], np.ndarray]:
        """Places of the clip in the video, and (objects,) bool, which of them come back in it, where that is asked."""
        choice, none = self.choice, np.zeros(len(video.objects), dtype=bool)
        places = np.array(video.labelled if choice.labelled_only else range(len(video.numbers)))
        starts = np.array([video.shows(place) for place in places])
        if not self.train:
            return places[first_clip(starts, length, choice.gaps[0])].tolist(), none

        def drawn() -> np.ndarray:
            return drawn_clip(rng, starts, length, choice.gaps, choice.reverse_probability)

        chosen = drawn()
        if not len(video.objects) or not (choice.returning > 0 and rng.random() < choice.returning):
            return places[chosen].tolist(), none
        draws, shares = [chosen, *(drawn() for _ in range(DRAWS - 1))], video.shares(places)
        found = [returns(shares[:, clip]) for clip in draws]
        best = int(np.argmax([each.sum() for each in found]))
        return places[draws[best]].tolist(), found[best] > 0

    def _prompted(
        self, video: Video, objects: list[dict[str, Any]], first: int, view: View
    ) -> tuple[list[dict[str, Any]], Placement]:
        """The first objects that the first frame shows well enough, and the view in which it does."""
        whole = View(0, 0, video.height, video.width)
        placement = Placement(self.contract, video.height, video.width, view)
        found: list[dict[str, Any]] = []
        for item in objects:
            if len(found) == self.choice.max_objects:
                break
            if np.count_nonzero(video.mask(item, first, placement)) >= self.choice.min_area_cells:
                found.append(item)
        return (found, placement) if found or view == whole else self._prompted(video, objects, first, whole)


def _frames(video: Video, clip: list[int], placement: Placement, colours: Colours) -> Tensor:
    """Canvases (T, 3, S, S) uint8; the grey that a change of contrast keeps is that of the first frame."""
    places = list(dict.fromkeys(clip))
    canvases: dict[int, Tensor] = {}
    first: Tensor | None = None
    for place, image in zip(places, video.images(places), strict=True):
        shown = placement.shown(image)
        first = shown if first is None else first
        canvases[place] = placement.canvas(recolour(shown, *colours, like=first))
    return torch.stack([canvases[place] for place in clip])
