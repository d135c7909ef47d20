"""Tiles of what teacher and student tracked in a clip."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import interpolate

from phd.batches import ClipBatch
from phd.draw import Tile
from phd.film_strip import TRUTH, film_frames, film_strip
from phd.outputs import ClipPrediction


def clip_rows(batch: ClipBatch, clip: int, prediction: ClipPrediction, columns: int = 8) -> list[list[Tile]]:
    """Rows for ground truth, teacher (where there is one) and student; none for a clip without objects.

    Args:
        batch: Holds the frames.
        clip: Its place in the batch.
        prediction: Of the step, for all clips of the batch.
        columns: Frames that are shown, at most.
    """
    mine = prediction.clip_index == clip
    if not bool(mine.any()):
        return []
    seen = (prediction.target[:, mine] & ~prediction.void[:, mine]).flatten(2).any(2).T.cpu().numpy()
    places = film_frames(seen, columns)
    height, width = (int(side) for side in batch.content[clip])
    side = batch.frames.shape[-1]

    def on_canvas(masks: Tensor, mode: str = "bilinear") -> Tensor:
        """The chosen frames of (T, N, m, m) logits, enlarged to the canvas and cut to its filled part."""
        align = False if mode == "bilinear" else None
        logits = interpolate(masks[places][:, mine].float(), (side, side), mode=mode, align_corners=align)
        return (logits > 0)[..., :height, :width]

    void = on_canvas(prediction.void, "nearest")
    references = {TRUTH: prediction.target.float() - 0.5, "teacher": prediction.teacher, "student": prediction.student}
    tracks = {name: (on_canvas(masks) & ~void).cpu().numpy() for name, masks in references.items() if masks is not None}
    images = [batch.frames[clip, place, :, :height, :width].permute(1, 2, 0).cpu().numpy() for place in places]
    captions = [f"{batch.keys[clip]}: frame {int(batch.numbers[clip, place])}" for place in places]
    return film_strip(images, tracks, captions, prediction.labelled[places][:, mine].all(1).cpu().numpy())
