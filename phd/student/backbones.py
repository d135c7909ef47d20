"""The nine trunks of the paper through timm, and any other hierarchical timm model."""

from __future__ import annotations

import difflib
from typing import Any, Literal, cast

import huggingface_hub
import timm
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from timm.models import FeatureInfo
from torch import Tensor, nn

from phd.errors import UserError
from phd.hub import hub_unreachable
from phd.student.notices import notice

STRIDES = (4, 8, 16, 32)

# EfficientSAM3 (arXiv 2511.15833), table 1. Of several sets of weights we take the widest supervision (22k classes),
# then the longest training, then the highest resolution.
PAPER_TRUNKS = {
    "repvit_m0_9": "repvit_m0_9.dist_450e_in1k",
    "repvit_m1_1": "repvit_m1_1.dist_450e_in1k",
    "repvit_m2_3": "repvit_m2_3.dist_450e_in1k",
    "tinyvit_5m": "tiny_vit_5m_224.dist_in22k",
    "tinyvit_11m": "tiny_vit_11m_224.dist_in22k",
    "tinyvit_21m": "tiny_vit_21m_224.dist_in22k",
    "efficientvit_b0": "efficientvit_b0.r224_in1k",
    "efficientvit_b1": "efficientvit_b1.r288_in1k",
    "efficientvit_b2": "efficientvit_b2.r288_in1k",
}

WEIGHTS_FILE = "model.safetensors"

Pretrained = Literal["auto", True, False]


class Trunk(nn.Module):
    """A timm `features_only` model that returns the maps at strides 4, 8, 16 and 32.

    Images come normalised by the teacher's contract, not by the statistics of the trunk's own pretraining: the
    trunk is fine-tuned anyway, and one normalisation for both models cannot be mixed up.

    Args:
        name: As the user gave it.
        net: The timm model.
        weights: What it starts from: a timm name with tag, or "random".
    """

    def __init__(self, name: str, net: nn.Module, weights: str) -> None:
        super().__init__()
        self.net = net
        self.weights = weights
        info = cast(FeatureInfo, net.feature_info)
        last_of_stride = {stride: index for index, stride in enumerate(info.reduction())}
        missing = [stride for stride in STRIDES if stride not in last_of_stride]
        if missing:
            raise UserError(
                f"backbone {name!r} has maps at strides {sorted(last_of_stride)}, not at {missing}; "
                f"take a hierarchical one, for instance {', '.join(PAPER_TRUNKS)}"
            )
        self.kept = [last_of_stride[stride] for stride in STRIDES]
        self.channels = [info.channels()[index] for index in self.kept]
        self.caching = [module for module in net.modules() if hasattr(module, "attention_bias_cache")]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map images (B, 3, S, S) to four maps (B, C, h, w), finest first."""
        # In eval mode TinyViT keeps its attention biases from the first forward on, so weights that change later
        # (an average of weights, a trunk that trains with frozen norms) would not be seen.
        for module in self.caching:
            cast(dict[str, Tensor], module.attention_bias_cache).clear()
        maps = self.net(images)
        return tuple(maps[index] for index in self.kept)

    def gradient_checkpointing(self) -> None:
        """Recompute the activations in the backward pass."""
        # timm wraps some models in a list of their layers, which checkpoints itself, and others whole.
        cast(Any, getattr(self.net, "model", self.net)).set_grad_checkpointing(True)


def build_trunk(name: str, pretrained: Pretrained = "auto") -> Trunk:
    """Build a trunk.

    Args:
        name: One of the paper's nine (`PAPER_TRUNKS`), or a timm name, with or without a tag of weights.
        pretrained: True wants the pretrained weights, False random ones, "auto" takes what can be had and says
            so when that is nothing.

    Raises:
        UserError: There is no such model, it is not hierarchical, or `pretrained` is True and the weights cannot be
            had.
    """
    timm_name = timm_name_of(name)
    weights = None
    if pretrained:
        weights, reason = find_weights(timm_name)
        if weights is None and pretrained == "auto":
            notice(f"backbone {name!r} starts from random weights: {reason}")
        elif weights is None:
            raise UserError(f"backbone {name!r}: {reason}; set pretrained to false to start from random weights")
    overlay = None if weights is None else {"file": weights}
    try:
        net = timm.create_model(
            timm_name, features_only=True, pretrained=weights is not None, pretrained_cfg_overlay=overlay
        )
    except RuntimeError as error:
        raise UserError(f"backbone {name!r}: timm cannot build it as a trunk ({error}); choose another") from error
    return Trunk(name, net, "random" if weights is None else timm_name)


def timm_name_of(name: str) -> str:
    """The timm name, with its tag of weights where one is meant.

    Raises:
        UserError: There is no such model, or it takes one input size only.
    """
    timm_name = PAPER_TRUNKS.get(name, name)
    architecture, _, tag = timm_name.partition(".")
    if not timm.is_model(architecture) or (tag and timm_name not in timm.list_pretrained(f"{architecture}.*")):
        # Names of the nine come first, so that a slip in one of them is answered with one of them.
        near = difflib.get_close_matches(name, PAPER_TRUNKS, n=2)
        near += difflib.get_close_matches(name, timm.list_pretrained() if tag else timm.list_models(), n=3)
        raise UserError(
            f"backbone {name!r} does not exist; near ones: {', '.join(dict.fromkeys(near or PAPER_TRUNKS))} "
            f"(`phd students` lists the nine of the paper, timm has more)"
        )
    config = timm.get_pretrained_cfg(timm_name)
    if config is not None and config.fixed_input_size:
        raise UserError(f"backbone {name!r} takes images of {config.input_size} only; choose a convolutional one")
    return timm_name


def find_weights(timm_name: str) -> tuple[str | None, str]:
    """Path of a trunk's pretrained weights, from the hub's cache or the hub; without one, None and the reason.

    Only safetensors are taken: timm would fall back to a pickled file.
    """
    config = timm.get_pretrained_cfg(timm_name)
    if config is None or not config.hf_hub_id:
        return None, "timm has no pretrained weights of it on the hub"
    cached = huggingface_hub.try_to_load_from_cache(config.hf_hub_id, WEIGHTS_FILE)
    if isinstance(cached, str):
        return cached, ""
    unreachable = hub_unreachable(config.hf_hub_id)
    if unreachable:
        return None, f"{config.hf_hub_id} is not in the cache, and {unreachable}"
    try:
        return huggingface_hub.hf_hub_download(config.hf_hub_id, WEIGHTS_FILE), ""
    except (HfHubHTTPError, EntryNotFoundError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        return None, f"{config.hf_hub_id} gave no {WEIGHTS_FILE} ({type(error).__name__})"
