"""What objects look like: of two that claim the same thing, the one it looks like has it, and mistakes are undone.

An appearance for each track, compared by cosine, is how DeepSORT (arXiv 1703.07402, section 2.2) tells boxes apart;
here it is the mean of the tracker's own features under a mask, so nothing is trained for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Looks:
    """What N objects of B videos looked like when they were prompted.

    Attributes:
        known: (N, C) the look of each object in the frame of its latest prompt; 0 before the first one.
        mean: (B, C) of each channel over the first frame of each video.
        std: (B, C) the same. All looks of a video have one scale, so that looks of different frames can be compared.
    """

    known: Tensor
    mean: Tensor
    std: Tensor

    def grown(self, objects: int) -> Tensor:
        """(objects, C) `known` with 0 for the objects that are new."""
        return torch.cat([self.known, self.known.new_zeros(objects - len(self.known), self.known.shape[1])])


@dataclass(frozen=True)
class Sight:
    """One frame of each of B videos.

    Attributes:
        view: (B, C, h, w) features of the frames; in the first frame of a video each has mean 0 and variance 1.
        video: (N,) which of the videos each object is of.
        looks: What is known of the objects so far.
    """

    view: Tensor
    video: Tensor
    looks: Looks

    @classmethod
    def of(cls, levels: Sequence[Tensor], video: Tensor, before: Looks | None) -> Sight:
        """A frame with what is known so far.

        The finest level is left out: it holds borders, which differ little between things.

        Args:
            levels: The tracker's levels of the B frames, the finest first, each (B, c, h, w).
            video: As the attribute.
            before: As the frame before left it; None in the first one.
        """
        with torch.no_grad():
            _, middle, *coarser = [level.detach().float() for level in levels]
            size = middle.shape[-2:]
            large = [F.interpolate(level, size, mode="bilinear", align_corners=False) for level in coarser]
            view = torch.cat([middle, *large], dim=1)
            if before is None:
                mean, std = view.mean((2, 3)), view.std((2, 3)).clamp(min=1e-4)
                before = Looks(view.new_zeros(0, view.shape[1]), mean, std)
            view = (view - before.mean[..., None, None]) / before.std[..., None, None]
        return cls(view, video, replace(before, known=before.grown(len(video))))

    def seen(self, shares: Tensor, rows: Tensor) -> Tensor:
        """(n, C) mean of the view under masks.

        Args:
            shares: (n, h, w) how much of each cell of the view the mask covers, in [0, 1].
            rows: (n,) which objects the masks are of.
        """
        total = (shares[:, None] * self.view[self.video[rows]]).sum((2, 3))
        return total / shares.sum((1, 2))[:, None].clamp(min=1e-3)

    def shares(self, masks: Tensor) -> Tensor:
        """(N, h, w) how much of each cell of the view the masks (N, S, S), bool, cover."""
        return F.interpolate(masks[:, None].float(), self.view.shape[-2:], mode="area")[:, 0]

    def noted(self, canvas: Tensor, given: Tensor) -> Looks:
        """What is known after this frame.

        Args:
            canvas: (N, S, S) logits of the answers.
            given: (N,) bool, objects with a prompt in this frame.
        """
        rows = (given & (canvas > 0).flatten(1).any(1)).nonzero()[:, 0]
        known = self.looks.known.clone()
        known[rows] = self.seen(self.shares(canvas[rows] > 0), rows)
        return replace(self.looks, known=known)

    def outdone(self, canvas: Tensor, given: Tensor, least_iou: float) -> Tensor:
        """(N,) bool, the objects of which another one in the same place is the likelier.

        Args:
            canvas: (N, S, S) logits, -1024 for an object that is not there.
            given: (N,) bool, objects with a prompt in this frame, which nobody outdoes and which outdo nobody here.
            least_iou: The overlap from which two masks are taken for one thing.
        """
        masks = canvas > 0
        # Counts, not a product of matrices, which autocast would round.
        both = torch.stack([(mask & masks).flatten(1).sum(1) for mask in masks])
        area = both.diagonal()
        iou = both / (area[:, None] + area[None] - both).clamp(min=1)
        rivals = (iou >= least_iou) & (self.video[:, None] == self.video[None]) & ~given[:, None] & ~given[None]
        lost = torch.zeros_like(given)
        for one, other in torch.triu(rivals, 1).nonzero():
            if lost[one] or lost[other]:
                continue
            pair = torch.stack([one, other])
            common = self.shares(masks[pair]).amin(0, keepdim=True)
            likeness = F.cosine_similarity(self.seen(common, pair[:1]), self.looks.known[pair])
            lost[pair[likeness.argmin()]] = True
        return lost

    def owners(self, canvas: Tensor, given: Tensor, ratio: float) -> Tensor:
        """(N,) which object's answer each object has, after two that were mistaken for each other change back.

        Two objects change when both masks together are nearer to what the other object looked like. The distance is
        Euclidean: it told the embedded teacher's true changes from false ones better than the cosine.

        Args:
            canvas: (N, S, S) logits, not above 0 for an object that is not there, which changes with none.
            given: (N,) bool, objects with a prompt in this frame, which change with none.
            ratio: The sum of both distances after the change must be below this share of the one before.
        """
        rows = torch.arange(len(given), device=given.device)
        free = rows[~given & (canvas > 0).flatten(1).any(1) & self.looks.known.any(1)]
        if len(free) < 2:
            return rows
        apart = (self.seen(self.shares(canvas[free] > 0), free)[:, None] - self.looks.known[free]).norm(dim=-1)
        kept = apart.diagonal()[:, None] + apart.diagonal()
        one_video = self.video[free][:, None] == self.video[free]
        change = torch.where(one_video.triu(1), (apart + apart.T) / kept.clamp(min=1e-6), torch.inf)
        while bool(change.min() < ratio):
            pair = list(divmod(int(change.argmin()), len(free)))
            rows[free[pair]] = free[pair[::-1]]
            change[pair] = torch.inf
            change[:, pair] = torch.inf
        return rows
