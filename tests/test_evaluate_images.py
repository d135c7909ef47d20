import json

import numpy as np
import pytest
import torch
from fake_segmenter import FakeSegmenter, fill_box, make_contract, mark_point, same_colour
from pycocotools import mask as coco_mask

from phd.errors import UserError
from phd.evaluate import simulate
from phd.evaluate.images import evaluate_images
from phd.evaluate.report import ImageReport, InstanceResult
from phd.outputs import LabelledImage

RED, GREEN = (255, 0, 0), (0, 255, 0)


def rle(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


def scene(height, width, *instances, key="scene"):
    """Instances are lists of (box, colour); their boxes are painted on black and together are the mask."""
    image, masks = np.zeros((height, width, 3), dtype=np.uint8), []
    for parts in instances:
        mask = np.zeros((height, width), dtype=bool)
        for (x0, y0, x1, y1), colour in parts:
            image[y0:y1, x0:x1] = colour
            mask[y0:y1, x0:x1] = True
        masks.append(rle(mask))
    return LabelledImage(key, image, masks, list(range(7, 7 + len(masks))))


def evaluate(model, *samples, **settings):
    return evaluate_images(model, samples, progress=False, **settings).to_dict(with_instances=True)


@pytest.mark.parametrize(
    ("shape", "contract"),
    [
        ((32, 32), make_contract(32, 32)),
        ((32, 32), make_contract(128, 32)),
        ((16, 32), make_contract(64, 32)),
        ((32, 16), make_contract(64, 32)),
        ((16, 32), make_contract(64, 32, "pad")),
        ((32, 16), make_contract(64, 32, "pad")),
    ],
)
def test_a_model_that_fills_its_box_is_perfect_on_rectangles(shape, contract):
    """Exactly 1: x and y are not swapped, the right edge is exclusive, and prompt and mask meet on one canvas."""
    rectangles = [[((2, 4, 9, 7), RED)], [((11, 1, 16, 16), GREEN)], [((0, 0, 1, 1), RED)]]
    report = evaluate(FakeSegmenter(contract, fill_box(contract)), scene(*shape, *rectangles))
    assert [instance["box"] for instance in report["instances"]] == [1.0, 1.0, 1.0]
    assert report["box_miou"] == 1.0
    assert report["click1_miou"] == report["click5_miou"] == 0.0


def test_a_wrong_box_would_be_noticed(monkeypatch):
    """What the test above gives for a box whose right and lower edges are the last pixels: (7 * 3 - 12) / 21."""
    right_box = simulate.mask_box
    monkeypatch.setattr(
        simulate, "mask_box", lambda mask: [*right_box(mask)[:2], *(e - 1 for e in right_box(mask)[2:])]
    )
    contract = make_contract()
    report = evaluate(FakeSegmenter(contract, fill_box(contract)), scene(32, 32, [((2, 4, 9, 7), RED)]))
    assert report["box_miou"] == pytest.approx(6 * 2 / (7 * 3))


@pytest.mark.parametrize(
    ("shape", "contract"),
    [
        ((16, 32), make_contract(32, 32, "pad")),
        ((32, 32), make_contract(96, 32)),
        ((32, 16), make_contract(64, 32, "pad")),
    ],
)
def test_the_click_lands_on_its_pixel(shape, contract):
    """A model that marks the pixel under each click gains one pixel of the nine each time."""
    model = FakeSegmenter(contract, mark_point(contract))
    report = evaluate(model, scene(*shape, [((12, 3, 15, 6), RED)]))
    assert report["click1_miou"] == pytest.approx(1 / 9)
    assert report["click3_miou"] == pytest.approx(3 / 9)
    assert report["click5_miou"] == pytest.approx(5 / 9)
    first = model.asked[1][0]
    scale = contract.image_size / 32
    assert first.points.tolist() == [[[13.5 * scale - 0.5, 4.5 * scale - 0.5]]]


def two_colours():
    """An object of 64 red and 36 green pixels: one click finds 0.64 of it, the second the rest."""
    return [((2, 2, 10, 10), RED), ((20, 20, 26, 26), GREEN)]


def test_the_second_click_finds_what_was_missed():
    contract = make_contract()
    model = FakeSegmenter(contract, same_colour(contract))
    report = evaluate(model, scene(32, 32, two_colours()), clicks=(1, 2, 5))
    assert report["click1_miou"] == pytest.approx(0.64)
    assert report["click2_miou"] == 1.0
    assert report["click5_miou"] == 1.0
    assert model.encoded == 1
    box, first, second = model.asked  # nothing is left to click after the second
    assert [multimask for _, multimask in model.asked] == [False, True, False]
    assert box[0].points is None
    assert first[0].masks is None
    assert first[0].points.tolist() == [[[5.0, 5.0]]]
    assert second[0].points.tolist() == [[[5.0, 5.0], [22.0, 22.0]]]
    assert second[0].labels.tolist() == [[1, 1]]
    answered = model.answer(torch.from_numpy(np.zeros((3, 32, 32))), first[0], 0)
    assert second[0].masks.shape == (1, 1, 32, 32)
    assert second[0].masks.abs().eq(answered.abs()).all()
    assert (second[0].masks > 0).sum() == 64


def test_a_negative_click_removes_what_was_too_much():
    contract = make_contract()
    model = FakeSegmenter(contract, same_colour(contract, greedy=True))
    red, green = two_colours()
    report = evaluate(model, scene(32, 32, [red], [green]), clicks=(1, 2))
    # Every first click takes all 100 pixels; the second takes the other colour away.
    assert [instance["click1"] for instance in report["instances"]] == pytest.approx([0.64, 0.36])
    assert [instance["click2"] for instance in report["instances"]] == [1.0, 1.0]
    assert model.asked[-1][0].labels.tolist() == [[1, 0], [1, 0]]


def test_an_instance_that_is_done_leaves_the_batch():
    contract = make_contract()
    model = FakeSegmenter(contract, same_colour(contract))
    blue, other_green = ((12, 12, 16, 16), (0, 0, 255)), ((28, 2, 31, 5), GREEN)
    report = evaluate(model, scene(32, 32, two_colours(), [blue], [other_green]))
    first, done, last = report["instances"]
    assert done["click1"] == done["click5"] == 1.0
    assert first["click1"] == pytest.approx(0.64)
    assert last["click1"] == pytest.approx(9 / 45)
    rounds = [prompts for prompts, _ in model.asked[1:]]
    assert [len(prompts) for prompts in rounds[:2]] == [3, 2]
    # Those who stay keep their own masks and clicks.
    assert (rounds[1].masks > 0).sum(dim=(1, 2, 3)).tolist() == [64, 45]
    assert rounds[1].labels.tolist() == [[1, 1], [1, 0]]
    assert rounds[1].points[:, 0].tolist() == [[5.0, 5.0], [29.0, 3.0]]


def test_the_first_click_takes_the_candidate_with_the_highest_score():
    contract = make_contract()
    model = FakeSegmenter(contract, same_colour(contract), decoys=True)
    assert evaluate(model, scene(32, 32, [two_colours()[0]]))["click1_miou"] == 1.0


def test_prompts_per_forward_changes_nothing():
    contract = make_contract()
    sample = scene(32, 32, two_colours(), [((12, 2, 15, 4), (9, 9, 9))], [((2, 28, 30, 30), (0, 0, 255))])
    reports = [
        evaluate(FakeSegmenter(contract, mark_point(contract)), sample, prompts_per_forward=size) for size in (1, 2, 32)
    ]
    assert reports[0] == reports[1] == reports[2]
    assert reports[0]["num_instances"] == 3


def test_instances_count_once_not_images():
    contract = make_contract()
    one = scene(32, 32, two_colours(), key="one")
    three = scene(32, 32, *[[((2, 2, 10, 10), RED)]] * 3, key="three")
    none = scene(32, 32, key="none")
    report = evaluate(FakeSegmenter(contract, same_colour(contract)), one, three, none, num_crowd=4)
    assert report["click1_miou"] == pytest.approx((0.64 + 3) / 4)
    assert (report["num_images"], report["num_instances"]) == (3, 4)
    assert report["skipped"] == []
    assert report["num_crowd"] == 4


def test_sizes_have_the_edges_of_coco():
    areas = [1, 1023, 1024, 9215, 9216]
    results = [InstanceResult("k", index, area, {"box": area / 10000}) for index, area in enumerate(areas)]
    by_size = ImageReport({}, "m", 1, ["box"], results).to_dict()["by_size"]
    assert [by_size[size]["num_instances"] for size in ("small", "medium", "large")] == [2, 2, 1]
    assert by_size["large"]["box_miou"] == pytest.approx(0.9216)


def test_the_report_is_json_with_the_promised_keys():
    contract = make_contract()
    report = evaluate_images(
        FakeSegmenter(contract, fill_box(contract)), [scene(32, 32, two_colours())], progress=False
    )
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    scores = {"box_miou", "click1_miou", "click3_miou", "click5_miou"}
    assert {"protocol", "num_images", "num_instances", "by_size", "skipped", *scores} <= values.keys()
    assert "instances" not in values
    assert values["by_size"]["small"].keys() == {"num_instances", *scores}
    assert values["by_size"]["large"] == {"num_instances": 0, **dict.fromkeys(scores)}
    assert values["protocol"]["version"] == 1
    assert values["protocol"]["mask_threshold"] == 0.0


def test_a_training_model_is_evaluated_in_eval_mode():
    contract = make_contract()
    model = FakeSegmenter(contract, fill_box(contract)).train()
    evaluate(model, scene(32, 32, two_colours()))  # the fake asserts it
    assert not model.training


def bad_sample(change):
    sample = scene(32, 32, two_colours(), [((1, 1, 4, 4), RED)], key="photo_3")
    change(sample)
    return sample


def empty_mask(sample):
    sample.masks[1] = rle(np.zeros((32, 32), dtype=bool))


def other_size(sample):
    sample.masks[1] = rle(np.ones((32, 16), dtype=bool))


def turned(sample):
    sample.image = sample.image[:, :16]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (empty_mask, r"photo_3, instance 8: the mask is empty"),
        (other_size, r"photo_3, instance 8: the mask is 16 x 32 pixels, the image 32 x 32"),
        (turned, r"photo_3, instance 7: the mask is 32 x 32 pixels, the image 16 x 32"),
        (lambda sample: sample.ids.pop(), r"photo_3: 2 masks but 1 ids"),
    ],
)
def test_a_bad_instance_is_named_not_skipped(change, message):
    contract = make_contract()
    with pytest.raises(UserError, match=message):
        evaluate(FakeSegmenter(contract, fill_box(contract)), bad_sample(change))


def test_settings_that_do_not_fit():
    contract = make_contract()
    model, sample = FakeSegmenter(contract, fill_box(contract)), scene(32, 32, two_colours())
    for settings in ({"clicks": (1, 6)}, {"clicks": (0,)}, {"clicks": ()}, {"prompts_per_forward": 0}):
        with pytest.raises(UserError, match="give"):
            evaluate(model, sample, **settings)
    with pytest.raises(UserError, match="1 images without any instance"):
        evaluate(model, scene(32, 32))


def test_progress_goes_to_stderr(capsys):
    contract = make_contract()
    samples = [scene(32, 32, two_colours())]
    evaluate_images(FakeSegmenter(contract, fill_box(contract)), samples)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "evaluate fake" in captured.err
