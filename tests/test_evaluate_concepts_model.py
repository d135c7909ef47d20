"""cgF1 of a model on shards: by hand, against the evaluation of files, and from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_runs import refused
from fake_segmenter import FakeSegmenter, as_logits, fill_box, make_contract
from raw_samples import annotation
from record_samples import HEIGHT, WIDTH, changed, concept_members, concept_record, mask, phrase, write
from teacher_cases import stirred
from tiny_concepts import concept_shards

from datamodules.labelled_concepts import ConceptImages
from datamodules.reader import ShardReader
from phd.cli import run
from phd.concept_prompts import TextFeatures
from phd.contract import Detections, ImageFeatures
from phd.errors import UserError
from phd.evaluate.concept_images import evaluate_concepts
from phd.evaluate.concept_model import evaluate_concept_model
from phd.evaluate.concept_saved import SavedConcepts
from phd.teachers import new_toy

SIDE = 60  # a multiple of both sides of the images, so that rectangles survive the way to the canvas and back
# Phrase -> presence, and by query: probability, and the rectangle top, left, rows, columns in pixels of the image.
ANSWERS: dict[str, tuple[float, list[tuple[float, tuple[int, int, int, int]]]]] = {
    "dog": (0.9, [(0.95, (0, 0, 5, 6)), (0.9, (10, 10, 5, 6))]),
    "cat": (0.8, [(0.9, (0, 20, 5, 6)), (0.1, (15, 20, 5, 6))]),
    "horse": (0.2, [(0.5, (5, 5, 5, 6)), (0.001, (0, 0, 1, 1))]),
}


class Known(FakeSegmenter):
    """Answers as the table says, whatever the image."""

    def __init__(self) -> None:
        super().__init__(make_contract(SIDE, SIDE), fill_box(make_contract(SIDE, SIDE)))
        self.asked_texts: list[str] = []

    @property
    def verbs(self):
        return ("encode", "segment", "detect")

    def encode(self, images, branches=None):
        assert tuple(branches or ()) == ("detector",)
        self.encoded += 1
        return ImageFeatures({"detector": (images,)})

    def encode_text(self, phrases):
        if not all(text.strip("!") for text in phrases):
            raise UserError("phrase 1 is empty")
        self.asked_texts += phrases
        numbers = torch.tensor([[[list(ANSWERS).index(text.split()[0])]] for text in phrases])
        cut = sum(len(text.split()) > 3 for text in phrases)
        return TextFeatures(numbers, torch.ones(len(phrases), 1, dtype=torch.bool), cut)

    def detect(self, features, text, image_index, exemplars=None, text_index=None, auxiliary=False, one_to_many=False):
        assert text is not None
        answers = [list(ANSWERS.values())[int(n)] for n in text.tokens[text_index].flatten()]
        boxes, masks = [], []
        for _, queries in answers:
            for _, (top, left, rows, columns) in queries:
                middle = [(left + columns / 2) / WIDTH, (top + rows / 2) / HEIGHT, columns / WIDTH, rows / HEIGHT]
                boxes.append(middle)
                whole = np.kron(mask(top, left, rows, columns), np.ones((SIDE // HEIGHT, SIDE // WIDTH)))
                masks.append(as_logits(torch.from_numpy(whole > 0)))
        probabilities = torch.tensor([[p for p, _ in queries] for _, queries in answers])
        return Detections(
            probabilities.logit(),
            torch.tensor(boxes).view(len(answers), -1, 4),
            torch.tensor([presence for presence, _ in answers]).logit(),
            torch.stack(masks).view(len(answers), -1, SIDE, SIDE),
        )


def images(root: Path, *records: dict[str, Any]) -> ConceptImages:
    return ConceptImages(
        ShardReader(write(root, {f"s{n}": concept_members(r) for n, r in enumerate(records)}, form="concept"))
    )


def test_numbers_by_hand(tmp_path: Path) -> None:
    """Annotator 1 sees one dog elsewhere, and a cat where the model doubts one; nobody sees a horse."""
    model = Known()
    found = evaluate_concept_model(model, images(tmp_path / "s", concept_record()), progress=False)
    # Dogs: both of annotator 0's. Cats: what counts is wrong for annotator 0, who sees none, and misses annotator 1's.
    # Horse: 0.2 x 0.5 is no detection for cgF1.
    assert (found["num_positive"], found["num_negative"]) == (1, 2)
    # Of two annotators for whom nothing is there and nothing was found the last one counts.
    assert found["chosen_annotators"] == [2, 1]
    assert found["pmf1"] == pytest.approx(1, abs=1e-3)
    mcc = (1 * 1 - 1 * 0) / np.sqrt(2 * 1 * 2 * 1)  # one hit, one false alarm, one right silence
    assert found["il_mcc"] == pytest.approx(mcc, abs=1e-5)
    assert found["cgf1"] == pytest.approx(mcc, abs=1e-3)
    assert (found["num_predictions"], found["num_below_threshold"]) == (5, 2)
    # Presence 0.9 is true, 0.8 and 0.2 are false; the largest scores are 0.855, 0.72 and 0.1.
    assert found["presence_ece"] == pytest.approx((0.1 + 0.8 + 0.2) / 3, abs=1e-6)
    assert found["largest_score_ece"] == pytest.approx((0.145 + 0.72 + 0.1) / 3, abs=1e-6)
    assert found["num_crowd_dropped"] == 1
    assert found["warnings"] == []
    assert (model.encoded, model.asked_texts) == (1, ["dog", "cat", "horse"])
    assert "the model's own probability" in found["protocol"]["calibration"]


def test_a_perfect_model_and_boxes(tmp_path: Path) -> None:
    record = changed(concept_record(), "phrases", to=[phrase("dog", [1, 2]), phrase("horse", [])])
    record["annotations"] = record["annotations"][:2]
    for iou_type in ("segm", "bbox"):
        data = images(tmp_path / iou_type, record)
        found = evaluate_concept_model(Known(), data, iou_type=iou_type, progress=False)
        assert found["cgf1_75"] == pytest.approx(1, abs=1e-3)
        assert found["il_mcc"] == pytest.approx(1, abs=1e-5)
        assert found["protocol"]["annotators"] == "one"
    missed = evaluate_concept_model(Known(), images(tmp_path / "t", record), threshold=0.84, progress=False)
    assert missed["recall_50"] == pytest.approx(0.5, abs=1e-3)


def test_suppression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second answer on the same thing, four fifths of it, goes where its IoU with the better one is too high."""
    record = changed(concept_record(), "phrases", to=[phrase("dog", [1]), phrase("horse", [])])
    record["annotations"] = record["annotations"][:1]
    monkeypatch.setitem(ANSWERS, "dog", (0.9, [(0.95, (0, 0, 5, 6)), (0.9, (0, 0, 4, 6))]))
    counts = {}
    for nms in (None, 0.85, 0.75):
        found = evaluate_concept_model(Known(), images(tmp_path / f"{nms}", record), nms=nms, progress=False)
        counts[nms] = found["precision_50"]
    assert counts[None] == counts[0.85] == pytest.approx(0.5, abs=1e-3)
    assert counts[0.75] == pytest.approx(1, abs=1e-3)
    assert found["protocol"]["predictions"].endswith("but none that overlaps a better one by an IoU above 0.75")


