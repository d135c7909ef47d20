from dataclasses import replace

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from raw_samples import annotation, contract, image_bytes, rectangle
from torchvision.transforms.v2 import functional as v2

from datamodules.augmentation import Augmentation, View, draw_view, generator, recolour
from datamodules.placement import Placement, sampled_pixels
from datamodules.transforms import ImageTransform
from phd.errors import UserError

STILL = Augmentation(0.0, 0.0, (1.0, 1.0), 0.0, 0.0, 0.0)
RED, BLUE = np.array([255, 0, 0]), np.array([0, 0, 255])


def red_object(height=90, width=140):
    """An image that is red where the mask is, blue elsewhere; a ragged disc and a bar."""
    y, x = np.mgrid[:height, :width]
    mask = (np.hypot(x - 0.4 * width, y - 0.5 * height) < 0.3 * height).astype(np.uint8)
    mask |= rectangle(height, width, int(0.7 * height), int(0.5 * width), height // 5, width // 2)
    pixels = np.where(mask[..., None], RED, BLUE).astype(np.uint8)
    return image_bytes(pixels), {"annotations": [annotation(1, mask)]}, mask


def redness(example, cells):
    """The share of red in each cell of the mask grid."""
    image = example.image.float() / 255
    return v2.resize(image[:1], [cells, cells], antialias=True)[0]


@pytest.mark.parametrize("resize", ["squash", "pad"])
@pytest.mark.parametrize("shape", [(90, 140), (140, 90), (33, 31)])
@pytest.mark.parametrize(
    "augmentation",
    [
        None,
        replace(STILL, horizontal_flip=1.0),
        replace(STILL, crop_probability=1.0, crop_scale=(0.3, 0.6)),
        replace(STILL, crop_probability=1.0, crop_scale=(0.3, 0.6), horizontal_flip=1.0),
    ],
    ids=["plain", "flip", "crop", "crop and flip"],
)
def test_mask_lies_on_the_red_pixels(resize, shape, augmentation):
    jpg, record, _ = red_object(*shape)
    transform = ImageTransform(contract(128, 32, resize), augmentation, max_masks=3)
    for epoch in range(8):
        example = transform(jpg, record, "key", epoch)
        assert example.valid.tolist() == [True, False, False]
        red = redness(example, 32)
        mask = example.masks[0].bool()
        # Cells on the border are part red; all others agree.
        assert not (mask & (red < 0.2)).any()
        assert not (~mask & (red > 0.8)).any()
        assert mask.any()


@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_masks_equal_nearest_sampling_of_the_full_mask(resize):
    rng = np.random.default_rng(0)
    mask = (rng.random((37, 53)) < 0.4).astype(np.uint8)
    record = {"annotations": [annotation(1, mask)]}
    jpg = image_bytes(np.zeros((37, 53, 3), dtype=np.uint8))
    terms = contract(64, 32, resize)
    example = ImageTransform(terms, train=False)(jpg, record, "key")
    height, width = terms.content_size(37, 53)
    assert example.content.tolist() == [height, width]
    expected = np.zeros((32, 32), dtype=np.uint8)
    for row in range(32):
        for column in range(32):
            y, x = 2 * row + 1, 2 * column + 1  # the centre of the cell, in contract pixels
            if y < height and x < width:
                expected[row, column] = mask[int(y * 37 / height), int(x * 53 / width)]
    assert (example.masks[0].numpy() == expected).all()


def test_a_finer_mask_grid_is_that_of_a_finer_contract():
    jpg, record, _ = red_object(90, 70)
    fine = ImageTransform(contract(128, 64, "squash"), train=False, min_area_cells=16)(jpg, record, "key")
    scaled = ImageTransform(contract(128, 32, "squash"), train=False, mask_scale=2)(jpg, record, "key")
    assert scaled.masks.shape[-1] == 64
    assert torch.equal(scaled.masks, fine.masks)
    assert torch.equal(scaled.image, fine.image)


def test_mask_cells_and_contract_agree_on_what_is_content():
    """Beyond the content there is neither image nor mask, by the rule of `Contract.content_mask`."""
    terms = contract(64, 16, "pad")
    for height in range(20, 41):
        full = annotation(1, np.ones((height, 64), dtype=np.uint8))
        jpg = image_bytes(np.full((height, 64, 3), 255, dtype=np.uint8))
        example = ImageTransform(terms, train=False)(jpg, {"annotations": [full]}, "key")
        inside = terms.content_mask(example.content[None], 16)[0]
        assert (example.masks[0].bool() == inside).all()
        assert (example.image[:, : example.content[0]] == 255).all()
        assert (example.image[:, example.content[0] :] == 0).all()


def test_mirrored_pixels_are_the_mirror_image():
    # 8 cells over 8 canvas pixels over image pixels 10 to 25: the centres are in the middle of pairs.
    plain = sampled_pixels(8, 8, 8, begin=10, length=16, mirrored=False)
    assert plain.tolist() == [11, 13, 15, 17, 19, 21, 23, 25]
    assert sampled_pixels(8, 8, 8, begin=10, length=8, mirrored=True).tolist() == [17, 16, 15, 14, 13, 12, 11, 10]
    # Cells beyond the content are left out: of 4 cells over 8 pixels, 5 of them content, centres 1, 3 (5, 7 not).
    assert sampled_pixels(5, 8, 4, begin=0, length=10, mirrored=False).tolist() == [2, 6]


def test_random_numbers_depend_on_seed_epoch_and_key_only():
    draws = {
        (seed, epoch, key): generator(seed, epoch, key).random()
        for seed in (0, 1)
        for epoch in (0, 1)
        for key in ("a", "b")
    }
    assert len(set(draws.values())) == 8
    assert generator(0, 1, "a").random() == draws[0, 1, "a"]
    assert generator(1, 11, "a").random() != generator(11, 1, "a").random()


def test_an_example_is_a_pure_function():
    jpg, record, _ = red_object()
    transform = ImageTransform(contract(), Augmentation(), seed=4)
    first = transform(jpg, record, "key", 2)
    transform(jpg, record, "other", 5)
    torch.rand(3)
    again = ImageTransform(contract(), Augmentation(), seed=4)(jpg, record, "key", 2)
    assert (first.image == again.image).all()
    assert (first.masks == again.masks).all()
    assert (first.image != transform(jpg, record, "key", 3).image).any()


def squares(count, side=4, **more):
    """`count` squares in a row of a 40 x 200 image."""
    return [annotation(n, rectangle(40, 200, 10, 10 * n, side, side), **more) for n in range(count)]


def test_validation_takes_the_first_and_training_any():
    jpg = image_bytes(np.zeros((40, 200, 3), dtype=np.uint8))
    record = {"annotations": squares(20)}
    terms = contract(200, 200)
    first = ImageTransform(terms, max_masks=5, train=False)(jpg, record, "key")
    assert [int(mask.any(dim=0).nonzero()[0]) for mask in first.masks] == [0, 10, 20, 30, 40]
    chosen = set()
    transform = ImageTransform(terms, max_masks=5, train=True)
    for epoch in range(30):
        starts = [int(mask.any(dim=0).nonzero()[0]) for mask in transform(jpg, record, "key", epoch).masks]
        assert len(set(starts)) == 5
        chosen |= set(starts)
    assert chosen == set(range(0, 200, 10))


def test_crowds_and_small_instances_take_no_place():
    jpg = image_bytes(np.zeros((40, 200, 3), dtype=np.uint8))
    crowd = squares(2, iscrowd=1)
    tiny = [annotation(7, rectangle(40, 200, 0, 0, 1, 3))]
    exact = [annotation(8, rectangle(40, 200, 0, 0, 1, 4))]
    terms = contract(200, 200)
    # One row of the image is five rows of the grid, so 3 pixels are 15 cells and 4 are 20.
    transform = ImageTransform(terms, max_masks=4, min_area_cells=20, train=False)
    example = transform(jpg, {"annotations": [*crowd, *tiny, *exact]}, "key")
    assert example.valid.tolist() == [True, False, False, False]
    assert example.masks.flatten(1).sum(dim=1).tolist() == [20, 0, 0, 0]
    assert transform(jpg, {"annotations": [{**exact[0], "iscrowd": 0}]}, "key").valid[0]


def test_a_crop_without_instances_is_not_used():
    jpg = image_bytes(np.zeros((40, 40, 3), dtype=np.uint8))
    record = {"annotations": [annotation(1, rectangle(40, 40, 0, 0, 4, 4))]}
    augmentation = replace(STILL, crop_probability=1.0, crop_scale=(0.1, 0.1))
    transform = ImageTransform(contract(40, 40), augmentation)
    drawn = [draw_view(generator(0, epoch, "key"), augmentation, 40, 40) for epoch in range(30)]
    assert sum(view.top < 3 and view.left < 3 for view in drawn) < 10  # most crops miss the corner
    for epoch in range(30):
        assert transform(jpg, record, "key", epoch).valid.sum() == 1
    assert transform(jpg, {"annotations": []}, "key").valid.sum() == 0


def test_crops_have_the_drawn_area_and_the_shape_of_the_image():
    settings = replace(STILL, crop_probability=1.0, crop_scale=(0.2, 0.5))
    views = [draw_view(generator(0, epoch, "key"), settings, 300, 500) for epoch in range(200)]
    shares = [view.height * view.width / 150_000 for view in views]
    assert 0.19 < min(shares) < 0.22
    assert 0.48 < max(shares) < 0.51
    assert all(abs(view.width / view.height - 500 / 300) < 0.02 for view in views)
    assert all(view.top + view.height <= 300 and view.left + view.width <= 500 for view in views)
    assert not any(view.mirrored for view in views)
    assert draw_view(generator(0, 0, "key"), STILL, 300, 500) == View(0, 0, 300, 500)
    assert draw_view(generator(0, 0, "key"), None, 300, 500) == View(0, 0, 300, 500)


def test_no_mirror_where_forbidden():
    settings = replace(Augmentation(), horizontal_flip=1.0)
    free = [draw_view(generator(0, epoch, "key"), settings, 30, 50) for epoch in range(9)]
    bound = [draw_view(generator(0, epoch, "key"), settings, 30, 50, flip=False) for epoch in range(9)]
    assert all(view.mirrored for view in free)
    assert bound == [replace(view, mirrored=False) for view in free]  # all other numbers stay as drawn


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("brightness", 0.8),
        ("brightness", 1.1),
        ("contrast", 0.7),
        ("contrast", 1.1),
        ("saturation", 0.6),
        ("saturation", 1.2),
    ],
)
def test_recolour_is_what_torchvision_does(name, factor):
    rng = np.random.default_rng(0)
    # Smooth, so that the mean over every eighth pixel is the mean; no extreme values, so that nothing is cut off.
    image = torch.from_numpy(rng.integers(70, 180, (3, 4, 4), dtype=np.uint8))
    image = v2.resize(image, [128, 128], antialias=True)
    factors = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, name: factor}
    expected = getattr(v2, f"adjust_{name}")(image, factor)
    changed = recolour(image, **factors)
    assert changed.dtype == torch.uint8
    assert (changed.int() - expected.int()).abs().max() <= 1


