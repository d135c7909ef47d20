import numpy as np
import pytest
from pycocotools import mask as coco_mask

from datamodules import rle
from phd.errors import UserError


def random_mask(rng, height, width):
    """Noise, blocks, empty and full masks: short runs, long runs, and runs across columns."""
    kind = rng.integers(4)
    if kind == 0:
        return (rng.random((height, width)) < rng.random()).astype(np.uint8)
    mask = np.full((height, width), int(kind == 3), dtype=np.uint8)
    if kind == 1:
        top, left = rng.integers(height), rng.integers(width)
        mask[top : top + height // 2 + 1, left : left + width // 2 + 1] = 1
    return mask


def sample(code, rows, columns):
    return rle.PixelSampler(*code["size"], rows, columns)(code)


def test_counts_of_a_hand_made_mask():
    # Column by column: 0 1 | 1 1 | 0 0 | 1 0
    mask = np.array([[0, 1, 0, 1], [1, 1, 0, 0]], dtype=np.uint8)
    runs = rle.run_lengths(rle.encode(mask), 2, 4)
    assert runs.tolist() == [1, 3, 2, 1, 1]


def test_counts_of_the_sa1b_fixture():
    # A 5 x 10 image with one column of four pixels at x = 3, from y = 1 on.
    assert rle.counts_from_string("`04n0").tolist() == [16, 4, 30]


def test_counts_agree_with_pycocotools_on_large_runs():
    # Runs of more than 5, 10, 15, 20 bits, and negative differences.
    counts = [3, 40, 2_000_000, 1, 70_000, 35, 7, 1_500_000, 1, 1, 900_000, 2]
    height, width = 10, sum(counts) // 10
    assert height * width == sum(counts)
    compressed = rle.compress({"size": [height, width], "counts": counts})
    assert isinstance(compressed["counts"], str)
    assert rle.counts_from_string(compressed["counts"]).tolist() == counts
    assert rle.counts_from_string(compressed["counts"].encode()).tolist() == counts


def test_empty_string_has_no_runs():
    assert rle.counts_from_string("").tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_sampling_equals_decoding_and_indexing(seed):
    rng = np.random.default_rng(seed)
    for _ in range(60):
        height, width = (int(side) for side in rng.integers(1, 50, 2))
        mask = random_mask(rng, height, width)
        code = rle.encode(mask)
        full = coco_mask.decode(code)
        assert (full == mask).all()
        rows = rng.integers(0, height, rng.integers(1, 70))
        columns = rng.integers(0, width, rng.integers(1, 70))
        sampled = sample(code, rows, columns)
        assert sampled.dtype == np.uint8
        assert (sampled == full[rows][:, columns]).all()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("cells", [3, 16, 64])
def test_sampling_on_a_grid_over_a_crop(flip, cells):
    """Coarser and finer than the crop, mirrored or not, as the transform asks for it."""
    rng = np.random.default_rng(cells)
    height, width, top, left, rows, columns = 41, 57, 5, 9, 30, 40
    for _ in range(20):
        mask = random_mask(rng, height, width)
        y = top + ((np.arange(cells) + 0.5) * rows / cells).astype(int)
        x = left + ((np.arange(cells) + 0.5) * columns / cells).astype(int)
        if flip:
            x = x[::-1]
        assert (sample(rle.encode(mask), y, x) == mask[y][:, x]).all()


def test_sampling_reads_uncompressed_counts():
    mask = np.array([[0, 1, 0, 1], [1, 1, 0, 0]], dtype=np.uint8)
    code = {"size": [2, 4], "counts": [1, 3, 2, 1, 1]}
    assert (rle.decode(code) == mask).all()
    assert (sample(code, np.array([1]), np.array([0, 3])) == [[1, 0]]).all()


def test_sampler_is_shared_by_masks_of_one_size_only():
    sampler = rle.PixelSampler(4, 6, np.arange(4), np.arange(6))
    mask = np.eye(4, 6, dtype=np.uint8)
    assert (sampler(rle.encode(mask)) == mask).all()
    with pytest.raises(UserError, match=r"size \[6, 4\] but the image has .* \[4, 6\]"):
        sampler(rle.encode(mask.T))


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ([0, 3, 4, 9], [1, 2, 8, 11]),
        ([0, 3, 4, 9], [11, 8, 2, 1]),  # mirrored
        ([5, 2], [3, 8]),
        ([0, 0, 4], [2, 2, 3]),
        ([9], [11]),
        ([], [3]),
        ([3], []),
    ],
)
def test_drawn_is_sampled(rows, columns):
    rng = np.random.default_rng(0)
    y, x = np.array(rows, dtype=np.int64), np.array(columns, dtype=np.int64)
    sample = rle.PixelSampler(10, 12, y, x)
    for _ in range(40):
        mask = random_mask(rng, 10, 12)
        code, canvas = rle.encode(mask), np.zeros((len(rows), len(columns)), dtype=np.uint8)
        sample.draw(code, canvas)
        assert (canvas == mask[y][:, x]).all()
        assert (sample(code) == mask[y][:, x]).all()


