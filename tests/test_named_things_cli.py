"""The recipes by which the embedded teacher learns words, through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_experiments import columns, two_steps
from tiny_concepts import concept_shards

from phd.loading import load_segmenter

SMALL = ["--data.batch_size=2", "--data.val_samples=2", "--model.image_size=64"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return concept_shards(tmp_path_factory.mktemp("scenes") / "shards")


@pytest.mark.parametrize("name", ["toy/teacher_words.yaml", "toy/teacher_words_scenes.yaml", "toy/teacher_things.yaml"])
def test_words_are_learnt(name: str, tmp_path: Path, shards: Path, toy_folder: Path) -> None:
    folder = two_steps(name, tmp_path, shards, f"--model.segmenter={toy_folder}", *SMALL)
    metrics = columns(folder)
    assert len(metrics["train/loss/shape"]) == 2
    assert ("train/loss/dice" in metrics) == ("things" in name)
    assert 0 <= metrics["val/mask_iou"][0] <= 1
    before, after = (load_segmenter(str(each)).model.state_dict() for each in (toy_folder, folder / "student"))
    moved = {key.split(".")[1] for key, tensor in after.items() if not torch.equal(tensor, before[key])}
    assert "vision_encoder" in moved
