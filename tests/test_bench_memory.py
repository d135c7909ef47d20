"""The memory benchmark: its arithmetic by hand and by PyTorch's counter, its variants, and the long clip."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from tiny_clips import tiny_student, tiny_teacher
from torch.utils.flop_counter import FlopCounterMode

from phd.bench.memory import COMPRESSED, DENSE, ENCODER, GOALS, HALF, MemoryBench, ratios
from phd.bench.memory_clip import follow, forget_peak, measure_clip, peak_mb, pictures, small_tracker
from phd.bench.memory_macs import ReadSize, read_macs, write_macs
from phd.bench.memory_work import MemoryWork
from phd.bench.timing import Times
from phd.commands import bench as command
from phd.contract import ObjectPrompt
from phd.errors import UserError
from phd.heads.memory.compressors import CompressorKind, MemorySettings, build_compressor
from phd.heads.memory.state_space import linear_recurrence
from phd.segmenter import Segmenter
from phd.teachers.toy import toy_config

# The embedded teacher's tracker at 64 pixels: 8 x 8 cells, 2 layers, width 128.
SMALL = {**toy_config(64).tracker_config.to_dict(), "memory_attention_rope_feat_sizes": [8, 8]}
MEMORY = MemorySettings("both", num_global=3, windows=2)
CELLS = 72 * 72


def bench(**changes: Any) -> MemoryBench:
    return MemoryBench(**{"frames": 3, "settings": MEMORY, "tracker": SMALL, **changes})


def counted(call: Any) -> int:
    """MACs by PyTorch's own counter."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() // 2


def test_a_layer_by_hand() -> None:
    # 2 queries, 3 keys, widths 4 and 2, hidden 5: projections 4 x (2 x 4 x 4), products 2 x (2 x 2 x 4);
    # then 2 x (2 x 4 x 4) + 2 x (3 x 2 x 4) + 2 x (2 x 3 x 4); then 2 x (2 x 4 x 5).
    parts = {"self_attention": 128 + 32, "cross_attention": 64 + 48 + 48, "feed_forward": 80}
    assert read_macs(ReadSize(2, 3, 4, 2, 5, layers=1)) == parts
    assert read_macs(ReadSize(2, 3, 4, 2, 5, layers=3)) == {name: 3 * macs for name, macs in parts.items()}


@pytest.mark.parametrize(
    ("tokens", "cross", "total"), [(CELLS, 98.36, 118.91), (272, 5.97, 26.52), (128, 3.26, 23.81), (64, 2.06, 22.61)]
)
def test_the_known_costs_of_sam3(tokens: int, cross: float, total: float) -> None:
    """A layer over 7 frames and 64 pointer tokens, as counted from EdgeTAM's code."""
    parts = read_macs(ReadSize(CELLS, 7 * tokens + 64, layers=1))
    assert parts["self_attention"] / 1e9 == pytest.approx(15.12, abs=0.005)
    assert parts["feed_forward"] / 1e9 == pytest.approx(5.44, abs=0.005)
    assert parts["cross_attention"] / 1e9 == pytest.approx(cross, abs=0.005)
    assert sum(parts.values()) / 1e9 == pytest.approx(total, abs=0.005)


@pytest.mark.parametrize("kind", ["none", "flat", "spatial", "both", "pool", "state_space"])
def test_compression_costs_what_the_counter_says(kind: CompressorKind) -> None:
    settings = MemorySettings(kind, num_global=5, windows=3, depth=3)
    memory, positions = torch.empty(1, 16, 12, 12, device="meta"), torch.empty(1, 16, 12, 12, device="meta")
    compressor = build_compressor(settings, 12, 16).to("meta").requires_grad_(False)
    assert write_macs(settings, 12, 16) == counted(lambda: compressor(memory, positions))
    assert counted(lambda: linear_recurrence(memory, memory)) == 0


