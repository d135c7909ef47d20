"""Which parameters stage 3 trains, and how fast each."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from phd.errors import UserError
from phd.segmenter import Segmenter

# Their names below the learner; of a detector that is frozen, these still train.
PRESENCE = "heads.detector_model.detr_decoder.presence_*"
# What of a neck only the tracker reads, and what only the detector does; the rest of it serves both.
TRACKER_NECK = re.compile(r"\b(branches|necks)\.tracker\.")
DETECTOR_NECK = re.compile(r"\b(branches|necks)\.detector\.")
BLOCK = re.compile(r"\bstages_\d+\.(blocks\.\d+|downsample)\.|\blayers\.\d+\.")


@dataclass
class PartRates:
    """Learning rates of the parts, as factors of `lr`; a part of factor 0 is frozen and in eval mode.

    The defaults are those of SAM 3's released training configuration (8e-5, 2.5e-5 for vision, 5e-6 for text); the
    neck of a student is small and new, and learns as fast as the heads.

    Attributes:
        trunk: Of the trunk's last block, and of what of the neck serves points and video too.
        neck: Of the detector's own branch of the neck.
        text: Of the text encoder.
        heads: Of the detector's heads. Presence trains even at 0, then with a factor of 1.
        layer_decay: Factor from one block of the trunk to the one before (BEiT, arXiv 2106.08254, section 3.2).
    """

    trunk: float = 0.3125
    neck: float = 1.0
    text: float = 0.0625
    heads: float = 1.0
    layer_decay: float = 0.9

    def __post_init__(self) -> None:
        low = [name for name, factor in vars(self).items() if factor < 0]
        if low:
            raise UserError(f"model.rates.{low[0]} is {getattr(self, low[0])}; give a factor of at least 0")
        if not 0 < self.layer_decay <= 1:
            raise UserError(f"model.rates.layer_decay is {self.layer_decay}; give a factor above 0, at most 1")


def rated_parameters(learner: Segmenter, rates: PartRates, tracker: bool) -> Iterator[tuple[float, nn.Parameter]]:
    """Every parameter that is trained, with its factor.

    Args:
        learner: A segmenter that detects.
        rates: Of its parts.
        tracker: Whether the tracker's own branch of the neck follows the trunk.
    """
    if rates.trunk > 0:
        trunk = list(learner.trunk.named_parameters())
        decays = layer_decays([name for name, _ in trunk], rates.layer_decay)
        for decay, (_, parameter) in zip(decays, trunk, strict=True):
            yield rates.trunk * decay, parameter
    for name, parameter in learner.neck.named_parameters():
        factor = rates.trunk
        if DETECTOR_NECK.search(name):
            factor = rates.neck
        elif TRACKER_NECK.search(name) and not tracker:
            factor = 0.0
        if factor > 0 and not _without_reader(name, len(learner.contract.detector)):
            yield factor, parameter
    text: Any = getattr(learner, "text", None)
    if rates.text > 0 and text is not None:
        unread = {id(parameter) for parameter in text_without_reader(text)}
        yield from ((rates.text, parameter) for parameter in text.parameters() if id(parameter) not in unread)
    presence = {id(parameter) for parameter in presence_parameters(learner)}
    for parameter in learner.heads.detect_parameters():
        factor = rates.heads or float(id(parameter) in presence)
        if factor > 0:
            yield factor, parameter


def presence_parameters(learner: Segmenter) -> list[nn.Parameter]:
    """What the answer to "is it there at all" has for itself: token, head and norm."""
    decoder = learner.heads.detector_model["detr_decoder"]
    parts = (decoder.presence_token, decoder.presence_head, decoder.presence_layer_norm)
    return [parameter for part in parts for parameter in part.parameters()]


def text_without_reader(text: Any) -> list[nn.Parameter]:
    """MobileCLIP's projection of a whole phrase, which the detector does not read."""
    pooled = getattr(text.encoder, "projection", None)
    return [] if pooled is None else list(pooled.parameters() if isinstance(pooled, nn.Module) else [pooled])


def layer_decays(names: list[str], decay: float) -> list[float]:
    """Factors of a trunk's parameters: 1 behind the last block, `decay` in it, and so on down to the stem.

    A block is a transformer layer, or a block or downsampling of a timm model; the rest is the stem. Learnt positions
    keep 1, as in SAM 3's configuration.

    Args:
        names: Of the parameters, in their order.
        decay: From one block to the one before.
    """
    blocks = [match.group(0) if (match := BLOCK.search(name)) else "" for name in names]
    depth = {block: number for number, block in enumerate(dict.fromkeys(["", *blocks]))}
    positions = ["position_embedding" in name or "pos_embed" in name for name in names]
    return [
        1.0 if position else decay ** (len(depth) - depth[block])
        for block, position in zip(blocks, positions, strict=True)
    ]


def parameter_groups(rated: list[tuple[float, nn.Parameter]], lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for AdamW: one for each rate, with decay for matrices and kernels and without for vectors."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for factor, parameter in rated:
        groups.setdefault((factor, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "lr": lr * factor, "weight_decay": weight_decay if wide else 0.0}
        for (factor, wide), parameters in groups.items()
    ]


def still_modules(learner: Segmenter, rates: PartRates) -> list[nn.Module]:
    """What stays in eval mode: frozen parts, which run as at inference, and batch norms, as a step sees few images."""
    heads, text = learner.heads, getattr(learner, "text", None)
    parts: dict[str, Any] = {"trunk": learner.trunk, "text": text, "heads": heads.detector_model}
    frozen = [heads.tracker_model, heads.compressor]
    frozen += [part for name, part in parts.items() if getattr(rates, name) == 0 and part is not None]
    # A teacher's trunk, neck and text are views, which lie outside of its module tree.
    everything = [module for part in (learner, learner.neck) for module in part.modules()]
    norms = [module for module in everything if isinstance(module, _BatchNorm)]
    return list(dict.fromkeys([*(module for part in frozen for module in part.modules()), *norms]))


def reciprocal_root(step: int, total: int, warmup: float) -> float:
    """SAM 3's schedule, as a share of the peak rate: a linear rise, the reciprocal root of the step, a linear end.

    Args:
        step: Optimiser steps already taken.
        total: Of the whole run.
        warmup: Share of the steps for the rise, and for the end; also the unit of time of the root.
    """
    length = max(1, round(warmup * total))
    rise, fall = min(1.0, (step + 1) / length), min(1.0, max(0.0, (total - step) / length))
    return rise * fall / math.sqrt(max(1.0, step / length))


def _without_reader(name: str, levels: int) -> bool:
    """SAM 3's neck writes a level more than its heads read."""
    found = re.search(r"\bfpn_layers\.(\d+)\.", name)
    return found is not None and int(found.group(1)) >= levels
