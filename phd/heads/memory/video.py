"""What a tracker does with one frame: read the memory, answer, and write the frame into the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from phd.contract import Prompts
from phd.heads.interactive import InteractiveHeads
from phd.heads.memory.attention import condition
from phd.heads.memory.bank import BankSize, MemoryBank
from phd.heads.memory.compressors import Dense, rotary_places
from phd.heads.memory.tokens import Compressor, sine_positions, window_centres

# Logits of a mask that is given, not predicted: nearly 1 and nearly 0 (SAM 2's code).
GIVEN_SCALE, GIVEN_BIAS = 20.0, -10.0
# Logits of an object that is not there.
ABSENT = -1024.0
# Conditioning frames that are kept where the model would read all of them.
CONDITIONING_SLOTS = 4


@dataclass
class TrackedFrame:
    """The answer for N objects in one frame.

    Attributes:
        logits: (N, K, m, m) mask logits of all candidates.
        scores: (N, K) predicted IoU.
        object_logits: (N,) whether the object is there.
        pointers: (N, C) object pointers.
        conditioned: (N, C, h, w) the features that the decoder read.
        canvas: (N, S, S) logits of the best candidate on the canvas, from which the memory is made.
    """

    logits: Tensor
    scores: Tensor
    object_logits: Tensor
    pointers: Tensor
    conditioned: Tensor
    canvas: Tensor

    @property
    def masks(self) -> Tensor:
        """(N, m, m) logits of the best candidate, -1024 where the object is not there."""
        return shown(self.logits, self.scores, self.object_logits)


class VideoHeads(InteractiveHeads):
    """Heads with a memory: `tracker_model` holds the library's parts, `compressor` makes a frame's memory small."""

    tracker_model: Any
    compressor: Compressor

    def dense_compressor(self) -> Compressor:
        """The teacher's way: every cell is kept."""
        side = self.tracker_model.backbone_feature_sizes[-1][0]
        return Dense(side, self.tracker_model.mem_dim)

    def track_parameters(self) -> list[nn.Parameter]:
        """Memory, mask decoder, pointers and codes of time: what `track` reads, but for the prompt encoder."""
        fixed = {id(parameter) for parameter in self.tracker_model.prompt_encoder.parameters()}
        mine = [parameter for parameter in self.tracker_model.parameters() if id(parameter) not in fixed]
        return [*self.compressor.parameters(), *mine]

    @property
    def bank_size(self) -> BankSize:
        """The slots that the configuration asks for."""
        config = self.tracker_model.config
        kept = config.max_cond_frame_num if config.max_cond_frame_num > 0 else CONDITIONING_SLOTS
        return BankSize(kept, config.num_maskmem - 1, config.max_object_pointers_in_encoder - 1)

    def new_bank(self, objects: int, like: Tensor, size: BankSize | None = None) -> MemoryBank:
        """An empty bank on the device and in the type of `like`, with the slots of the configuration by default."""
        tracker = self.tracker_model
        return MemoryBank.empty(
            size or self.bank_size, objects, self.compressor.num_tokens, tracker.mem_dim, tracker.hidden_dim, like
        )

    def decoder_levels(self, levels: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The coarsest level (B, C, h, w) as it is, and the two finer ones as the mask decoder reads them.

        Args:
            levels: The tracker's levels of B images, the finest first.
        """
        fine, middle, coarse = levels
        decoder = self.tracker_model.mask_decoder
        return coarse, [decoder.conv_s0(fine), decoder.conv_s1(middle)]

    def without_memory(self, coarse: Tensor) -> Tensor:
        """Features (N, C, h, w) of a frame, marked as one without memory (SAM 2, appendix D.1)."""
        return coarse + self.tracker_model.no_memory_embedding.view(1, -1, 1, 1)

    def read_memory(self, coarse: Tensor, bank: MemoryBank, frame: int | Tensor) -> Tensor:
        """Features (N, C, h, w) of a frame conditioned on the memory; every object must have some.

        Args:
            coarse: (N, C, h, w) coarsest level of the frame for each object.
            bank: The memory of the N objects.
            frame: The number of the frame; or (N,), where each object counts for itself.
        """
        tracker, size = self.tracker_model, coarse.shape[-1]
        age, valid = bank.age(frame)
        _, slots, tokens, width = bank.values.shape
        # Of a conditioning frame the age is 0, which reads the last of the codes of time, as the library has it.
        time = tracker.memory_temporal_positional_encoding.view(-1, width)
        time = time[torch.where(valid, age, 0) - 1]
        positions = self.compressor.positions + time.unsqueeze(2)
        pointers, pointer_positions, pointer_valid = self._pointer_tokens(bank, frame)
        places, placed = rotary_places(self.compressor, slots)
        nowhere = pointers.shape[1]
        grid = sine_positions(window_centres(size, size).to(coarse.device), size, coarse.shape[1])
        return condition(
            tracker.memory_attention,
            coarse,
            grid.T.reshape(1, -1, size, size).to(coarse.dtype),
            torch.cat([bank.values.flatten(1, 2), pointers], dim=1),
            torch.cat([positions.flatten(1, 2), pointer_positions], dim=1),
            torch.cat([places, places.new_zeros(nowhere, 2)]),
            torch.cat([placed, placed.new_zeros(nowhere)]),
            torch.cat([valid.repeat_interleave(tokens, dim=1), pointer_valid], dim=1),
        )

    def _pointer_tokens(self, bank: MemoryBank, frame: int | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Object pointers split into tokens of the memory's width, their codes of time, and which count."""
        tracker = self.tracker_model
        age, valid = bank.pointer_age(frame)
        splits = tracker.hidden_dim // tracker.mem_dim
        values = bank.pointers.unflatten(2, (splits, -1)).flatten(1, 2)
        if tracker.config.enable_temporal_pos_encoding_for_object_pointers:
            latest = float(tracker.config.max_object_pointers_in_encoder - 1)
            code = time_code(torch.where(valid, age, 0) / latest, tracker.hidden_dim).to(values.dtype)
            positions = tracker.temporal_positional_encoding_projection_layer(code)
        else:
            positions = values.new_zeros(*age.shape, tracker.mem_dim)
        return values, positions.repeat_interleave(splits, dim=1), valid.repeat_interleave(splits, dim=1)

    def decode_frame(self, conditioned: Tensor, finer: list[Tensor], prompts: Prompts, multimask: bool) -> TrackedFrame:
        """Answer in one frame; `prompts` has one entry for each of the N objects, or nothing but their number."""
        tracker = self.tracker_model
        sparse, dense = self.embed_prompts(prompts, conditioned)
        logits, scores, tokens, object_logits = tracker.mask_decoder(
            image_embeddings=conditioned,
            image_positional_embeddings=self.positional_encoding().expand(len(prompts), -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            high_resolution_features=finer,
        )
        logits, scores, tokens = logits.squeeze(1), scores.squeeze(1), tokens.squeeze(1)
        rows = torch.arange(len(scores), device=scores.device)
        # With one mask the decoder still has several tokens; the first is that mask's.
        token = tokens[rows, scores.argmax(1)] if multimask and tokens.shape[1] > 1 else tokens[:, 0]
        there = (object_logits.flatten() > 0).to(token.dtype)[:, None]
        pointers = there * tracker.object_pointer_proj(token) + (1 - there) * tracker.no_object_pointer
        object_logits = object_logits.flatten()
        best = shown(logits, scores, object_logits).unsqueeze(1).float()
        whole = F.interpolate(best, (tracker.image_size,) * 2, mode="bilinear", align_corners=False).squeeze(1)
        return TrackedFrame(logits, scores, object_logits, pointers, conditioned, whole.to(logits.dtype))

    def given_frame(self, coarse: Tensor, finer: list[Tensor], masks: Tensor) -> TrackedFrame:
        """A mask that is given is the answer; the decoder only makes its pointer.

        Args:
            coarse: (N, C, h, w) coarsest level, without memory.
            finer: The projected finer levels.
            masks: (N, S, S) given masks in [0, 1] on the canvas.
        """
        tracker = self.tracker_model
        whole = masks.unsqueeze(1).to(coarse.dtype)
        prompt = tracker.mask_downsample(whole)
        asked = Prompts(torch.arange(len(masks), device=masks.device), masks=resized(prompt, self._mask_input_size))
        found = self.decode_frame(coarse, finer, asked, multimask=True)
        given = whole * GIVEN_SCALE + GIVEN_BIAS
        logits = resized(given, self._mask_input_size)
        there = (masks.flatten(1) > 0).any(1).to(coarse.dtype)
        pointers = there[:, None] * found.pointers + (1 - there[:, None]) * tracker.no_object_pointer
        object_logits = GIVEN_SCALE * there + GIVEN_BIAS
        scores = torch.ones_like(logits[:, :, 0, 0])
        return TrackedFrame(logits, scores, object_logits, pointers, coarse, given.squeeze(1))

    def remember(self, coarse: Tensor, canvas: Tensor, object_logits: Tensor, binary: Tensor) -> Tensor:
        """The memory tokens (N, K, D) that a frame leaves.

        Args:
            coarse: (N, C, h, w) coarsest level of the frame, not conditioned.
            canvas: (N, S, S) mask logits on the canvas.
            object_logits: (N,) whether the object is there.
            binary: (N,) bool, whether the mask is cut off to 0 and 1 (a user's) or stays soft (a predicted one).
        """
        tracker = self.tracker_model
        whole = resized(canvas.unsqueeze(1), [4 * side for side in self._mask_input_size])
        soft = torch.where(binary[:, None, None, None], (whole > 0).to(whole.dtype), whole.sigmoid())
        config = tracker.config
        drawn = soft * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
        memory, positions = tracker.memory_encoder(coarse, drawn.to(coarse.dtype))
        if tracker.occlusion_spatial_embedding_parameter is not None:
            absent = (object_logits <= 0).to(memory.dtype)[:, None, None, None]
            memory = memory + absent * tracker.occlusion_spatial_embedding_parameter[..., None, None]
        return self.compressor(memory, positions[:1]).values

    @property
    def _mask_input_size(self) -> list[int]:
        return list(self.tracker_model.prompt_encoder.mask_input_size)

    def wants_candidates(self, points: int, conditioning: bool) -> bool:
        """Whether the decoder is asked for several candidates, as the configuration says.

        Args:
            points: Points of the prompt, two for a box; 0 without one.
            conditioning: Whether it is the first prompt of an object.
        """
        config = self.tracker_model.config
        allowed = config.multimask_output_in_sam and (conditioning or config.multimask_output_for_tracking)
        return bool(allowed and config.multimask_min_pt_num <= points <= config.multimask_max_pt_num)


def shown(logits: Tensor, scores: Tensor, object_logits: Tensor) -> Tensor:
    """Logits (N, m, m) of the best of K candidates (N, K, m, m), -1024 where the object is not there."""
    rows = torch.arange(len(scores), device=scores.device)
    return torch.where((object_logits > 0)[:, None, None], logits[rows, scores.argmax(1)], ABSENT)


def resized(masks: Tensor, size: list[int] | tuple[int, int]) -> Tensor:
    """Resize (N, 1, s, s) bilinearly, smoothed where it becomes smaller."""
    if list(masks.shape[-2:]) == list(size):
        return masks
    return F.interpolate(masks.float(), tuple(size), mode="bilinear", align_corners=False, antialias=True).to(
        masks.dtype
    )


def time_code(values: Tensor, width: int) -> Tensor:
    """Sine code (..., width) of scalars (...), sines first (Vaswani et al., arXiv 1706.03762, section 3.5)."""
    half = width // 2
    frequency = 10000 ** (2 * (torch.arange(half, device=values.device) // 2) / half)
    waves = values.unsqueeze(-1).float() / frequency
    return torch.cat([waves.sin(), waves.cos()], dim=-1)