def test_reading_costs_what_the_counter_says() -> None:
    works, settings = bench().works()
    for name, work in works.items():
        # Beside the attention the counter sees the codes of time of the object pointers, one linear layer.
        pointers = work.bank.pointers.shape[1] * work.width * work.dim
        assert work.gmacs(settings[name])["read"] * 1e9 == pytest.approx(counted(work.read) - pointers)


def test_the_variants_differ_in_memory_and_layers_only() -> None:
    works, _ = bench(objects=2).works()
    tokens = {name: work.heads.compressor.num_tokens for name, work in works.items()}
    assert tokens == {DENSE: 64, COMPRESSED: 7, HALF: 7}
    # 3 frames, and 16 pointers of two tokens each.
    assert {name: work.keys for name, work in works.items()} == {DENSE: 224, COMPRESSED: 53, HALF: 53}
    layers = {name: len(work.heads.tracker_model.memory_attention.layers) for name, work in works.items()}
    assert layers == {DENSE: 2, COMPRESSED: 2, HALF: 1}
    assert torch.equal(works[DENSE].coarse, works[COMPRESSED].coarse)
    mine, theirs = (works[name].heads.tracker_model.state_dict() for name in (DENSE, HALF))
    assert all(torch.equal(mine[name], value) for name, value in theirs.items())
    assert works[COMPRESSED].read().shape == (2, 128, 8, 8)
    written = works[COMPRESSED].write()
    assert written.values.shape == works[COMPRESSED].bank.values.shape
    assert not torch.equal(written.values, works[COMPRESSED].bank.values)


def test_what_is_measured() -> None:
    result = bench().measure(rounds=2)
    assert set(result) >= {*GOALS, *(f"{name}_with_encoder" for name in GOALS)}
    assert all(result[name] > 0 for name in GOALS)
    assert result["tokens_per_frame"] == 7
    assert {len(each["cpu"]) for each in result["milliseconds"].values()} == {2}
    assert set(result["milliseconds"]) == {DENSE, COMPRESSED, HALF, ENCODER}
    assert result["environment"]["threads"] == 1
    gmacs = result["gmacs"]
    assert gmacs[HALF]["read"] == pytest.approx(gmacs[COMPRESSED]["read"] / 2)
    assert json.loads(json.dumps(result)) == result


def test_ratios_are_taken_within_a_round() -> None:
    milliseconds = {DENSE: [100.0, 900.0, 110.0], COMPRESSED: [20.0, 100.0, 10.0], HALF: [10.0, 45.0, 11.0]}
    times = {name: Times(values, []) for name, values in {**milliseconds, ENCODER: [10.0, 100.0, 40.0]}.items()}
    found = ratios(times)
    # Of 5, 9, 11; of 10, 20, 10; of 110/30, 1000/200, 150/50; of 110/20, 1000/145, 150/51.
    assert found["dense_over_compressed"] == pytest.approx(9)
    assert found["dense_over_compressed_half_layers"] == pytest.approx(10)
    assert found["dense_over_compressed_with_encoder"] == pytest.approx(110 / 30)
    assert found["dense_over_compressed_half_layers_with_encoder"] == pytest.approx(110 / 20)


def test_a_full_bank_of_the_default_student() -> None:
    student = tiny_student(tiny_teacher())
    work = MemoryWork(student.heads, objects=3)
    size = student.heads.bank_size
    assert work.keys == (size.conditioning + size.recent) * 7 + (size.conditioning + size.pointers) * 2
    assert work.bank.age(work.frame)[1].all()
    assert work.bank.pointer_age(work.frame)[1].all()


def test_a_clip_is_followed_with_shapes_that_stay() -> None:
    peaks = iter([100.0, 103.0])
    result = follow(small_tracker(), frames=9, early=4, objects=2, peak=lambda: next(peaks))
    assert result["growth"] == pytest.approx(0.03)
    assert result["bank_shapes_constant"]
    frames, pointers = [2, 10], [2, 19]
    shapes = {"values": [2, 10, 32, 64], "frames": frames, "pointers": [2, 19, 128], "pointer_frames": pointers}
    assert result["bank_shapes"] == shapes
    assert peak_mb() > 100


