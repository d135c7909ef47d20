"""Means over the joint batch of several processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed


def joint_shares(counts: Tensor) -> Tensor:
    """What means over this process's elements are multiplied with, to become means over those of all processes.

    DDP averages gradients over the processes. Their batches hold unequal numbers of instances and of valid cells, and
    a mean of unequal means is not the mean of the joint batch: an instance that shares its process with few others
    would count more. DETR (arXiv 2005.12872) therefore divides by the mean number of boxes of a process.

    Every process has to call this at the same place, also one that counts nothing.

    Args:
        counts: How much each mean is taken over, of any shape: instances, cells, or the power of a relative error.

    Returns:
        The counts over their mean over the processes: 1 in a single process, 0 where no process counts anything.
    """
    if not _several():
        return torch.ones_like(counts)
    mean = counts.detach().clone()
    distributed.all_reduce(mean)
    mean /= distributed.get_world_size()
    return counts / mean.clamp(min=torch.finfo(mean.dtype).tiny)


def feature_shares(levels: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """`joint_shares` of feature losses.

    Args:
        levels: L pairs of the teacher's map (B, C, h, w) and its valid cells (B, h, w) bool.

    Returns:
        (L, 2): for a mean over cells, and for an error relative to the teacher's power.
    """
    if not _several():
        return torch.ones(len(levels), 2, device=levels[0][0].device)
    counts = []
    for reference, valid in levels:
        power = reference.float().square().sum(dim=1)
        counts.append(torch.stack([valid.sum().float(), (power * valid).sum()]))
    return joint_shares(torch.stack(counts))


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
