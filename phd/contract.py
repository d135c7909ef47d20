"""The contract of a teacher, and what its verbs take and give."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from phd.errors import UserError

Family = Literal["sam", "sam2", "sam3"]
Branch = Literal["tracker", "detector"]


@dataclass(frozen=True)
class Level:
    """One feature map (C, size, size)."""

    channels: int
    size: int


@dataclass(frozen=True)
class Contract:
    """How a teacher wants its images and what its heads read; a student is built to it.

    Attributes:
        family: Which heads follow: "sam", "sam2" or "sam3".
        image_size: Side S of the square canvas, in pixels ("contract pixels").
        resize: "squash" scales both sides to S; "pad" scales the longer side to S and pads right and bottom.
        mean: Per-channel mean of RGB in [0, 1].
        std: Per-channel standard deviation of RGB in [0, 1].
        tracker: The levels that the prompt-driven heads read, finest first.
        detector: The levels that the concept heads read, finest first; empty where the teacher has none.
        trunk: The levels that the teacher's own neck reads, finest first.
        mask_size: Side of the mask logits that the decoder writes.
    """

    family: Family
    image_size: int
    resize: Literal["squash", "pad"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    tracker: tuple[Level, ...]
    detector: tuple[Level, ...]
    trunk: tuple[Level, ...]
    mask_size: int

    @property
    def branches(self) -> dict[Branch, tuple[Level, ...]]:
        """The levels by branch, without the branches that the family lacks."""
        branches: dict[Branch, tuple[Level, ...]] = {"tracker": self.tracker}
        if self.detector:
            branches["detector"] = self.detector
        return branches

    def content_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width, in contract pixels, that an image of the given size fills on the canvas."""
        if self.resize == "squash":
            return self.image_size, self.image_size
        scale = self.image_size / max(height, width)
        return int(height * scale + 0.5), int(width * scale + 0.5)

    def to_canvas(self, xy: Tensor, height: int, width: int) -> Tensor:
        """Scale (..., 2) edges (x, y), such as box corners, from pixels of the image to contract pixels."""
        content_height, content_width = self.content_size(height, width)
        return xy * xy.new_tensor([content_width / width, content_height / height])

    def to_image(self, logits: Tensor, height: int, width: int) -> Tensor:
        """Resize (..., m, m) mask logits of the canvas to (..., height, width) of the image, bilinearly."""
        content_height, content_width = self.content_size(height, width)
        maps = logits.flatten(0, -3).unsqueeze(1).float()
        if self.resize == "pad":
            # The crop must happen on the canvas: a content border falls between two cells of the mask grid.
            canvas = (self.image_size, self.image_size)
            maps = torch.nn.functional.interpolate(maps, canvas, mode="bilinear", align_corners=False)
            maps = maps[..., :content_height, :content_width]
        maps = torch.nn.functional.interpolate(maps, (height, width), mode="bilinear", align_corners=False)
        return maps.squeeze(1).unflatten(0, logits.shape[:-2])

    def normalise(self, images: Tensor, content: Tensor | None = None) -> Tensor:
        """Normalise uint8 images (B, 3, S, S) to float; padding becomes 0 after normalisation, as SAM does.

        Args:
            images: RGB canvas, uint8.
            content: (B, 2) height and width of the filled part; only read where `resize` is "pad".
        """
        mean = torch.tensor(self.mean, device=images.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, 3, 1, 1)
        pixels = (images.float() / 255 - mean) / std
        if self.resize == "pad" and content is not None:
            pixels = pixels * self.content_mask(content, self.image_size).unsqueeze(1)
        return pixels

    def content_mask(self, content: Tensor, size: int) -> Tensor:
        """Mask (B, size, size), bool: the cells whose centre lies on image content, not on padding."""
        centre = (torch.arange(size, device=content.device) + 0.5) * (self.image_size / size)
        rows = centre[None, :] < content[:, :1]
        columns = centre[None, :] < content[:, 1:]
        return rows[:, :, None] & columns[:, None, :]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON and for the student's config."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Contract:
        """The inverse of `to_dict`; lists of JSON become tuples again."""
        levels = {name: tuple(Level(**level) for level in values[name]) for name in ("tracker", "detector", "trunk")}
        return cls(**{**values, **levels, "mean": tuple(values["mean"]), "std": tuple(values["std"])})

    def require_equal(self, other: Contract, mine: str, theirs: str) -> None:
        """Raise if the two contracts differ, naming both sides and the first fields that disagree.

        Raises:
            UserError: The contracts differ.
        """
        ours, others = self.to_dict(), other.to_dict()
        differing = [name for name in ours if ours[name] != others[name]]
        if differing:
            detail = "; ".join(f"{name}: {ours[name]} against {others[name]}" for name in differing[:3])
            raise UserError(
                f"{mine} and {theirs} were made for different contracts ({detail}); "
                f"use a student made for this teacher, or train one"
            )


@dataclass
class ImageFeatures:
    """What the heads read: by branch, the levels finest first, each (B, C, h, w)."""

    branches: dict[Branch, tuple[Tensor, ...]]

    @property
    def tracker(self) -> tuple[Tensor, ...]:
        """The levels of the prompt-driven heads."""
        return self.branches["tracker"]

    @property
    def device(self) -> torch.device:
        """Where the features live."""
        return self.tracker[0].device

    def detach(self) -> ImageFeatures:
        """The same values outside the autograd graph."""
        return ImageFeatures({name: tuple(x.detach() for x in xs) for name, xs in self.branches.items()})