def test_the_clip_fills_the_memory() -> None:
    """Also with random weights, which see nothing in most frames."""
    model, boxes, state = small_tracker(), {1: ObjectPrompt(box=torch.tensor([0.0, 20.0, 16.0, 36.0]))}, None
    with torch.inference_mode():
        for number, image in enumerate(pictures(8, 64)):
            state = model.track(image, state, boxes if number == 0 else None)
    assert state is not None
    assert state.bank is not None
    assert state.bank.frames[0].tolist() == [0, -1, -1, -1, 6, 7, 2, 3, 4, 5]


def test_a_bank_that_grows_is_noticed() -> None:
    class Growing(Segmenter):
        """Tracks with one object more from the second frame on."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = small_tracker()
            self.contract, self.name = self.inner.contract, "growing"

        def track(self, frame: Any, state: Any = None, prompts: Any = None) -> Any:
            late = {9: prompts[1]} if prompts else None
            if state is not None and 9 not in state.ids:
                late = {9: self.first}
            elif prompts:
                self.first, late = prompts[1], prompts
            return self.inner.track(frame, state, late)

    result = follow(Growing(), frames=3, early=1, objects=1, peak=lambda: 1.0)
    assert not result["bank_shapes_constant"]


def test_a_leak_is_seen() -> None:
    class Leaking(Segmenter):
        """Keeps 4 MB with every frame."""

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.kept = small_tracker(), []
            self.contract, self.name = self.inner.contract, "leaking"

        def track(self, frame: Any, state: Any = None, prompts: Any = None) -> Any:
            self.kept.append(torch.ones(1_000_000))
            return self.inner.track(frame, state, prompts)

    ballast = torch.ones(100_000_000)  # 400 MB that were there before do not hide it
    del ballast
    forget_peak()
    before = peak_mb()
    result = follow(Leaking(), frames=44, early=4, objects=1, peak=peak_mb)
    assert result["early_peak_mb"] - before < 100
    assert result["peak_mb"] - result["early_peak_mb"] > 0.9 * 40 * 4


@pytest.mark.slow  # a process of its own that imports torch
def test_the_clip_runs_in_its_own_process() -> None:
    ballast = torch.ones(200_000_000, dtype=torch.uint8)
    here = peak_mb()
    result = measure_clip(frames=24, early=20, objects=2)
    assert result["bank_shapes_constant"]
    assert 0 <= result["growth"] < 0.05
    # Its peak is its own, not what it would inherit from this process.
    assert result["peak_mb"] < here
    assert len(ballast)


def test_bad_numbers() -> None:
    with pytest.raises(UserError, match="0 objects"):
        bench(objects=0).works()
    with pytest.raises(UserError, match="choose one of 1, 2, 4, 8"):
        bench(settings=MemorySettings(windows=3)).works()
    with pytest.raises(UserError, match="a clip of 50 frames"):
        measure_clip(50)
    with pytest.raises(UserError, match="--rounds is 0"):
        command.run(["memory", "--rounds", "0"])
    with pytest.raises(UserError, match="--clip-frames is 100; give more than 100"):
        command.run(["memory", "--clip-frames", "100"])


def test_command(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clip = {"frames": 2000, "early": 100, "early_peak_mb": 500.0, "peak_mb": 520.0, "growth": 0.04}
    monkeypatch.setattr("phd.bench.memory_clip.measure_clip", lambda frames: {**clip, "bank_shapes_constant": True})
    monkeypatch.setattr("phd.bench.memory.MemoryBench", lambda objects: bench(objects=objects))
    out = tmp_path / "results" / "memory.json"
    command.run(["memory", "--rounds", "1", "--objects", "2", "--json", str(out)])
    shown, result = capsys.readouterr().out, json.loads(out.read_text())
    assert {"dense_over_compressed", "dense_over_compressed_half_layers", "tokens_per_frame"} <= set(result)
    assert result["peak_growth_2000"] == 0.04
    assert result["sizes"]["objects"] == 2
    assert "4.00%" in shown
    assert shown.count("met") + shown.count("missed") == 3
