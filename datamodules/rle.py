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
    codes = np.frombuffer(raw, dtype=np.uint8) - np.uint8(48)  # what is below wraps around to more than 63
    if not len(codes):
        return np.zeros(0, dtype=np.int64)
    last = np.flatnonzero(codes < 0x20)
    if codes.max() > 63 or codes[-1] >= 0x20:
        raise UserError("the counts string of the RLE is damaged; write it again, e.g. with pycocotools")
    first = np.empty_like(last)
    first[0], first[1:] = 0, last[:-1] + 1
    further = last - first  # digits after the first one
    if further.max() > 11:  # 60 bits; no mask has longer runs, and the shift below would overflow
        raise UserError("the counts string of the RLE is damaged; write it again, e.g. with pycocotools")
    place = np.arange(len(codes)) - first.repeat(further + 1)
    runs = np.add.reduceat((codes & 0x1F).astype(np.int64) << (5 * place), first)
    runs -= (codes[last] & 0x10).astype(np.int64) << (5 * further + 1)
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
    try:
        runs = counts_from_string(counts) if compressed else np.asarray(counts)
    except ValueError as error:  # lists within the list
        raise UserError("the counts of the RLE are no whole numbers; mend the annotation") from error
    if runs.ndim != 1 or runs.dtype.kind != "i":
        raise UserError("the counts of the RLE are no whole numbers; mend the annotation")
    if not len(runs) or runs.min() < 0 or runs.sum() != height * width:
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
        rows_in_order = np.array_equal(sampled_rows, rows)
        self.in_order = rows_in_order and np.array_equal(sampled_columns, columns)
        self.mirrored = rows_in_order and not self.in_order and np.array_equal(sampled_columns, columns[::-1])
        # Entry y: how many sampled rows lie before y. Entry x: how many sampled pixels lie before column x, and whether
        # pixels of it are sampled, 1 or 0.
        self.rows_before = np.cumsum(np.bincount(sampled_rows + 1, minlength=height + 1))
        self.pixels_before = np.cumsum(np.bincount(sampled_columns + 1, minlength=width + 1)) * len(sampled_rows)
        self.column_is_sampled = np.bincount(sampled_columns, minlength=width + 1)

    def __call__(self, rle: Any) -> np.ndarray:
        """The mask at the sampled pixels, (rows, columns) uint8 in Fortran order.

        Raises:
            UserError: The RLE is damaged or of another size.
        """
        mask = np.zeros(self.shape, dtype=np.uint8)
        first, last, part = self._part(rle)
        mask[first:last] = part
        return mask.T if self.in_order else mask[self.column_places][:, self.row_places].T

    def draw(self, rle: Any, canvas: np.ndarray) -> None:
        """Write the mask at the sampled pixels into zeros (rows, columns).

        Raises:
            UserError: The RLE is damaged or of another size.
        """
        if not self.in_order and not self.mirrored:
            canvas[:] = self(rle)
            return
        first, last, part = self._part(rle)
        (canvas[:, ::-1] if self.mirrored else canvas)[:, first:last] = part.T

    def _part(self, rle: Any) -> tuple[int, int, np.ndarray]:
        """The sampled columns [first, last) that may show the object, (columns, rows); most objects are small."""
        boundaries = np.cumsum(run_lengths(rle, self.height, self.width)[:-1])
        num_columns, num_rows = self.shape
        if not len(boundaries) or not num_rows:
            return 0, 0, np.empty((0, num_rows), dtype=np.uint8)
        x, y = np.divmod(boundaries, self.height)
        # A boundary inside a column that is not sampled lies behind whole columns only.
        behind = self.pixels_before[x] + self.column_is_sampled[x] * self.rows_before[y]
        first = int(behind[0]) // num_rows
        # After an odd number of boundaries the object goes on to the last pixel.
        last = num_columns if len(behind) % 2 else -(-int(behind[-1]) // num_rows)
        edges = np.empty(len(behind) + 2, dtype=np.int64)
        edges[0], edges[1:-1], edges[-1] = first * num_rows, behind, last * num_rows
        values = np.arange(len(behind) + 1, dtype=np.uint8) & 1
        return first, last, values.repeat(edges[1:] - edges[:-1]).reshape(last - first, num_rows)


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
