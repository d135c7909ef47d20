"""COCO run-length encoding: read at a few pixels without decoding the whole mask.

A mask is a list of run lengths down the columns (Fortran order), zeros first. SA-1B masks are 1500 pixels and
more a side while a decoder answers at 256 or 288, so sampling the runs is far cheaper than decoding them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from phd.errors import UserError


def counts_from_string(counts: str | bytes) -> np.ndarray:
    """Parse COCO's compressed counts into run lengths.

    Every character carries 5 bits and a continuation bit, lowest bits first; the last one carries the sign.
    From the fourth run on, the difference to the run two places before is stored.

    Args:
        counts: The `counts` of a compressed RLE.

    Returns:
        Run lengths (R,), int64.

    Raises:
        UserError: The string is not a compressed RLE.
    """
    raw = counts.encode("ascii", "replace") if isinstance(counts, str) else counts
    codes = np.frombuffer(raw, dtype=np.uint8).astype(np.int64) - 48
    if not len(codes):
        return np.zeros(0, dtype=np.int64)
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 0x20:
        raise UserError("the counts string of the RLE is damaged; write it again, e.g. with pycocotools")
    last = np.flatnonzero((codes & 0x20) == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    digits = last - first + 1
    if digits.max() > 12:  # 60 bits; no mask has longer runs, and the shift below would overflow
        raise UserError("the counts string of the RLE is damaged; write it again, e.g. with pycocotools")
    place = np.arange(len(codes)) - np.repeat(first, digits)
    runs = np.add.reduceat((codes & 0x1F) << (5 * place), first)
    runs -= np.where(codes[last] & 0x10, np.int64(1) << (5 * digits), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def run_lengths(rle: Any, height: int, width: int) -> np.ndarray:
    """Run lengths (R,) of a compressed or uncompressed RLE, checked against the image it belongs to.

    Raises:
        UserError: It is no RLE, its size is not the image's, or its runs do not fill the image.
    """
    size, counts = (rle.get("size"), rle.get("counts")) if isinstance(rle, dict) else (None, None)
    compressed = isinstance(counts, str | bytes)
    if not isinstance(size, list | tuple) or not (compressed or isinstance(counts, list)):
        raise UserError('the segmentation is no RLE; it needs {"size": [height, width], "counts": ...}')
    if list(size) != [height, width]:
        raise UserError(
            f"the RLE has size {list(size)} but the image has [height, width] = [{height}, {width}]; "
            f"mend the annotation or give the image that it was drawn on"
        )
    runs = counts_from_string(counts) if compressed else np.asarray(counts)
    if runs.ndim != 1 or runs.dtype.kind != "i":
        raise UserError("the counts of the RLE are no whole numbers; mend the annotation")
    if (runs < 0).any() or runs.sum() != height * width:
        raise UserError(
            f"the runs of the RLE cover {runs.sum()} pixels but the image has {height} x {width}; mend the annotation"
        )
    return runs


def validate(rle: Any, height: int, width: int) -> None:
    """Check an RLE against the image it belongs to.

    Raises:
        UserError: It is no RLE, its size is not the image's, or its runs do not fill the image.
    """
    run_lengths(rle, height, width)


def area(rle: Any, height: int, width: int) -> int:
    """Number of pixels of the mask.

    Raises:
        UserError: As `validate`.
    """
    return int(run_lengths(rle, height, width)[1::2].sum())


class PixelSampler:
    """Reads masks of one image size at the same rows and columns, with tables shared by all masks.

    A run boundary lies behind a certain number of the sampled pixels; these numbers are the run boundaries of the
    sampled mask. The result equals decoding the mask and indexing it.
    """

    def __init__(self, height: int, width: int, rows: np.ndarray, columns: np.ndarray) -> None:
        self.height, self.width = height, width
        sampled_rows, self.row_places = np.unique(rows, return_inverse=True)
        sampled_columns, self.column_places = np.unique(columns, return_inverse=True)
        self.shape = (len(sampled_columns), len(sampled_rows))
        self.rows_in_order = np.array_equal(sampled_rows, rows)
        # Entry y (x): how many sampled rows (columns) lie before y (x).
        self.rows_before = np.searchsorted(sampled_rows, np.arange(height + 1))
        self.columns_before = np.searchsorted(sampled_columns, np.arange(width + 2))

    def __call__(self, rle: Any) -> np.ndarray:
        """The mask at the sampled pixels, (rows, columns) uint8.

        Raises:
            UserError: The RLE is damaged or of another size.
        """
        boundaries = np.cumsum(run_lengths(rle, self.height, self.width))[:-1]
        x, y = np.divmod(boundaries, self.height)
        num_columns, num_rows = self.shape
        before, through = self.columns_before[x], self.columns_before[x + 1]
        # A boundary inside a column that is not sampled lies behind whole columns only.
        behind = before * num_rows + (through - before) * self.rows_before[y]
        runs = np.diff(behind, prepend=0, append=num_columns * num_rows)
        mask = np.repeat(np.arange(len(runs), dtype=np.uint8) & 1, runs).reshape(self.shape)
        mask = mask[self.column_places]
        return (mask if self.rows_in_order else mask[:, self.row_places]).T


def decode_at(rle: dict[str, Any], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Sample a mask at the pixels (rows[i], columns[j]) without decoding the rest.

    Args:
        rle: Compressed or uncompressed RLE, valid for its own size.
        rows: (R,) row indices, in any order, repeated or not.
        columns: (C,) column indices, likewise.

    Returns:
        (R, C) uint8 {0, 1}, equal to `decode(rle)[rows][:, columns]`.
    """
    height, width = rle["size"]
    return PixelSampler(height, width, rows, columns)(rle)


