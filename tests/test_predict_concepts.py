"""`ImagePredictor.detect` and `phd detect`, on a segmenter whose answers are known and on the toy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_segmenter import FakeSegmenter, fill_box, make_contract
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from teacher_cases import stirred

from phd.cli import run
from phd.concept_prompts import Exemplars, TextFeatures
from phd.contract import Detections, ImageFeatures
from phd.errors import UserError
from phd.predict import ImagePredictor
from phd.predict_concepts import suppress
from phd.teachers import Teacher, new_toy

HEIGHT, WIDTH, SIDE = 40, 60, 32
# Two queries: the left half of the canvas, and a box of x 0.5 to 1.1, y 0.25 to 0.75.
BOXES = torch.tensor([[0.25, 0.5, 0.5, 1.0], [0.8, 0.5, 0.6, 0.5]])


def logit(probability: float) -> float:
    return float(torch.tensor(probability).logit())


class Finder(FakeSegmenter):
    """Finds two boxes for "square", at 0.9 x 0.8 and 0.9 x 0.6; is sure that nothing else is there."""

    def __init__(self) -> None:
        super().__init__(make_contract(SIDE, SIDE), fill_box(make_contract(SIDE, SIDE)))
        self.calls: list[tuple[int, Exemplars | None]] = []

    @property
    def verbs(self):
        return ("encode", "segment", "detect")

    def encode(self, images, branches=None):
        assert branches == ("tracker", "detector")
        self.encoded += 1
        return ImageFeatures({"tracker": (images,), "detector": (images,)})

    def encode_text(self, phrases):
        known = torch.tensor([[[float(phrase == "square")]] for phrase in phrases])
        return TextFeatures(known, torch.ones(len(phrases), 1, dtype=torch.bool), cut=sum(len(p) > 20 for p in phrases))

    def detect(self, features, text, image_index, exemplars=None, text_index=None, auxiliary=False, one_to_many=False):
        assert torch.is_inference_mode_enabled()
        assert text is not None
        assert text_index is not None
        count = len(image_index)
        self.calls.append((count, exemplars))
        there = text.tokens[text_index, 0, 0] > 0
        centre = (torch.arange(SIDE) + 0.5) / SIDE
        left = torch.where(centre < 0.5, 8.0, -8.0).expand(SIDE, SIDE)
        inner = ((centre > 0.25) & (centre < 0.75)).float()[:, None] * (centre > 0.5).float()
        masks = torch.stack([left, inner * 16 - 8]).expand(count, 2, SIDE, SIDE)
        logits = torch.tensor([logit(0.6), logit(0.8)]).expand(count, 2)
        presence = torch.where(there, logit(0.9), logit(0.05))
        return Detections(logits, BOXES.expand(count, 2, 4), presence, masks)


@pytest.fixture
def predictor() -> ImagePredictor:
    predictor = ImagePredictor(Finder())
    predictor.set_image(np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8))
    return predictor


def test_instances_of_a_phrase(predictor: ImagePredictor) -> None:
    best, second = predictor.detect("square")
    assert (best.phrase, best.score, best.presence) == ("square", pytest.approx(0.72), pytest.approx(0.9))
    assert second.score == pytest.approx(0.54)
    # The canvas is squashed: x counts 60 pixels, y 40; what reaches beyond the image is cut.
    assert best.box == pytest.approx([30, 10, 60, 30], abs=1e-4)
    assert second.box == pytest.approx([0, 0, 30, 40], abs=1e-4)
    truth = np.zeros((HEIGHT, WIDTH), dtype=bool)
    truth[:, :30] = True
    assert np.array_equal(second.mask, truth)
    assert best.mask[10:30, 30:].all()
    assert best.mask.sum() == 20 * 30


def test_thresholds_and_absent_phrases(predictor: ImagePredictor) -> None:
    assert [d.score for d in predictor.detect("square", threshold=0.6)] == [pytest.approx(0.72)]
    assert predictor.detect("dog") == []
    assert len(predictor.detect("dog", threshold=0.03)) == 2
    assert [d.phrase for d in predictor.detect(["dog", "square"], threshold=0.03)] == ["dog"] * 2 + ["square"] * 2


def test_many_phrases_and_one_encoding(predictor: ImagePredictor) -> None:
    model = predictor.model
    assert isinstance(model, Finder)
    found = predictor.detect(["dog"] * 5 + ["square"])
    assert [count for count, _ in model.calls] == [4, 2]
    assert len(found) == 2
    assert model.encoded == 1


def test_exemplars_reach_the_model_in_contract_pixels(predictor: ImagePredictor) -> None:
    model = predictor.model
    assert isinstance(model, Finder)
    predictor.detect(["square", "dog"], exemplars=[[0, 10, 30, 20], [30, 0, 60, 40]], labels=[1, 0])
    _, shown = model.calls[-1]
    assert shown is not None
    assert shown.boxes.tolist() == [[[0, 8, 16, 16], [16, 0, 32, 32]]] * 2
    assert shown.labels.tolist() == [[1, 0]] * 2


def test_errors(predictor: ImagePredictor) -> None:
    with pytest.raises(UserError, match="no image yet"):
        ImagePredictor(Finder()).detect("square")
    with pytest.raises(UserError, match="neither a phrase nor an exemplar"):
        predictor.detect()
    with pytest.raises(UserError, match="negative only"):
        predictor.detect(exemplars=[[0, 0, 5, 5]], labels=[0])
    with pytest.raises(UserError, match=r"1 exemplars with labels \[1, 1\]"):
        predictor.detect("square", exemplars=[[0, 0, 5, 5]], labels=[1, 1])
    with pytest.raises(UserError, match="lies outside the image of 60 x 40"):
        predictor.detect("square", exemplars=[[0, 0, 5, 50]])
    with pytest.raises(UserError, match=r"threshold is 1.5"):
        predictor.detect("square", threshold=1.5)
    plain = ImagePredictor(FakeSegmenter(make_contract(), fill_box(make_contract())))
    plain.set_image(np.zeros((8, 8, 3), dtype=np.uint8))
    with pytest.raises(UserError, match="does not read phrases"):
        plain.detect("square")
    with pytest.warns(UserWarning, match="1 of 2 phrases are longer than the text encoder reads"):
        predictor.detect(["square", "a very long phrase indeed"])


def test_suppression_is_by_mask_and_greedy() -> None:
    masks = torch.zeros(4, 1, 8, dtype=torch.bool)
    # IoU of 0 and 1: 3/5; of 1 and 2: 2/6; of 0 and 2: 1/7; the last one is empty.
    for index, (first, last) in enumerate(((0, 4), (1, 5), (3, 7), (0, 0))):
        masks[index, 0, first:last] = True
    scores = torch.tensor([0.9, 0.95, 0.5, 0.4])
    assert suppress(masks, scores, 0.7).tolist() == [1, 0, 2, 3]
    assert suppress(masks, scores, 0.5).tolist() == [1, 2, 3]
    assert suppress(masks, scores, 0.3).tolist() == [1, 3]
    # What was suppressed suppresses nothing.
    assert suppress(masks, torch.tensor([0.9, 0.8, 0.7, 0.1]), 0.3).tolist() == [0, 2, 3]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "teacher"
    teacher: Teacher = stirred(new_toy(64))
    teacher.save(folder)
    return folder


def test_the_command(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)).save(photo)
    exemplar = ["--exemplar", "5", "5", "30", "40", "--negative-exemplar", "40", "10", "60", "45"]
    run(["detect", str(photo), *exemplar, "red ring", "--model", str(toy), "star " * 20, "--threshold", "0.001"])
    output = capsys.readouterr()
    assert "red ring: " in output.out
    assert "warning: 1 of 2 phrases are longer" in output.err
    results = json.loads((tmp_path / "photo_detect.json").read_text())
    assert {entry["category_id"] for entry in results} <= {1, 2}
    assert results, "a random toy scores above 0.001 somewhere"
    assert all(coco_mask.decode(entry["segmentation"]).shape == (50, 70) for entry in results)
    # COCO's own reader takes it.
    coco = COCO()
    categories = [{"id": 1, "name": "red ring"}, {"id": 2, "name": "star"}]
    coco.dataset = {"images": [{"id": 1, "height": 50, "width": 70}], "categories": categories, "annotations": []}
    coco.createIndex()
    assert len(coco.loadRes(results).anns) == len(results)
    with Image.open(tmp_path / "photo_detect.png") as picture:
        assert picture.size == (70, 50)
    with pytest.raises(UserError, match=r"no phrase: give one"):
        run(["detect", str(photo), "--model", str(toy)])


def test_the_predictor_equals_the_verb(toy: Path) -> None:
    from phd.loading import load_segmenter

    model = load_segmenter(str(toy)).eval()
    image = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    predictor = ImagePredictor(model)
    predictor.set_image(image)
    found = predictor.detect(["red ring", "star"], threshold=0.0)
    with torch.no_grad():
        canvas = torch.from_numpy(image).permute(2, 0, 1)[None]
        features = model.encode(model.contract.normalise(canvas))
        answer = model.detect(features, model.encode_text(["red ring", "star"]), torch.tensor([0, 0]))
    for pair in range(2):
        scores = answer.scores[pair].sort(descending=True).values
        mine = [d.score for d in found if d.phrase == ("red ring", "star")[pair]]
        torch.testing.assert_close(torch.tensor(mine), scores, rtol=1e-4, atol=1e-6)
