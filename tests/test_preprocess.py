import numpy as np
import pytest
import torch
from fake_segmenter import make_contract
from PIL import Image
from transformers import Sam3ImageProcessor, SamImageProcessor

from phd.contract import Contract
from phd.errors import UserError
from phd.preprocess import boxes_to_canvas, mask_to_prompt, points_to_canvas, read_image, to_canvas


def photo(height=37, width=53, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_squash_fills_the_canvas():
    canvas, content = to_canvas(photo(), make_contract(24))
    assert canvas.shape == (3, 24, 24)
    assert canvas.dtype == torch.uint8
    assert content == (24, 24)


def test_pad_is_right_and_bottom_and_black():
    canvas, content = to_canvas(np.full((10, 40, 3), 200, dtype=np.uint8), make_contract(20, resize="pad"))
    assert content == (5, 20)
    assert (canvas[:, :5] == 200).all()
    assert (canvas[:, 5:] == 0).all()


def test_image_of_the_canvas_size_is_unchanged():
    image = photo(24, 24)
    canvas, _ = to_canvas(image, make_contract(24))
    np.testing.assert_array_equal(canvas.permute(1, 2, 0).numpy(), image)


@pytest.mark.parametrize("shape", [(37, 53), (53, 37), (20, 90)])
@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_equals_the_processors_of_the_families(shape, resize):
    """What a teacher sees here is what its own processor would have shown it."""
    image, size = photo(*shape), {"height": 48, "width": 48}
    if resize == "squash":
        processor = Sam3ImageProcessor(size=size)
    else:
        processor = SamImageProcessor(size={"longest_edge": 48}, pad_size=size)
    expected = processor(image, return_tensors="pt")["pixel_values"]
    base = make_contract(48, resize=resize).to_dict()
    contract = Contract.from_dict({**base, "mean": processor.image_mean, "std": processor.image_std})
    canvas, content = to_canvas(image, contract)
    found = contract.normalise(canvas.unsqueeze(0), torch.tensor([content]))
    # One grey level: where the processor resizes after scaling to [0, 1], ours rounds to uint8 before.
    assert (found - expected).abs().max() <= 1.01 / 255 / min(processor.image_std)


def test_the_array_may_be_read_only_and_strided():
    image = photo()
    expected, _ = to_canvas(image, make_contract(24))
    mirrored = image[:, ::-1].copy()
    mirrored.flags.writeable = False
    assert (to_canvas(mirrored[:, ::-1], make_contract(24))[0] == expected).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((4, 4, 4), dtype=np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), dtype=np.uint8),
    ],
)
def test_an_array_that_is_no_rgb_image(array):
    with pytest.raises(UserError, match="uint8 RGB"):
        to_canvas(array, make_contract())


def test_an_image_too_narrow_to_be_seen():
    with pytest.raises(UserError, match="too narrow"):
        to_canvas(np.zeros((1000, 1, 3), dtype=np.uint8), make_contract(32, resize="pad"))


def test_points_keep_pixel_centres_and_boxes_keep_edges():
    contract = make_contract(64)
    # 16 x 32 pixels on 64 x 64: a pixel becomes 2 wide and 4 high.
    points = points_to_canvas(torch.tensor([[0.0, 0.0], [31.0, 15.0]]), contract, 16, 32)
    assert points.tolist() == [[0.5, 1.5], [62.5, 61.5]]
    boxes = boxes_to_canvas(torch.tensor([[1.0, 2.0, 32.0, 16.0]]), contract, 16, 32)
    assert boxes.tolist() == [[2.0, 8.0, 64.0, 64.0]]


@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_mask_prompt_comes_back_as_the_mask(resize):
    contract = make_contract(64, 32, resize)
    mask = np.zeros((16, 32), dtype=bool)
    mask[4:9, 20:27] = True
    logits = mask_to_prompt(mask, contract)
    assert logits.shape == (1, 1, 32, 32)
    assert (logits.min(), logits.max()) == (-10, 10)
    np.testing.assert_array_equal(contract.to_image(logits[0], 16, 32)[0].numpy() > 0, mask)


def test_read_image_turns_by_exif(tmp_path):
    image = photo(5, 8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it 90 degrees clockwise
    Image.fromarray(image).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), np.rot90(image, -1))


def test_read_image_makes_rgb(tmp_path):
    for mode in ("L", "P", "RGBA", "CMYK", "1"):
        name = tmp_path / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}"
        Image.fromarray(photo()).convert(mode).save(name)
        pixels = read_image(str(name))
        assert pixels.shape == (37, 53, 3)
        assert pixels.dtype == np.uint8


def test_bad_files_are_named(tmp_path):
    good = tmp_path / "good.jpg"
    Image.fromarray(photo(200, 200)).save(good)
    truncated, text, empty = tmp_path / "truncated.jpg", tmp_path / "text.jpg", tmp_path / "empty.png"
    truncated.write_bytes(good.read_bytes()[:3000])
    text.write_text("no image")
    empty.write_bytes(b"")
    for path in (truncated, text, empty, tmp_path / "missing.jpg", tmp_path):
        with pytest.raises(UserError) as caught:
            read_image(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message


def test_a_damaged_png_is_named(tmp_path):
    path = tmp_path / "damaged.png"
    Image.fromarray(photo(60, 60)).save(path)
    data = bytearray(path.read_bytes())
    refused = 0
    for position in range(8, len(data), 97):
        damaged = data.copy()
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            read_image(path)
        except UserError:  # any other exception fails the test
            refused += 1
    assert refused > 50


def test_sixteen_bit_images_are_refused(tmp_path):
    path = tmp_path / "depth.png"
    Image.fromarray(np.full((4, 4), 40000, dtype=np.uint16)).save(path)
    with pytest.raises(UserError, match="8 bit"):
        read_image(path)


@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_training_sees_the_same_pixels(tmp_path, resize):
    transforms = pytest.importorskip("datamodules.transforms")
    contract = make_contract(24, 24, resize)
    path = tmp_path / "photo.png"
    Image.fromarray(photo()).save(path)
    example = transforms.ImageTransform(contract)(path.read_bytes(), {"annotations": []}, "photo")
    canvas, content = to_canvas(read_image(path), contract)
    assert (example.image == canvas).all()
    assert tuple(example.content.tolist()) == content
