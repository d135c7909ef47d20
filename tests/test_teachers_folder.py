"""Teachers on disk: saved, loaded, damaged, run at another size."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from teacher_cases import MAKERS, assert_close, pixels, prompt_kinds, stirred
from tiny import tiny_sam, tiny_sam2
from torch import Tensor

from phd.contract import Prompts
from phd.errors import UserError
from phd.teachers import Teacher, load_teacher, new_toy


@pytest.fixture(scope="module", params=MAKERS)
def teacher(request: pytest.FixtureRequest) -> Teacher:
    return stirred(MAKERS[request.param]())


@pytest.fixture(scope="module")
def folder(teacher: Teacher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / teacher.contract.family
    teacher.save(path, made_by="the tests")
    return path


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def test_what_is_saved_is_loaded(teacher: Teacher, folder: Path) -> None:
    loaded = load_teacher(str(folder)).eval()
    assert loaded.contract == teacher.contract
    assert loaded.name == str(folder)
    before, after = teacher.model.state_dict(), loaded.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    ours, theirs = teacher.encode(pixels()), loaded.encode(pixels())
    for branch, levels in ours.branches.items():
        for level, expected in zip(levels, theirs.branches[branch], strict=True):
            torch.testing.assert_close(level, expected, rtol=1e-5, atol=1e-5)
    prompts = prompt_kinds(teacher.contract.mask_size)["point"]
    # Where the tensors lie in memory decides the order of some sums.
    found, expected = loaded.segment(theirs, prompts), teacher.segment(ours, prompts)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-5, atol=1e-5)
    assert json.loads((folder / "phd.json").read_text()) == {"made_by": "the tests"}


def without(pattern: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        found = list(folder.glob(pattern))
        assert found
        for path in found:
            path.unlink()

    return change


def of_type(model_type: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": model_type}))

    return change


def cut_off(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def edited(change: Callable[[dict[str, Tensor], str], Any]) -> Callable[[Path], None]:
    """The weights with one tensor changed."""

    def edit(folder: Path) -> None:
        path = folder / "model.safetensors"
        state = load_file(path)
        change(state, next(name for name in state if name.endswith("mask_decoder.iou_token.weight")))
        save_file(state, path, metadata={"format": "pt"})

    return edit


def of_another_size(folder: Path) -> None:
    """The image processor of a checkpoint for larger images."""
    (path,) = folder.glob("*processor*")
    values = json.loads(path.read_text())
    mine = values.get("image_processor", values)
    mine["size"] = dict.fromkeys(mine["size"], 160)
    path.write_text(json.dumps(values))


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no weights": (without("*.safetensors"), "a teacher folder without weights; put model.safetensors into it"),
    "no processor": (without("*processor*"), "no image processor .*; save the processor beside the weights"),
    "no config": (without("config.json"), "no config.json; a model folder holds config.json and model.safetensors"),
    "the processor of another checkpoint": (
        of_another_size,
        "its image processor makes images of 160 pixels but its config is of a model for 128; put .* together",
    ),
    "another model": (of_type("bert"), "model type 'bert' is none that can teach .*sam2_video"),
    "the detector alone": (of_type("sam3"), "model type 'sam3' is none that can teach .*sam3_video"),
    "cut off": (cut_off, "its weights cannot be read .*; fetch them again"),
    "a weight missing": (
        edited(lambda state, name: state.pop(name)),
        "1 weights of Sam.*Model are missing, the first is .*iou_token.weight; the file belongs to another model",
    ),
    "a weight of another shape": (
        edited(lambda state, name: state.update({name: torch.zeros(1, 7)})),
        "1 weights of Sam.*Model have another shape, the first is .*iou_token.weight; the file belongs",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_gives_one_line(folder: Path, tmp_path: Path, damage: str) -> None:
    path = shutil.copytree(folder, tmp_path / "damaged")
    change, message = DAMAGES[damage]
    change(path)
    with pytest.raises(UserError, match=message) as caught:
        load_teacher(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hub_id_offline_gives_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"model 'nobody/nothing': neither .*\(HF_HUB_OFFLINE is set\)") as caught:
        load_teacher("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_sam3_runs_at_another_size(tmp_path: Path) -> None:
    full = stirred(new_toy())
    full.save(tmp_path / "toy")
    small = load_teacher(str(tmp_path / "toy"), image_size=64).eval()
    assert small.contract.image_size == 64
    assert [level.size for level in small.contract.tracker] == [32, 16, 8]
    assert small.contract.mask_size == 32
    assert small.processor.size == {"height": 64, "width": 64}
    features = small.encode(pixels(side=64))
    assert [x.shape[-1] for x in features.tracker] == [32, 16, 8]
    prompts = Prompts(torch.tensor([0]), boxes=torch.tensor([[5.0, 10.0, 40.0, 60.0]]))
    found = small.segment(features, prompts)
    assert found.logits.shape == (1, 1, 32, 32)
    # The same as the architecture built at that size, with these weights.
    built = new_toy(64).eval()
    assert built.contract == small.contract
    built.model.load_state_dict(full.model.state_dict())
    expected = built.segment(built.encode(pixels(side=64)), prompts)
    assert_close(found.logits, expected.logits)


@pytest.mark.parametrize("source", ["folder", "toy-random"])
def test_a_size_of_no_whole_patches(tmp_path: Path, source: str) -> None:
    if source == "folder":
        new_toy().save(tmp_path)
        source = str(tmp_path)
    asked = r"^image size 66 \(model\.image_size, --image-size\)"
    with pytest.raises(UserError, match=rf"{asked}: SAM 3 needs a multiple of its patch of 8 pixels$"):
        load_teacher(source, image_size=66)


@pytest.mark.parametrize("make", [tiny_sam, tiny_sam2])
def test_only_sam3_runs_at_another_size(tmp_path: Path, make: Callable[[], Teacher]) -> None:
    make().save(tmp_path)
    asked = r"^image size 64 \(model\.image_size, --image-size\)"
    with pytest.raises(UserError, match=rf"{asked}: only SAM 3 runs at another size; leave it out$"):
        load_teacher(str(tmp_path), image_size=64)