def test_what_does_not_count_is_not_asked_and_counted(tmp_path: Path) -> None:
    record = concept_record()
    record["phrases"][1]["answers"][1]["exhaustive"] = False
    model = Known()
    found = evaluate_concept_model(model, images(tmp_path / "s", record), progress=False)
    assert model.asked_texts == ["dog", "horse"]
    assert (found["num_datapoints"], found["num_dropped_not_exhaustive"]) == (2, 1)
    record["phrases"] = record["phrases"][1:2]
    with pytest.raises(UserError, match="1 images, of which no phrase is labelled exhaustively"):
        evaluate_concept_model(Known(), images(tmp_path / "none", record), progress=False)


def test_warnings_and_errors(tmp_path: Path) -> None:
    record = changed(concept_record(), "phrases", to=[phrase("dog of my aunt", [1, 2], [4])])
    found = evaluate_concept_model(Known(), images(tmp_path / "s", record), progress=False)
    assert found["cgf1"] == found["il_mcc"] == 0
    assert "no phrase is false" in found["warnings"][0]
    assert found["warnings"][1].startswith("1 phrases are longer than the text encoder reads")
    record = changed(concept_record(), "phrases", to=[phrase("!!", [1, 2], [4])])
    with pytest.raises(UserError, match=r"s0: phrase 1 is empty"):
        evaluate_concept_model(Known(), images(tmp_path / "empty", record), progress=False)
    with pytest.raises(UserError, match=r"s0: phrase !! has no text"):
        next(iter(images(tmp_path / "blank", changed(record, "phrases", 0, "text", to=" "))))
    with pytest.raises(UserError, match="holds image data without noun phrases"):
        ConceptImages(ShardReader(write(tmp_path / "plain", {"a": concept_members(record)}, form="image")))


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_saved_predictions_give_the_same_numbers(tmp_path: Path, iou_type: Any) -> None:
    """Three images, one with fewer annotators, one with a phrase that is not exhaustive."""
    other, third = concept_record(), concept_record()
    third["phrases"][2]["answers"][0]["exhaustive"] = False
    other["annotations"] = [annotation(1, mask(2, 1)), annotation(2, mask(10, 11)), annotation(3, mask(15, 20))]
    other["phrases"] = [phrase("dog", [1, 2]), phrase("cat", [3]), phrase("horse", [])]
    saved = SavedConcepts()
    data = images(tmp_path / "s", concept_record(), other, third)
    found = evaluate_concept_model(Known(), data, iou_type=iou_type, save=saved, progress=False)
    files = []
    for number, content in enumerate([saved.predictions, *saved.truths()]):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(content))
    again = evaluate_concepts(files[1:], files[0], iou_type)
    assert len(files) == 3
    same = set(found) & set(again) - {"protocol", "presence_ece", "presence_bias", "reliability", "chosen_annotators"}
    assert {"cgf1", "pmf1_50", "score_ece", "num_dropped_not_exhaustive", "warnings"} <= same
    for name in same - {"num_crowd_dropped"}:  # the truth is saved without them
        assert found[name] == again[name], name
    assert found["reliability"]["score"] == again["reliability"]["score"]
    assert found["largest_score_ece"] == again["presence_ece"]
    assert 0 < found["cgf1"] < 1


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "teacher"
    stirred(new_toy(64)).save(folder)
    return folder


