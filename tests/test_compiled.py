"""`model.compile`: the trunk's graph is compiled, and nothing else about the training is another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from test_encoder_distill import make, rectangles
from test_experiments import columns, two_steps

from phd.loading import load_segmenter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"),
]


def test_gradients_are_those_of_the_plain_trunk(toy_folder: Path) -> None:
    found = []
    for compiled in (False, True):
        stage = make(toy_folder, backbone="efficientvit_b0", compile=compiled)
        assert not any("_orig_mod" in name for name in stage.learner.state_dict())
        stage.step(rectangles(stage.contract), train=True).loss.backward()
        found.append([p.grad for p in stage.learner.trunk.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 50
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-3, atol=1e-3 * plain.abs().max().item())


def test_fit(tmp_path: Path, toy_shards: Path, toy_folder: Path) -> None:
    """The student that it writes is read as any other."""
    two_steps("toy/stage1.yaml", tmp_path, toy_shards, f"--model.teacher={toy_folder}", "--model.compile=true")
    assert len(columns(tmp_path)["val/mask_iou"]) == 1
    assert load_segmenter(str(tmp_path / "student")).state_dict()