def test_area_and_box():
    mask = np.zeros((7, 9), dtype=np.uint8)
    mask[2:5, 3:8] = 1
    code = rle.encode(mask)
    assert rle.area(code, 7, 9) == 15
    assert rle.bounding_box(code) == [3, 2, 5, 3]


def test_polygons_are_united():
    # Two squares that overlap in one column.
    code = rle.from_polygons([[1, 1, 4, 1, 4, 4, 1, 4], [3, 1, 6, 1, 6, 4, 3, 4]], 8, 8)
    expected = np.zeros((8, 8), dtype=np.uint8)
    expected[1:4, 1:6] = 1
    assert (rle.decode(code) == expected).all()
    assert isinstance(code["counts"], str)


@pytest.mark.parametrize(
    ("polygons", "message"),
    [
        ([], "no lists of numbers"),
        ([1, 1, 4, 1, 4, 4], "no lists of numbers"),
        ([["a", 1, 4, 1, 4, 4]], "no lists of numbers"),
        ([None], "no lists of numbers"),
        (5, "no lists of numbers"),
        ([[1, 1, 4, 4]], "three points"),
        ([[1, 1, 4, 1, 4]], "three points"),
        ([[1, 1, 4, 1, 4, 4], [0, 0]], "three points"),
        ([[1, 1, 4, 1, 4, 4, 4]], "three points"),
        ([[1, 1, 4, 1, 4, 1e9]], "far outside"),
        ([[1, 1, 4, 1, 4, float("nan")]], "far outside"),
    ],
)
def test_bad_polygons_are_refused(polygons, message):
    with pytest.raises(UserError, match=message):
        rle.from_polygons(polygons, 8, 8)


def test_validate_accepts_what_fits():
    rle.validate({"size": [2, 3], "counts": [6]}, 2, 3)
    rle.validate({"size": (2, 3), "counts": [0, 6]}, 2, 3)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (None, "no RLE"),
        ([1, 2, 3], "no RLE"),
        ({"size": [2, 3]}, "no RLE"),
        ({"size": 6, "counts": [6]}, "no RLE"),
        ({"size": [3, 2], "counts": [6]}, r"size \[3, 2\] but the image has"),
        ({"size": [2, 3], "counts": [5]}, "cover 5 pixels"),
        ({"size": [2, 3], "counts": [7, -1]}, "cover 6 pixels"),
        ({"size": [2, 3], "counts": [6.0]}, "whole numbers"),
        ({"size": [2, 3], "counts": ["6"]}, "whole numbers"),
        ({"size": [2, 3], "counts": [[6]]}, "whole numbers"),
        ({"size": [2, 3], "counts": []}, "whole numbers"),
        ({"size": [2, 3], "counts": ""}, "cover 0 pixels"),
        ({"size": [2, 3], "counts": "\x01\x02"}, "damaged"),
        ({"size": [2, 3], "counts": "é"}, "damaged|cover"),
        ({"size": [2, 3], "counts": "b"}, "damaged"),  # the last character announces another one
        ({"size": [2, 3], "counts": "o" * 20 + "0"}, "damaged"),
    ],
)
def test_validate_refuses(code, message):
    with pytest.raises(UserError, match=message):
        rle.validate(code, 2, 3)


def test_damaged_strings_never_end_in_another_error():
    rng = np.random.default_rng(0)
    good = rle.encode((rng.random((20, 30)) < 0.3).astype(np.uint8))
    refused = 0
    for _ in range(300):
        text = list(good["counts"])
        text[rng.integers(len(text))] = chr(rng.integers(32, 127))
        try:
            rle.decode({"size": [20, 30], "counts": "".join(text)})
        except UserError:  # any other exception fails the test
            refused += 1
    assert refused > 200
