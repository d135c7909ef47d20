"""Pictures of detections: masks, boxes, names and scores; Pillow only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from phd.draw import Colour, overlay

# Okabe and Ito's colours, which colour-blind people tell apart, without black.
COLOURS: tuple[Colour, ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (213, 94, 0),
    (86, 180, 233),
    (240, 228, 66),
)


def overlay_detections(
    image: np.ndarray,
    masks: Sequence[np.ndarray],
    boxes: Sequence[Sequence[float]],
    names: Sequence[str],
    opacity: float = 0.45,
) -> Image.Image:
    """The image with all instances, each in its colour, with its box and its name.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: (H, W) bool, one for each instance; the first lies on top.
        boxes: x0 y0 x1 y1 in image pixels, x1 and y1 edges.
        names: Written at the upper left corner of the box.
        opacity: Of the masks, in [0, 1].
    """
    height, width = image.shape[:2]
    picture = image
    colours = [COLOURS[index % len(COLOURS)] for index in range(len(masks))]
    for mask, colour in reversed(list(zip(masks, colours, strict=True))):
        picture = np.array(overlay(picture, mask, colour=colour, opacity=opacity))
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    line = max(1, round(max(height, width) / 400))
    font = ImageFont.load_default(size=max(10, round(max(height, width) / 45)))
    for (x0, y0, x1, y1), name, colour in reversed(list(zip(boxes, names, colours, strict=True))):
        # Pillow's right and lower edges are inclusive.
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=line)
        _, _, right, bottom = draw.textbbox((0, 0), name, font=font)
        x, y = min(x0, max(0, width - right - 2)), max(0, min(y0 - bottom - 2, height - bottom - 2))
        draw.rectangle((x, y, x + right + 2, y + bottom + 2), fill=colour)
        draw.text((x + 1, y + 1), name, fill=(255, 255, 255) if sum(colour) < 400 else (0, 0, 0), font=font)
    return canvas