def test_the_command(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards, file, saved = concept_shards(tmp_path / "s", images=3), tmp_path / "a" / "c.json", tmp_path / "p.json"
    data = ["evaluate", "concepts", "--data", str(shards)]
    model = ["--model", str(toy), "--teacher", str(toy), "--max-images", "2", "--threshold", "0.001"]
    run([*data, *model, "--save", str(saved), "--json", str(file)])
    output = capsys.readouterr()
    found = json.loads(file.read_text())
    assert found["num_images"] == 2
    assert found["num_predictions"] > 0
    assert found["teacher"]["cgf1"] == found["cgf1"]
    assert found["protocol"]["predictions"].startswith("all with a score > 0.001")
    assert "IL_MCC" in output.out
    assert "share" in output.out
    line = next(line for line in output.out.splitlines() if line.startswith("phd evaluate concepts --gt "))
    run([*line.split()[1:], "--json", str(file)])
    again = json.loads(file.read_text())
    assert all(again[name] == found[name] for name in ("cgf1", "precision", "score_ece", "num_predictions", "il_fpr"))
    assert found["saved"] == {"pred": str(saved), "gt": [str(tmp_path / "p_gt.json")]}


def test_options_that_do_not_fit(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command, gt, pred = ("evaluate", "concepts"), ("--gt", "a.json"), ("--pred", "b.json")
    model = ("--data", tmp_path, "--model", toy)
    assert "give --gt and --pred (predictions on disk), or --data and --model" in refused(capsys, *command)
    assert "give --gt and --pred" in refused(capsys, *command, *gt)
    assert "give --gt and --pred" in refused(capsys, *command, *model[:2])
    assert "leave out --data, --model" in refused(capsys, *command, *gt, *pred, *model)
    assert "--threshold, or the two" in refused(capsys, *command, *gt, *pred, "--threshold", 0.3)
    assert "--protocol coco: scores predictions on disk" in refused(capsys, *command, *model, "--protocol", "coco")
    assert "--threshold is 2.0" in refused(capsys, *command, *model, "--threshold", 2)
    assert "--max-images is 0" in refused(capsys, *command, *model, "--max-images", 0)


def test_a_report_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = concept_shards(tmp_path / "s", images=1)
    (tmp_path / "file").write_text("")
    folder = tmp_path / "toy"
    stirred(new_toy(64)).save(folder)
    arguments = ("--data", shards, "--model", folder, "--json", tmp_path / "file" / "c.json")
    assert "cannot be written" in refused(capsys, "evaluate", "concepts", *arguments)
    assert "cannot be written" in refused(capsys, "students", "repvit_m0_9", "--json", tmp_path / "file" / "c.json")
