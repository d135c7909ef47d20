"""What can be seen of each thing of a clip, and what happens to it: measured, not planned."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datamodules.shapes.placement import outline_mask

if TYPE_CHECKING:
    from datamodules.shapes.clip import Clip

RASTER = 72  # short side of the raster on which areas are measured, in pixels
_CROSSING = 0.3  # overlap of two outlines over the smaller one
_SCALING, _ROTATION = 1.3, 0.5  # largest over smallest size; radians
_PAN, _ZOOM = 0.05, 1.1  # sides of the frame; largest over smallest zoom


@dataclass(frozen=True)
class Survey:
    """Areas of a clip's objects in its annotated frames, in pixels of a raster of 72 on the short side.

    Attributes:
        visible: what is seen `(objects, annotated)`.
        inside: what would be seen if nothing was in front, likewise.
        whole: what it has inside and outside the frame, likewise.
        shared: of each pair of objects, the pixels that both outlines have `(pairs, annotated)`.
        pixel: area of a pixel of the raster in pixels of the clip.
    """

    visible: NDArray[np.float64]
    inside: NDArray[np.float64]
    whole: NDArray[np.float64]
    shared: NDArray[np.float64]
    pixel: float


def survey(clip: Clip) -> Survey:
    """Rasterise the outlines of a clip, without a picture."""
    scale = RASTER / min(clip.height, clip.width)
    height, width = round(clip.height * scale), round(clip.width * scale)
    objects, frames = clip.objects, clip.annotated
    pairs = list(combinations(range(len(objects)), 2))
    visible, inside, whole = (np.zeros((len(objects), len(frames))) for _ in range(3))
    shared = np.zeros((len(pairs), len(frames)))
    for place, frame in enumerate(frames):
        hidden = np.zeros((height, width), dtype=bool)
        alone: dict[int, NDArray[np.bool_]] = {}
        for index in reversed(range(len(clip.scene.things))):  # from front to back
            pose = clip.poses[frame][index]
            mask, full_area = outline_mask(clip.scene.things[index].identity.shape, pose, height, width)
            if index in objects:
                row = objects.index(index)
                alone[row] = mask
                visible[row, place], inside[row, place], whole[row, place] = (
                    (mask & ~hidden).sum(),
                    mask.sum(),
                    full_area,
                )
            hidden |= mask
        shared[:, place] = [(alone[one] & alone[other]).sum() for one, other in pairs]
    return Survey(visible, inside, whole, shared, scale**-2)


def absences(seen: NDArray[np.bool_], inside: NDArray[np.bool_], stride: int) -> dict[str, list[dict[str, int]]]:
    """Name every span of annotated frames in which an object cannot be seen.

    Args:
        seen: whether anything of an object is seen `(objects, annotated)`.
        inside: whether it would be if nothing was in front.
        stride: source frames between two annotated ones.

    Returns:
        `late` (not there from the start), `gone` (not there to the end), `occlusion` and `exit` (hidden or outside
        the frame, seen before and after); spans are source frames, both ends included.
    """
    found: dict[str, list[dict[str, int]]] = {"occlusion": [], "exit": [], "late": [], "gone": []}
    last = seen.shape[1] - 1
    for index, row in enumerate(seen):
        edges = np.flatnonzero(np.diff(np.concatenate([[True], row, [True]]).astype(np.int8)))
        for first, after in edges.reshape(-1, 2):
            name = "occlusion" if 2 * inside[index, first:after].sum() > after - first else "exit"
            name = "late" if first == 0 else "gone" if after > last else name
            found[name].append({"object": index, "first": int(first) * stride, "last": int(after - 1) * stride})
    return found


def happenings(clip: Clip, areas: Survey, seen: NDArray[np.bool_] | None = None) -> dict[str, Any]:
    """Say what happens in a clip.

    Args:
        clip: the clip.
        areas: its survey.
        seen: whether anything of an object is seen `(objects, annotated)`, where that is known better.

    Returns:
        What `absences` names; `crossing`: pairs of objects and the frame in which they overlap most; `lookalike`:
        pairs with at most one attribute that differs; `scaling`, `rotation`: objects; `camera`: "pan", "zoom".
    """
    found: dict[str, Any] = {**absences(areas.visible > 0 if seen is None else seen, areas.inside > 0, clip.stride)}
    found |= {"crossing": [], "lookalike": []}
    for pair, (one, other) in enumerate(combinations(range(len(clip.objects)), 2)):
        share = areas.shared[pair] / np.minimum(areas.whole[one], areas.whole[other])
        if share.max() >= _CROSSING:
            found["crossing"].append({"objects": [one, other], "frame": int(share.argmax()) * clip.stride})
        first, second = (clip.scene.things[clip.objects[index]].identity for index in (one, other))
        differ = [name for name in ("shape", "colour", "texture") if getattr(first, name) != getattr(second, name)]
        if len(differ) < 2:
            found["lookalike"].append({"objects": [one, other], "differ": differ})
    sizes, turns = (
        np.array([[getattr(poses[index], name) for index in clip.objects] for poses in clip.poses])
        for name in ("size", "rotation")
    )
    found["scaling"] = np.flatnonzero(sizes.max(axis=0) > _SCALING * sizes.min(axis=0)).tolist()
    found["rotation"] = np.flatnonzero(np.ptp(turns, axis=0) > _ROTATION).tolist()
    views = np.array([(view.x, view.y, view.zoom) for view in clip.views])
    zooms = views[:, 2].max() > _ZOOM * views[:, 2].min()
    found["camera"] = ["pan"] * bool(np.ptp(views[:, :2], axis=0).max() > _PAN) + ["zoom"] * bool(zooms)
    return found
