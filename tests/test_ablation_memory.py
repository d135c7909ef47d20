"""The ablation of the memory: legal variants, costs, section, and the whole command at its smallest."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from test_experiments import EXPERIMENTS
from tiny_clips import clip_shards, tiny_student, tiny_teacher

from phd.ablation.memory import NAMES, count_tokens, memory_variant, nearest_settings
from phd.ablation.memory_cost import memory_costs
from phd.ablation.memory_report import findings, section
from phd.ablation.plan import Run
from phd.ablation.run import Outcome
from phd.cli import run
from phd.errors import UserError
from phd.heads.memory.compressors import CompressorKind, MemorySettings, build_compressor
from phd.student.memory import replace_memory


@pytest.mark.parametrize(
    ("kind", "tokens", "grid", "num_global", "windows"),
    [
        ("both", 64, 16, 48, 4),  # of 32 for windows: 16 is nearer than 64
        ("both", 128, 16, 64, 8),
        ("both", 256, 16, 192, 8),
        ("both", 128, 72, 64, 8),
        ("both", 256, 72, 112, 12),  # of 128: 144 is nearer than 81
        ("both", 2, 16, 1, 1),
        ("both", 4, 72, 3, 1),
        ("spatial", 128, 16, 0, 8),  # 64 is nearer than 256
        ("spatial", 128, 72, 0, 12),  # 144 is nearer than 81
        ("pool", 128, 16, 0, 8),
        ("state_space", 200, 16, 0, 16),
        ("flat", 128, 16, 128, 0),
        ("none", 0, 16, 0, 0),
    ],
)
def test_the_nearest_legal_settings(
    kind: CompressorKind, tokens: int, grid: int, num_global: int, windows: int
) -> None:
    settings = nearest_settings(kind, tokens, grid)
    assert (settings.num_global, settings.windows) == (num_global, windows)


@pytest.mark.parametrize("grid", [8, 16, 64, 72])
@pytest.mark.parametrize("name", [*NAMES, "both_2", "flat_1"])
def test_every_variant_is_legal_and_counts_its_tokens(name: str, grid: int) -> None:
    variant = memory_variant(name, grid)
    settings = MemorySettings(**variant.facts["settings"])
    tokens = build_compressor(settings, grid, 64).num_tokens
    assert tokens == count_tokens(settings, grid) == variant.facts["tokens"]
    asked = name.rsplit("_", 1)[-1]
    if name.startswith(("both", "flat")):
        assert tokens == int(asked)


def test_there_is_no_other_memory() -> None:
    for wrong in ("mamba_128", "both", "dense_4", "both_x"):
        with pytest.raises(
            UserError, match="no such memory; give dense, or KIND_TOKENS with KIND one of flat, spatial"
        ):
            memory_variant(wrong, 16)
    with pytest.raises(UserError, match="both: 1 tokens"):
        memory_variant("both_1", 16)
    with pytest.raises(UserError, match="flat: 0 tokens"):
        memory_variant("flat_0", 16)


def test_a_variant_is_a_flag_of_fit(capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    files = ("trainer.yaml", "toy/stage2.yaml", "toy/ablation_memory.yaml")
    for name in ("dense", "both_64", "state_space_128"):
        variant = memory_variant(name, 16)
        with pytest.raises(SystemExit):
            run(["fit", *(w for f in files for w in ("-c", str(EXPERIMENTS / f))), *variant.flags, "--print_config"])
        config = yaml.safe_load(capsys.readouterr().out)
        assert config["model"]["init_args"]["memory"] == variant.facts["settings"]
        assert config["trainer"]["limit_val_batches"] == 0


def test_costs_fall_with_the_tokens() -> None:
    student = tiny_student(tiny_teacher(), memory=None)

    def build(settings: MemorySettings) -> Any:
        replace_memory(student.heads, settings, None)
        return student.heads

    variants = [memory_variant(name, 8) for name in ("dense", "both_8")]
    # One set of heads serves both, since a work reads its tokens when it is made.
    costs = memory_costs(variants[:1], build, rounds=1) | memory_costs(variants[1:], build, rounds=1)
    assert [costs[each.name]["tokens"] for each in variants] == [64, 8]
    assert costs["dense"]["read_gmacs"] > costs["both_8"]["read_gmacs"] > 0
    assert costs["dense"]["write_gmacs"] == 0 < costs["both_8"]["write_gmacs"]
    assert all(costs[each.name][f"{part}_ms"] > 0 for each in variants for part in ("read", "write"))


def outcomes(values: dict[str, tuple[float, ...]], grid: int = 16) -> list[Outcome]:
    return [
        Outcome(Run(memory_variant(name, grid), seed), {"jf": value, "long_jf": value / 2})
        for name, seeds in values.items()
        for seed, value in enumerate(seeds)
    ]


def test_what_comes_out_is_said_from_the_numbers() -> None:
    names = ("dense", "both_128", "spatial_128", "flat_128", "pool_128")
    variants = [memory_variant(name, 16) for name in names]
    means = dict(zip(names, (0.60, 0.59, 0.5, 0.4, 0.3), strict=True))
    found = outcomes({name: (mean - 0.02, mean, mean + 0.02) for name, mean in means.items()})
    said = findings(variants, [*found, Outcome(Run(variants[0], 3), None, "disk")])
    assert said[0].startswith("J&F: the highest mean has dense (0.600 ± 0.020). Not apart")
    assert "both, 64 global + 8 x 8 windows" in said[0]
    assert "pooling" not in said[0]
    assert "here it is another: dense 0.600, both 0.590, spatial 0.500, flat 0.400, pool 0.300." in said[2]
    assert said[3] == "Failed and left out: dense-seed3."
    same = outcomes({**{name: (mean,) for name, mean in means.items()}, "both_128": (0.7,)})
    assert "here it is the same" in findings(variants, same)[2]


def test_the_section(tmp_path: Path) -> None:
    variants = [memory_variant(name, 16) for name in ("dense", "both_64")]
    costs = {
        each.name: {"tokens": each.facts["tokens"], "read_gmacs": 0.5, "read_ms": 12.34, "write_ms": 0.5}
        for each in variants
    }
    about: dict[str, Any] = {"command": "phd ablation memory out", "recipe": {}, "seeds": [0], "objects": [4, 5]}
    about["recipe"] = {"batch_size": 2, "clip_length": 4, "max_objects": 2}
    for name in ("date", "cpu", "cores", "torch", "minutes", "steps", "clips", "train_clips", "train_seed", "slots"):
        about[name] = f"<{name}>"
    about |= {"test_seed": 9100, "long_seed": 9101, "grid": 16}
    found = outcomes({"dense": (0.6, 0.8), "both_64": (0.5,)})
    text = section(variants, found, costs, {"jf": 0.9, "long_jf": 0.7, "tokens": 256}, about, "assets/x.png")
    assert "| the teacher | 256 | 0.900 | 0.700 |  |  |  |" in text
    assert "| dense | 256 | 0.700 ± 0.141 | 0.350 ± 0.071 | 0.500 | 12.3 | 0.5 |" in text
    assert "| both, 48 global + 4 x 4 windows | 64 | 0.500 | 0.250 | 0.500 | 12.3 | 0.5 |" in text
    assert "(assets/x.png)" in text
    assert "These are short runs" in text.replace("\n", " ")
    assert "a share of 50.0% of the dense memory here" in text.replace("\n", " ")


@pytest.mark.slow  # trains twice and evaluates thrice, in processes of their own
def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_folder: Path, student_folder: Path) -> None:
    shards = clip_shards(tmp_path / "clips", videos=4)
    monkeypatch.setattr("phd.commands.ablation_memory.world_shards", lambda root, world: shards)
    out, results = tmp_path / "out", tmp_path / "docs" / "results.md"
    command = ["ablation", "memory", str(out), "--init", str(student_folder), "--experiments", str(EXPERIMENTS)]
    command += ["--steps", "2", "--seeds", "1", "--jobs", "1", "--only", "dense", "both_8", "--results", str(results)]
    command += ["--teacher", str(toy_folder)]
    run([*command, "--", "--data.clip_length=3"])
    whole = json.loads((out / "results.json").read_text())
    assert [(each["variant"], each["seed"]) for each in whole["runs"]] == [("dense", 0), ("both_8", 0)]
    assert (
        [each["tokens"] for each in whole["runs"]]
        == [64, 8]
        == [whole["costs"][n]["tokens"] for n in ("dense", "both_8")]
    )
    assert all(0 <= each[key] <= 1 for each in [*whole["runs"], whole["teacher"]] for key in ("jf", "long_jf"))
    text = results.read_text()
    assert text.startswith("<!-- ablation-memory begin -->")
    named = f"--init {student_folder.name} --teacher {toy_folder.name}"
    assert f"phd ablation memory out --seeds 1 --first-seed 0 {named} --steps 2 --only dense both_8 --" in text
    assert (results.parent / "assets" / "ablation_memory.png").is_file()
    config = json.loads((out / "runs" / "both_8-seed0" / "fit" / "student" / "config.json").read_text())
    assert config["memory"] == asdict(nearest_settings("both", 8, 8))
    # The same again does no run twice, another seed comes beside, and other steps are refused.
    before = (out / "runs" / "dense-seed0" / "result.json").stat().st_mtime_ns
    run([*command, "--first-seed", "5", "--only", "dense", "--", "--data.clip_length=3"])
    assert (out / "runs" / "dense-seed0" / "result.json").stat().st_mtime_ns == before
    assert [each["seed"] for each in json.loads((out / "results.json").read_text())["runs"]] == [5]
    with pytest.raises(UserError, match="holds results of steps 2, not 3"):
        run([*command, "--steps", "3", "--", "--data.clip_length=3"])