def test_recolour_cuts_off():
    image = torch.tensor([0, 100, 255], dtype=torch.uint8).expand(3, 1, 3)
    assert recolour(image, 2.0, 1.0, 1.0)[0, 0].tolist() == [0, 200, 255]
    assert recolour(image, 1.0, 1.0, 1.0) is image


def test_recolour_by_the_mean_of_another_image():
    dark, bright = (torch.full((3, 8, 8), level, dtype=torch.uint8) for level in (50, 150))
    # Contrast 0.5 halves the distance to the mean: 50 + (150 - 50) / 2.
    assert (recolour(bright, 1.0, 0.5, 1.0, like=dark) == 100).all()
    assert (recolour(bright, 1.0, 0.5, 1.0) == 150).all()


def test_colours_change_before_the_padding():
    jpg = image_bytes(np.full((20, 64, 3), 100, dtype=np.uint8))
    transform = ImageTransform(contract(64, 16, "pad"), replace(STILL, brightness=0.5, contrast=0.5))
    example = transform(jpg, {"annotations": []}, "key")
    assert (example.image[:, 20:] == 0).all()
    assert (example.image[:, :20] != 100).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"horizontal_flip": 1.2}, r"augmentation.horizontal_flip is 1.2"),
        ({"saturation": -0.1}, r"augmentation.saturation is -0.1"),
        ({"crop_scale": (0.0, 1.0)}, r"augmentation.crop_scale is \[0.0, 1.0\]"),
        ({"crop_scale": (0.8, 0.4)}, r"augmentation.crop_scale is \[0.8, 0.4\]"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(UserError, match=message):
        ImageTransform(contract(), replace(Augmentation(), **change))


def test_bad_samples_are_named():
    jpg, record, mask = red_object()
    transform = ImageTransform(contract(64, 16, "pad"))
    with pytest.raises(UserError, match=r"shard: key: the image file is truncated"):
        transform(jpg[:-20], record, "key", where="shard: key")
    with pytest.raises(UserError, match=r"key: the image file is empty"):
        transform(b"", record, "key")
    turned = {"annotations": [annotation(3, mask.T)]}
    with pytest.raises(UserError, match=r"key: annotation 3: the RLE has size \[140, 90\]"):
        transform(jpg, turned, "key")
    with pytest.raises(UserError, match=r"key: annotation 3: the segmentation is no RLE"):
        transform(jpg, {"annotations": [{"id": 3}]}, "key")
    with pytest.raises(UserError, match=r"1 x 300 pixels is too narrow for a canvas of 64"):
        transform(image_bytes(np.zeros((300, 1, 3), dtype=np.uint8)), record, "key")


def test_grey_images_become_rgb():
    jpg = image_bytes(np.full((20, 20), 77, dtype=np.uint8))
    example = ImageTransform(contract())(jpg, {"annotations": []}, "key")
    assert example.image.shape == (3, 64, 64)
    assert (example.image == 77).all()


def test_masks_equal_pycocotools_on_the_real_photograph_size():
    """SA-1B's own size once, against the full decode of pycocotools."""
    y, x = np.mgrid[:1500, :2250]
    mask = (np.hypot(x - 900, y - 700) < 400 + 60 * np.sin(x / 9)).astype(np.uint8)
    code = annotation(1, mask)
    rows = sampled_pixels(288, 288, 288, 0, 1500, mirrored=False)
    columns = sampled_pixels(288, 288, 288, 0, 2250, mirrored=False)
    mask = Placement(contract(288, 288), 1500, 2250, View(0, 0, 1500, 2250)).mask(code["segmentation"])
    assert (mask == coco_mask.decode(code["segmentation"])[rows][:, columns]).all()