@dataclass
class Prompts:
    """P prompts of one kind, spread over the images of a batch.

    Attributes:
        image_index: (P,) index of the image in the batch.
        points: (P, N, 2) points (x, y) in contract pixels, or None.
        labels: (P, N) 1 object, 0 background, -1 padding; None with `points`.
        boxes: (P, 4) boxes x0 y0 x1 y1 in contract pixels, or None.
        masks: (P, 1, m, m) mask logits of an earlier round or given as a prompt, or None.
    """

    image_index: Tensor
    points: Tensor | None = None
    labels: Tensor | None = None
    boxes: Tensor | None = None
    masks: Tensor | None = None

    def __len__(self) -> int:
        return self.image_index.shape[0]

    @property
    def ambiguous(self) -> bool:
        """One lone point: several masks are right, so the decoder is asked for several (SAM, section 3)."""
        lone_point = self.points is not None and self.points.shape[1] == 1
        return lone_point and self.boxes is None and self.masks is None


@dataclass
class ObjectPrompt:
    """A prompt for one object in one frame of a video: points, a box, both, or a mask.

    Attributes:
        points: (n, 2) points (x, y) in contract pixels, or None.
        labels: (n,) 1 object, 0 background; None with `points`.
        box: (4,) box x0 y0 x1 y1 in contract pixels, or None.
        mask: (S, S) mask in [0, 1] on the canvas, or None; stands alone.
    """

    points: Tensor | None = None
    labels: Tensor | None = None
    box: Tensor | None = None
    mask: Tensor | None = None

    @property
    def num_points(self) -> int:
        """Points that the prompt encoder sees; a box counts as its two corners."""
        return (0 if self.points is None else len(self.points)) + (0 if self.box is None else 2)

    def as_prompts(self, device: torch.device) -> Prompts:
        """The same as a batch of one.

        Raises:
            UserError: It is empty.
        """
        if not self.num_points:
            raise UserError("prompt: neither points nor a box nor a mask; give one of them")
        return Prompts(
            torch.zeros(1, dtype=torch.long, device=device),
            points=None if self.points is None else self.points[None].to(device),
            labels=None if self.labels is None else self.labels[None].to(device),
            boxes=None if self.box is None else self.box[None].to(device),
        )


@dataclass
class Masks:
    """What a decoder answers to P prompts.

    Attributes:
        logits: (P, K, m, m) mask logits, K candidates.
        scores: (P, K) predicted IoU, in [0, 1] by training, not by construction in SAM 1.
        object_logits: (P,) whether the object is there at all; None where the family has no such head.
    """

    logits: Tensor
    scores: Tensor
    object_logits: Tensor | None = None

    def best(self) -> tuple[Tensor, Tensor]:
        """Logits (P, m, m) and score (P,) of the candidate with the highest predicted IoU."""
        index = self.scores.argmax(dim=1)
        rows = torch.arange(len(index), device=index.device)
        return self.logits[rows, index], self.scores[rows, index]


@dataclass
class QueryMasks:
    """Mask logits of P x Q queries as a product, so that only those are computed that somebody reads.

    Attributes:
        embeddings: (P, Q, C).
        pixels: (R, C, m, m), of R of the pairs.
        rows: (P,) the row of each pair in `pixels`, -1 for a pair without masks; None where R is P.
    """

    embeddings: Tensor
    pixels: Tensor
    rows: Tensor | None = None

    def at(self, pair: Tensor, query: Tensor) -> Tensor:
        """Mask logits (M, m, m) of M queries, given by pair (M,), ascending and with masks, and query (M,)."""
        row = pair if self.rows is None else self.rows[pair]
        counts = torch.bincount(row, minlength=len(self.pixels))
        place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        chosen = self.embeddings.new_zeros(len(counts), max([*counts.tolist(), 1]), self.embeddings.shape[-1])
        chosen = chosen.index_put((row, place), self.embeddings[pair, query])
        return torch.einsum("pkc,pchw->pkhw", chosen, self.pixels)[row, place]


@dataclass
class Detections:
    """What a detector answers to P (image, phrase) pairs, by Q queries each.

    Attributes:
        logits: (P, Q) of "this query is an instance", given that the phrase is there.
        boxes: (P, Q, 4) centre x, centre y, width, height, in [0, 1] of the canvas.
        presence: (P,) logits of "the phrase is there"; None in the one-to-many branch, which has none.
        masks: (P, Q, m, m) logits, or their factors, or None.
        semantic: (P, 1, h, w) logits of all instances together, 0 for a pair without masks, or None.
        auxiliary: What the earlier decoder layers answer, without masks; for training.
        one_to_many: What the same decoder answers without self-attention (DAC-DETR, NeurIPS 2023); for training.
    """

    logits: Tensor
    boxes: Tensor
    presence: Tensor | None = None
    masks: Tensor | QueryMasks | None = None
    semantic: Tensor | None = None
    auxiliary: list[Detections] = field(default_factory=list)
    one_to_many: Detections | None = None

    @property
    def scores(self) -> Tensor:
        """(P, Q) probability that the phrase is there and the query an instance (SAM 3, arXiv 2511.16719)."""
        scores = self.logits.sigmoid()
        return scores if self.presence is None else scores * self.presence.sigmoid()[:, None]

    def masks_at(self, pair: Tensor, query: Tensor) -> Tensor:
        """Mask logits (M, m, m) of M queries, given by pair (M,), ascending, and query (M,); where there are masks."""
        assert self.masks is not None
        return self.masks.at(pair, query) if isinstance(self.masks, QueryMasks) else self.masks[pair, query]
