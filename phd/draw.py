"""Pictures of masks and prompts, and contact sheets of them; Pillow only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from phd.errors import UserError

Colour = tuple[int, int, int]
Tile = tuple[np.ndarray | Image.Image, str]

MASK_COLOUR: Colour = (30, 144, 255)
BOX_COLOUR: Colour = (255, 200, 0)
POSITIVE_COLOUR: Colour = (0, 200, 0)
NEGATIVE_COLOUR: Colour = (220, 0, 0)
_WHITE: Colour = (255, 255, 255)


def overlay(
    image: np.ndarray,
    mask: np.ndarray | None = None,
    box: Sequence[float] | None = None,
    points: Sequence[Sequence[float]] | None = None,
    labels: Sequence[int] | None = None,
    colour: Colour = MASK_COLOUR,
    opacity: float = 0.5,
) -> Image.Image:
    """The image with a half-transparent mask, its contour, and the prompts on top.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) bool.
        box: x0 y0 x1 y1 in image pixels, x1 and y1 exclusive.
        points: Points (x, y) in image pixels.
        labels: 1 is drawn green, 0 red; all 1 by default.
        colour: Of mask and contour.
        opacity: Of the mask inside its contour, in [0, 1].
    """
    height, width = image.shape[:2]
    line = max(1, round(max(height, width) / 300))
    picture = image.copy() if mask is None else _paint(image, mask, colour, opacity, line)
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    if box is not None:
        x0, y0, x1, y1 = box
        # Pillow's right and lower edges are inclusive.
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=BOX_COLOUR, width=line)
    radius = 3 * line
    pairs = [] if points is None else list(points)
    for (x, y), label in zip(pairs, [1] * len(pairs) if labels is None else labels, strict=True):
        fill = POSITIVE_COLOUR if label == 1 else NEGATIVE_COLOUR
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill, outline=_WHITE)
    return canvas


def panel(rows: Sequence[Sequence[Tile]], tile_size: int = 256, gap: int = 8) -> Image.Image:
    """A contact sheet: rows of pictures, each fitted into a square, with its caption below.

    Args:
        rows: Each a list of (picture, caption); rows may differ in length.
        tile_size: Side of the square, in pixels.
        gap: Space around each tile, in pixels.

    Raises:
        ValueError: There is no tile at all.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise ValueError("a panel needs at least one picture")
    font = ImageFont.load_default(size=max(10, tile_size // 18))
    caption_height = sum(font.getmetrics()) if isinstance(font, ImageFont.FreeTypeFont) else 12
    step_x, step_y = tile_size + gap, tile_size + caption_height + gap
    sheet = Image.new("RGB", (columns * step_x + gap, len(rows) * step_y + gap), _WHITE)
    draw = ImageDraw.Draw(sheet)
    for row_index, row in enumerate(rows):
        for column, (picture, caption) in enumerate(row):
            x, y = gap + column * step_x, gap + row_index * step_y
            sheet.paste(_fit(picture, tile_size), (x, y))
            draw.text((x, y + tile_size), _shorten(caption, font, tile_size), fill=(0, 0, 0), font=font)
    return sheet


def save_png(image: np.ndarray | Image.Image, path: str | Path) -> None:
    """Write a PNG; the folder is made if it is missing.

    Raises:
        UserError: The file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _as_picture(image).save(path, format="PNG")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); choose another path") from error


def _paint(image: np.ndarray, mask: np.ndarray, colour: Colour, opacity: float, line: int) -> np.ndarray:
    painted = image.astype(np.float32)
    painted[mask] = (1 - opacity) * painted[mask] + opacity * np.array(colour, dtype=np.float32)
    # The contour lies inside the mask: what it encloses is exactly the mask. The edge of the image is contour too.
    inside = np.asarray(ndimage.binary_erosion(mask, iterations=line), dtype=bool)
    painted[mask & ~inside] = colour
    return painted.round().astype(np.uint8)


def _fit(picture: np.ndarray | Image.Image, size: int) -> Image.Image:
    """Scale a picture into a square, centred on light grey; small pictures are enlarged without smoothing."""
    picture = _as_picture(picture)
    scale = size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    tile = Image.new("RGB", (size, size), (235, 235, 235))
    tile.paste(picture.resize((width, height), method), ((size - width) // 2, (size - height) // 2))
    return tile


def _as_picture(image: np.ndarray | Image.Image) -> Image.Image:
    return Image.fromarray(image) if isinstance(image, np.ndarray) else image


def _shorten(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont | ImageFont.TransposedFont, width: int
) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
