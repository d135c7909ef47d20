"""`model.compile`: the trunk's graph is compiled, and nothing else about the training is another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from test_bf16 import check_run
from test_encoder_distill import at, make, rectangles
from test_experiments import two_steps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"),
]


def test_gradients_are_those_of_the_plain_trunk(toy_folder: Path) -> None:
    found = []
    for compiled in (False, True):
        stage = at(make(toy_folder, backbone="efficientvit_b0", compile=compiled), 0, of=10)
        assert not any("_orig_mod" in name for name in stage.learner.state_dict())
        stage.step(rectangles(stage.contract), train=True).loss.backward()
        gradients = [each.grad.flatten() for each in stage.learner.trunk.parameters() if each.grad is not None]
        assert len(gradients) > 50
        found.append(torch.cat(gradients))
    plain, other = found
    # Together: a bias before a batch norm has a gradient of 0, and rounding is all there is of it.
    assert (other - plain).norm() < 1e-4 * plain.norm()


def test_fit(tmp_path: Path, toy_shards: Path, toy_folder: Path) -> None:
    """The student that it writes is read as any other."""
    more = [f"--model.teacher={toy_folder}", "--model.compile=true"]
    check_run(two_steps("toy/stage1.yaml", tmp_path, toy_shards, *more), "val/mask_iou")