def decode(rle: dict[str, Any]) -> np.ndarray:
    """The whole mask, (H, W) uint8."""
    height, width = rle["size"]
    runs = run_lengths(rle, height, width)
    return np.repeat(np.arange(len(runs), dtype=np.uint8) & 1, runs).reshape(width, height).T


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Compress a mask (H, W) to `{"size": [H, W], "counts": str}`."""
    return _with_text(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)))


def compress(rle: dict[str, Any]) -> dict[str, Any]:
    """The same mask as a compressed RLE with a text of counts, as JSON wants it."""
    if isinstance(rle["counts"], str | bytes):
        return _with_text(rle)
    height, width = rle["size"]
    uncompressed: Any = rle  # the stubs of pycocotools know fewer inputs than it takes
    return _with_text(coco_mask.frPyObjects(uncompressed, height, width))


def from_polygons(polygons: Any, height: int, width: int) -> dict[str, Any]:
    """The union of polygons [x0, y0, x1, y1, ...] in image pixels, rasterised as COCO does, as compressed RLE.

    Raises:
        UserError: They are no lists of numbers, have fewer than three points, or lie far outside the image.
    """
    try:
        outlines: Any = [np.asarray(polygon, dtype=np.float64) for polygon in polygons]
    except (TypeError, ValueError):
        outlines = []
    if not outlines or any(outline.ndim != 1 for outline in outlines):
        raise UserError("the polygons are no lists of numbers [[x0, y0, x1, y1, ...], ...]; mend the annotation")
    if any(len(outline) < 6 or len(outline) % 2 for outline in outlines):
        raise UserError("a polygon needs at least three points x, y; mend or remove the annotation")
    # Not a number fails the comparison too. The cost of rasterising grows with the length of the outline.
    if not all((np.abs(outline) <= 10 * max(height, width)).all() for outline in outlines):
        raise UserError("a polygon lies far outside the image; mend or remove the annotation")
    return _with_text(coco_mask.merge(coco_mask.frPyObjects([list(o) for o in outlines], height, width)))


def bounding_box(rle: Any) -> list[float]:
    """Box [x, y, width, height] of a compressed RLE, in pixels."""
    return [float(value) for value in coco_mask.toBbox(rle)]


def _with_text(rle: Any) -> dict[str, Any]:
    counts = rle["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(side) for side in rle["size"]], "counts": text}
