"""Film strips of tracked clips: a row for each tracker, a column for each frame, a colour for each object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from phd.draw import Colour, Tile, overlay
from phd.metrics.video import region_similarity

TRUTH = "truth"
OBJECT_COLOURS: tuple[Colour, ...] = (
    (230, 60, 60),
    (40, 130, 250),
    (255, 190, 0),
    (70, 190, 80),
    (190, 90, 240),
    (0, 190, 190),
    (255, 120, 30),
    (240, 110, 190),
)


def film_strip(
    images: Sequence[np.ndarray],
    tracks: Mapping[str, np.ndarray],
    captions: Sequence[str],
    known: np.ndarray | None = None,
) -> list[list[Tile]]:
    """Rows of tiles for `phd.draw.panel`.

    The row "truth" has the captions of the frames. Below it, a row has its name and the J of the frame, the mean over
    objects, 1 for an object that neither the truth nor the row shows.

    Args:
        images: The T frames (H, W, 3) uint8 RGB.
        tracks: By name of the row, masks (T, N, H, W) bool; the row "truth" is what the others are compared with.
        captions: Of the T frames.
        known: (T,) bool, which frames have truth; all by default. The others have neither its masks nor J.
    """
    truth = tracks.get(TRUTH)
    compared = np.full(len(images), truth is not None) if known is None else known & (truth is not None)

    def tile(name: str, place: int) -> Tile:
        masks, caption = tracks[name][place], f"{name}, {captions[place]}"
        if name == TRUTH:
            masks, caption = masks if compared[place] else masks[:0], captions[place]
        elif truth is not None:
            alike = compared[place] and len(masks)
            caption = f"{name}, J {mean_similarity(masks, truth[place]):.2f}" if alike else name
        return objects_overlay(images[place], masks), caption

    return [[tile(name, place) for place in range(len(images))] for name in tracks]


def objects_overlay(image: np.ndarray, masks: np.ndarray, opacity: float = 0.45) -> np.ndarray:
    """The image (H, W, 3) uint8 with the masks (N, H, W) bool of N objects, each in its own colour."""
    for number, mask in enumerate(masks):
        colour = OBJECT_COLOURS[number % len(OBJECT_COLOURS)]
        image = np.asarray(overlay(image, mask, colour=colour, opacity=opacity))
    return image


def mean_similarity(masks: np.ndarray, truth: np.ndarray) -> float:
    """J of one frame, the mean over its N objects; both (N, H, W) bool."""
    return float(np.mean([region_similarity(*pair) for pair in zip(masks, truth, strict=True)]))


def absences(seen: np.ndarray) -> list[tuple[int, int]]:
    """The first and the last frame of each span in which an object is gone, seen before and after it.

    Args:
        seen: (T,) bool, whether the object is seen in each frame.
    """
    places = np.flatnonzero(seen)
    gaps = np.flatnonzero(np.diff(places) > 1)
    return [(int(places[gap]) + 1, int(places[gap + 1]) - 1) for gap in gaps]


def longest_absence(seen: np.ndarray) -> tuple[int, int] | None:
    """The longest of the absences of N objects, the first one of several; None without any.

    Args:
        seen: (N, T) bool.
    """
    spans = [span for row in seen for span in absences(row)]
    return max(spans, key=lambda span: span[1] - span[0], default=None)


def film_frames(seen: np.ndarray, count: int) -> list[int]:
    """Which of T frames to show: at equal distances, the first and the last included.

    One of them is moved into the middle of the longest absence, if that shows in none.

    Args:
        seen: (N, T) bool, whether each object is seen in each frame.
        count: How many frames; fewer where there are not so many.
    """
    frames = seen.shape[1]
    chosen = sorted({round(place) for place in np.linspace(0, frames - 1, min(count, frames))})
    span = longest_absence(seen)
    if span is None or len(chosen) < 3 or any(span[0] <= place <= span[1] for place in chosen):
        return chosen
    middle = (span[0] + span[1]) // 2
    nearest = min(chosen[1:-1], key=lambda place: abs(place - middle))
    return sorted({*chosen, middle} - {nearest})
