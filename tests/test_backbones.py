"""The nine trunks: sizes, maps, names, pretrained weights."""

from __future__ import annotations

import functools
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import FeatureInfo
from torch import nn

from phd.errors import UserError
from phd.student import backbones
from phd.student.backbones import PAPER_TRUNKS, Trunk, build_trunk, find_weights, timm_name_of

# EfficientSAM3, table 1, in millions.
PAPER_PARAMETERS = {
    "repvit_m0_9": 4.72,
    "repvit_m1_1": 7.77,
    "repvit_m2_3": 22.40,
    "tinyvit_5m": 5.07,
    "tinyvit_11m": 10.55,
    "tinyvit_21m": 20.62,
    "efficientvit_b0": 0.68,
    "efficientvit_b1": 4.64,
    "efficientvit_b2": 14.98,
}


@functools.cache
def random_trunk(name: str) -> Trunk:
    return build_trunk(name, pretrained=False).eval()


@pytest.fixture
def nothing_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)


def test_the_nine_of_the_paper() -> None:
    assert list(PAPER_TRUNKS) == list(PAPER_PARAMETERS)
    assert all(name in timm.list_pretrained() for name in PAPER_TRUNKS.values())


@pytest.mark.parametrize("name", PAPER_TRUNKS)
def test_parameters_are_the_papers(name: str) -> None:
    count = sum(parameter.numel() for parameter in random_trunk(name).parameters())
    assert round(count / 1e6, 2) == PAPER_PARAMETERS[name]


@pytest.mark.parametrize("name", PAPER_TRUNKS)
def test_four_maps(name: str) -> None:
    trunk = random_trunk(name)
    with torch.no_grad():
        maps = trunk(torch.randn(1, 3, 128, 128))
    assert [tuple(x.shape) for x in maps] == [
        (1, channels, size, size) for channels, size in zip(trunk.channels, (32, 16, 8, 4), strict=True)
    ]
    assert all(x.isfinite().all() for x in maps)


def test_another_timm_model_drops_its_stride_2() -> None:
    trunk = build_trunk("mobilenetv3_small_050", pretrained=False)
    assert [x.shape[-1] for x in trunk(torch.randn(1, 3, 64, 64))] == [16, 8, 4, 2]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("tinyvit_12m", "tinyvit_11m"),
        ("efficientvit_b9", "efficientvit_b2"),
        ("resnet18.a9_in1k", "resnet18.a1_in1k"),
        ("qqqq", "repvit_m0_9"),
        ("hf-hub:someone/model", "repvit_m0_9"),
    ],
)
def test_unknown_names_the_near_ones(name: str, near: str) -> None:
    with pytest.raises(UserError, match="does not exist") as caught:
        timm_name_of(name)
    assert near in str(caught.value)


def test_one_input_size_only() -> None:
    with pytest.raises(UserError, match="224"):
        timm_name_of("vit_tiny_patch16_224")


def test_not_hierarchical() -> None:
    net = nn.Identity()
    info = [{"num_chs": 8, "reduction": 16, "module": "blocks"}] * 2
    net.feature_info = FeatureInfo(info, (0, 1))  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"strides \[16\], not at \[4, 8, 32\]"):
        Trunk("flat", net, "random")


def test_offline_says_so_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, nothing_cached: None
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert build_trunk("efficientvit_b0", "auto").weights == "random"
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "efficientvit_b0" in lines[0]
    assert "random" in lines[0]
    assert "HF_HUB_OFFLINE" in lines[0]
    with pytest.raises(UserError, match="HF_HUB_OFFLINE"):
        build_trunk("efficientvit_b0", True)


def test_no_network(monkeypatch: pytest.MonkeyPatch, nothing_cached: None) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    path, reason = find_weights("efficientvit_b0.r224_in1k")
    assert path is None
    assert "no route" in reason


def test_hub_without_the_file(monkeypatch: pytest.MonkeyPatch, nothing_cached: None) -> None:
    def absent(*_: object) -> None:
        raise huggingface_hub.errors.EntryNotFoundError("404")

    monkeypatch.setattr(backbones, "hub_unreachable", lambda _: "")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", absent)
    assert find_weights("efficientvit_b0.r224_in1k") == (
        None,
        "timm/efficientvit_b0.r224_in1k gave no model.safetensors (EntryNotFoundError)",
    )


def test_a_full_disk_is_not_taken_for_no_network(monkeypatch: pytest.MonkeyPatch, nothing_cached: None) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backbones, "hub_unreachable", lambda _: "")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(OSError, match="No space left"):
        find_weights("efficientvit_b0.r224_in1k")


@pytest.mark.parametrize("name", ["repvit_m0_9", "tinyvit_5m", "efficientvit_b0"])
def test_pretrained_weights_arrive(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = timm.create_model(PAPER_TRUNKS[name], pretrained=False).state_dict()
    save_file(source, tmp_path / "model.safetensors")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(tmp_path / "model.safetensors"))
    trunk = build_trunk(name, True)
    assert trunk.weights == PAPER_TRUNKS[name]
    # timm's list of layers writes an underscore where the model has a dot.
    source = {key.replace(".", "_"): tensor for key, tensor in source.items()}
    for key, tensor in trunk.net.state_dict().items():
        assert torch.equal(tensor, source[key.replace(".", "_")]), key


def test_tinyvit_sees_weights_that_change_in_eval_mode() -> None:
    trunk = random_trunk("tinyvit_5m")
    images = torch.randn(1, 3, 128, 128)
    with torch.inference_mode():
        before = trunk(images)[-1]
    biases = [p for name, p in trunk.named_parameters() if name.endswith("attention_biases")]
    assert biases
    with torch.no_grad():
        for bias in biases:
            bias.add_(torch.randn_like(bias))
    after = trunk(images)[-1]
    assert not torch.allclose(before, after)
    after.sum().backward()
    assert biases[0].grad is not None


def test_gradient_checkpointing_changes_no_gradient() -> None:
    trunk = build_trunk("efficientvit_b0", pretrained=False)
    images = torch.randn(2, 3, 64, 64)
    first = next(trunk.parameters())
    (expected,) = torch.autograd.grad(trunk(images)[-1].sum(), first)
    calls = SimpleNamespace(count=0)
    stage = dict(trunk.net.named_children())["stages_1"]
    stage.register_forward_pre_hook(lambda *_: setattr(calls, "count", calls.count + 1))
    trunk.gradient_checkpointing()
    (recomputed,) = torch.autograd.grad(trunk(images)[-1].sum(), first)
    torch.testing.assert_close(recomputed, expected)
    assert calls.count == 2
