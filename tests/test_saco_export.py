"""SA-Co's files to shards and back."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from raw_samples import image_bytes
from test_convert_saco import BY_ANNOTATOR, PAIRS, mask, raw_gold, run

from datamodules.convert.saco_export import pairs

CASES = Path(os.environ.get("PHD_SHARED", Path(__file__).parents[2] / "shared")) / "oracles" / "cgf1_cases"


def assert_back(records, content, annotator):
    """What an evaluator reads of the source must come back from the records: masks and texts exactly."""
    images, annotations = [], []
    for record in records.values():
        more_images, more_annotations = pairs(record, annotator)
        images += more_images
        annotations += more_annotations
    assert sorted(images, key=lambda item: item["id"]) == sorted(content["images"], key=lambda item: item["id"])
    expected = sorted(content["annotations"], key=lambda item: item["id"])
    found = sorted(annotations, key=lambda item: item["id"])
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        np.testing.assert_allclose([*one["bbox"], one["area"]], [*other["bbox"], other["area"]], rtol=0, atol=1e-12)
        assert {**one, "bbox": 0, "area": 0} == {**other, "bbox": 0, "area": 0}


def test_gold_comes_back_from_the_shards(tmp_path):
    changed = {"b": [{**PAIRS[0], "is_instance_exhaustive": 0, "is_pixel_exhaustive": 0, "note": "x"}, *PAIRS[1:]]}
    crowd = mask(9, 12, np.eye(40, 60, dtype=np.uint8), iscrowd=1)
    raw = raw_gold(tmp_path / "raw", pairs=changed, annotations={**BY_ANNOTATOR, "a": [*BY_ANNOTATOR["a"], crowd]})
    _, records = run(raw, tmp_path / "out")
    for annotator, letter in enumerate("abc"):
        content = json.loads((raw / f"gold_metaclip_merged_{letter}_release_test.json").read_text())
        assert_back(records, content, annotator)
    with pytest.raises(AssertionError):
        assert_back(records, content, 1)  # c's file is not b's


def test_the_records_of_the_evaluation_cases(tmp_path):
    if not CASES.is_dir():
        pytest.skip("no evaluation cases; set PHD_SHARED to the folder that holds oracles/cgf1_cases")
    folders = [path for path in sorted(CASES.iterdir()) if (path / "gt.json").exists() or (path / "gt_a.json").exists()]
    assert len(folders) >= 10
    for folder in folders:
        gold = (folder / "gt_a.json").exists()
        raw = tmp_path / folder.name / "raw"
        raw.mkdir(parents=True)
        sources = [folder / f"gt_{letter}.json" for letter in "abc"] if gold else [folder / "gt.json"]
        contents = [json.loads(path.read_text()) for path in sources]
        for letter, content in zip("abc", contents, strict=False):
            name = f"case_merged_{letter}_release_test.json" if gold else "silver_case_merged_test.json"
            (raw / name).write_text(json.dumps(content))
        for entry in contents[0]["images"]:
            pixels = np.zeros((entry["height"], entry["width"], 3), dtype=np.uint8)
            (raw / entry["file_name"]).write_bytes(image_bytes(pixels))
        _, records = run(raw, raw.with_name("out"), "saco-gold" if gold else "saco-silver")
        for annotator, content in enumerate(contents):
            assert_back(records, content, annotator)
