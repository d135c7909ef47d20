"""What many tests share: the embedded world as shards, and a cheap teacher and student as folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Before any test module imports torch, transformers, the hub's client or W&B. Of several threads MKL may use fewer on
# a busy machine, and then sums in another order; the tests that compare bit for bit need one alone.
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "disabled",
}

import pytest

if TYPE_CHECKING:
    from phd.teachers import Teacher

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


@pytest.fixture(scope="session")
def tiny_teacher() -> Teacher:
    """A SAM of 128 pixels with random weights."""
    from tiny import tiny_sam

    return tiny_sam()


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory: pytest.TempPathFactory, toy_shards: Path, tiny_teacher: Teacher) -> Path:
    """Its features of the embedded world in int8, built without a break; no test changes them."""
    from cached import build

    folder = tmp_path_factory.mktemp("cache") / "int8"
    build(toy_shards, folder, tiny_teacher)
    return folder


@pytest.fixture(scope="module", params=["sam", "sam2", "sam3"])
def any_teacher(request: pytest.FixtureRequest) -> Teacher:
    """A small teacher of each family, no parameter at its constant start."""
    from teacher_cases import MAKERS, stirred

    return stirred(MAKERS[request.param]())


@pytest.fixture
def no_grad() -> Iterator[None]:
    """A test without gradients."""
    import torch

    with torch.no_grad():
        yield
