import json

import numpy as np
import pytest
import torch
from fake_segmenter import FakeSegmenter, fill_box, make_contract, mark_point, same_colour
from PIL import Image
from pycocotools import mask as coco_mask

from phd.errors import UserError
from phd.predict import ImagePredictor, mask_box, to_json


def picture():
    """32 wide, 16 high: a red block of 6 x 3 in green."""
    image = np.zeros((16, 32, 3), dtype=np.uint8)
    image[..., 1] = 255
    image[5:8, 20:26] = (255, 0, 0)
    return image


def predictor(answer=fill_box, contract=None, **settings):
    contract = contract or make_contract(64, 32, "pad")
    made = ImagePredictor(FakeSegmenter(contract, answer(contract), **settings))
    made.set_image(picture())
    return made


@pytest.mark.parametrize("contract", [make_contract(64, 32, "pad"), make_contract(64, 32), make_contract(128, 64)])
def test_box_of_the_image_is_box_of_the_mask(contract):
    prediction = predictor(contract=contract).segment(box=[20, 5, 26, 8])
    expected = np.zeros((16, 32), dtype=bool)
    expected[5:8, 20:26] = True
    np.testing.assert_array_equal(prediction.mask, expected)
    assert prediction.mask.dtype == bool
    assert prediction.box == [20, 5, 26, 8]
    assert prediction.area == 18
    assert prediction.score == pytest.approx(0.9)
    assert prediction.logits.shape == (contract.mask_size, contract.mask_size)


def test_point_of_the_image_is_pixel_of_the_mask():
    prediction = predictor(mark_point).segment(points=[[20, 5]])
    assert prediction.box == [20, 5, 21, 6]
    two = predictor(mark_point).segment(points=[[20, 5], [0, 0], [3, 3]], labels=[1, 1, 0])
    assert np.argwhere(two.mask).tolist() == [[0, 0], [5, 20]]


def test_a_lone_point_asks_for_several_masks_unless_told():
    made = predictor(mark_point, decoys=True)
    assert made.segment(points=[[20, 5]], multimask=True).area == 1
    prompts, _ = made.model.asked[-1]
    assert prompts.ambiguous
    made.segment(points=[[20, 5]])
    assert made.model.asked[-1][1] is None
    made.segment(points=[[20, 5]], multimask=False)
    assert made.model.asked[-1][1] is False


def test_box_and_points_and_mask_go_together():
    made = predictor(same_colour, contract=make_contract(32, 32))
    earlier = made.segment(box=[1, 1, 5, 5])
    made.segment(box=[1, 2, 5, 6], points=[[3, 3]], labels=[0], mask=earlier.logits)
    prompts, _ = made.model.asked[-1]
    assert prompts.boxes.tolist() == [[1, 4, 5, 12]]
    assert prompts.labels.tolist() == [[0]]
    assert (prompts.masks[0, 0] == earlier.logits).all()


def test_a_mask_of_the_image_becomes_a_prompt():
    made = predictor()
    rough = np.zeros((16, 32), dtype=bool)
    rough[2:6, 4:9] = True
    made.segment(mask=rough)
    prompt = made.model.asked[-1][0].masks
    restored = made.model.contract.to_image(prompt[0], 16, 32)[0].numpy() > 0
    np.testing.assert_array_equal(restored, rough)
    for wrong in (rough.T, rough.astype(np.uint8), torch.zeros(4, 4)):
        with pytest.raises(UserError, match=r"boolean array of shape \(16, 32\)"):
            made.segment(mask=wrong)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"box": [20, 5, 33, 8]}, "box 20 5 33 8 lies outside the image of 32 x 16 pixels"),
        ({"box": [2, 5, 5, 17]}, "32 x 16"),
        ({"box": [-1, 5, 5, 7]}, "outside"),
        ({"box": [5, 5, 5, 8]}, "box 5 5 5 8 is empty"),
        ({"box": [5, 8, 7, 5]}, "empty"),
        ({"box": [float("nan"), 5, 7, 8]}, "empty"),
        ({"box": [1, 2, 3]}, "four numbers"),
        ({"points": [[32, 5]]}, "point 32 5 lies outside the image of 32 x 16 pixels"),
        ({"points": [[5, 16]]}, "outside"),
        ({"points": [[1, 1], [-0.5, 3]], "labels": [1, 1]}, "point -0.5 3"),
        ({"points": [[float("nan"), 3]]}, "outside"),
        ({"points": [[1, 2, 3]]}, "two numbers"),
        ({"points": [[1, 2]], "labels": [1, 0]}, "1 points with 2 labels"),
        ({"points": [[1, 2]], "labels": [2]}, "label 2"),
        ({"points": []}, "at least one point"),
        ({"box": [1, 2, 3, 4], "labels": [1]}, "0 points with 1 labels"),
        ({}, "no prompt"),
    ],
)
def test_prompts_that_are_none(prompt, message):
    made = predictor()
    with pytest.raises(UserError, match=message) as caught:
        made.segment(**prompt)
    assert "\n" not in str(caught.value)
    assert made.model.asked == []


def test_the_last_pixel_and_the_whole_image_are_inside():
    made = predictor()
    assert made.segment(box=[0, 0, 32, 16]).area == 32 * 16
    made.segment(points=[[31, 15]])


def test_an_image_is_encoded_once_and_replaced_by_the_next(tmp_path):
    made = predictor()
    made.segment(box=[1, 1, 5, 5])
    made.segment(box=[1, 1, 6, 5])
    assert made.model.encoded == 1
    path = tmp_path / "photo.png"
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(path)
    made.set_image(path)
    assert made.segment(box=[0, 0, 8, 8]).mask.shape == (8, 8)
    assert made.model.encoded == 2


def test_before_any_image():
    contract = make_contract()
    made = ImagePredictor(FakeSegmenter(contract, fill_box(contract)).train())
    assert not made.model.training
    with pytest.raises(UserError, match="set_image"):
        made.segment(box=[0, 0, 1, 1])
    with pytest.raises(UserError, match=r"missing\.jpg"):
        made.set_image("missing.jpg")


def test_empty_mask_has_no_box():
    prediction = predictor(mark_point).segment(points=[[5, 5]], labels=[0])
    assert (prediction.box, prediction.area) == (None, 0)
    assert json.loads(json.dumps(to_json(prediction)))["box"] is None


def test_mask_box_by_hand():
    mask = np.zeros((5, 9), dtype=bool)
    mask[1, 3] = mask[3, 7] = True
    assert mask_box(mask) == [3, 1, 8, 4]


def test_json_holds_the_mask():
    prediction = predictor().segment(box=[20, 5, 26, 8])
    values = json.loads(json.dumps(to_json(prediction, image="photo.jpg", prompts={"box": [20, 5, 26, 8]})))
    assert list(values) == ["image", "prompts", "rle", "box", "area", "score"]
    np.testing.assert_array_equal(coco_mask.decode(values["rle"]).astype(bool), prediction.mask)
    assert (values["box"], values["area"], values["score"]) == ([20, 5, 26, 8], 18, pytest.approx(0.9))
