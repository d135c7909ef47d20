"""What many tests share: the embedded world as shards, and a cheap teacher and student as folders."""

from __future__ import annotations

import os
from pathlib import Path

# Before any test module imports transformers, the hub's client or W&B.
os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCENES = 24


def pytest_configure(config: pytest.Config) -> None:
    # pytest puts its own filters in place of those of phd.training_cli.
    config.addinivalue_line("filterwarnings", "ignore:LightningCLI's args parameter is intended")


@pytest.fixture(scope="session")
def toy_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first scenes of a world, as SA-1B's raw files."""
    from datamodules.shapes import write_sa1b

    folder = tmp_path_factory.mktemp("world") / "raw"
    write_sa1b(folder, samples=SCENES, seed=5)
    return folder


@pytest.fixture(scope="session")
def toy_shards(toy_raw: Path) -> Path:
    """The same scenes as three shards."""
    from datamodules.convert import convert_sa1b

    convert_sa1b(toy_raw, toy_raw.with_name("shards"), samples_per_shard=8)
    return toy_raw.with_name("shards")


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM 3 teacher of 64 pixels with random weights, as a folder of `transformers`."""
    from phd.teachers import new_toy

    folder = tmp_path_factory.mktemp("toy") / "teacher"
    new_toy(64).save(folder)
    return folder


@pytest.fixture(scope="session")
def student_folder(tmp_path_factory: pytest.TempPathFactory, toy_folder: Path) -> Path:
    """An untrained student of that teacher."""
    import torch

    from phd.student import Student
    from phd.teachers import load_teacher

    folder = tmp_path_factory.mktemp("student") / "student"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Student.create("efficientvit_b0", load_teacher(str(toy_folder)), pretrained=False).save(folder, stage="none")
    return folder
