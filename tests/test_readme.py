"""The texts name only what exists: commands, options, settings, files, make targets and numbers."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import re
import shlex
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from phd.cli import TRAINING, run
from phd.commands import COMMANDS
from phd.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
TEXTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
# What a block may be; `text` is for output, and for what does not exist yet.
LANGUAGES = {"bash", "python", "yaml", "json", "text"}
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
ROOMS = ("phd", "callbacks", "datamodules", "experiments", "notebooks", "tests", "docs")
STAGE1 = ["fit", "-c", "experiments/trainer.yaml", "-c", "experiments/stage1.yaml"]
STAGE2 = ["fit", "-c", "experiments/trainer.yaml", "-c", "experiments/stage2.yaml"]
STAGE3 = ["fit", "-c", "experiments/trainer.yaml", "-c", "experiments/stage3.yaml"]
STAGES = {"stage1.md": STAGE1, "stage2.md": STAGE2, "stage3.md": STAGE3}
# What ARGS of a target goes to, where that is `phd fit`.
RECIPES = {"make stage1": STAGE1, "make stage2": STAGE2, "make stage3": STAGE3}


class Parsed(Exception):
    """Ends a command when its arguments are parsed."""


class Found(NamedTuple):
    """Something that a text names; its file comes along for the message of a failing test."""

    file: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}: {' '.join(self.text.split())[:60]}"


def blocks(text: str, language: str) -> list[str]:
    return [body for name, body in FENCE.findall(text) if name == language]


def inline(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def lines(block: str) -> list[str]:
    return [line.strip() for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def shell_lines(text: str) -> list[str]:
    return [line for block in blocks(text, "bash") for line in lines(block)]


def found(pattern: str, *places: Callable[[str], list[str]]) -> list[Found]:
    """What matches in the given places of all texts, once each."""
    matches = {}
    for path in TEXTS:
        candidates = [line for place in places for line in place(path.read_text())]
        matches |= {Found(path.name, line): None for line in candidates if re.search(pattern, line)}
    return list(matches)


def command_of(line: str) -> list[str]:
    """The arguments of `phd`, without variables, launcher and comment."""
    words = shlex.split(line, comments=True)
    return words[words.index("phd") + 1 :]


def parse(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse a command and do no more; a mistake exits with 2."""
    monkeypatch.chdir(ROOT)
    if arguments[0] in TRAINING:
        with pytest.raises(SystemExit) as end:
            run([*arguments, "--print_config"])
        assert end.value.code in (0, None)
        return
    assert arguments[0] in COMMANDS
    for name in ("parse_args", "parse_intermixed_args"):
        original = getattr(argparse.ArgumentParser, name)

        def parse_only(self: argparse.ArgumentParser, args: list[str], original: Any = original) -> None:
            original(self, args)
            raise Parsed

        monkeypatch.setattr(argparse.ArgumentParser, name, parse_only)
    with pytest.raises(Parsed):
        run(arguments)


def test_the_texts_have_blocks_of_known_languages() -> None:
    assert {language for path in TEXTS for language, _ in FENCE.findall(path.read_text())} <= LANGUAGES
    assert all(path.read_text().count("```") % 2 == 0 for path in TEXTS)
    assert blocks((ROOT / "README.md").read_text(), "bash")


@pytest.mark.parametrize("line", found(r"(^| )phd [a-z]", shell_lines), ids=str)
def test_commands_parse(line: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    parse(command_of(line.text), monkeypatch)


@pytest.mark.parametrize("line", found(r"^phd [a-z]", inline), ids=str)
def test_commands_named_in_passing_exist(line: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    words = command_of(line.text)
    if any(word.startswith("-") for word in words):
        parse(words, monkeypatch)
    elif words[0] not in TRAINING:
        assert words[0] in COMMANDS
        with pytest.raises(SystemExit) as end:
            run([*words, "--help"])
        assert end.value.code == 0


@pytest.mark.parametrize("page", STAGES)
def test_flags_of_fit_parse(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that a page of a stage names are its own, all others are flags of stage 1."""
    every = found(r"^--(model|data|trainer|wandb|ckpt_path)[.=+]", inline)
    flags = [flag.text for flag in every if STAGES.get(flag.file, STAGE1) is STAGES[page]]
    words = [word for flag in flags for word in shlex.split(flag)]
    assert len(words) > 4
    parse([*STAGES[page], *words], monkeypatch)


def test_a_flag_that_does_not_exist_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((AssertionError, UserError)):
        parse([*STAGE1, "--model.rate=0.1"], monkeypatch)
    with pytest.raises(SystemExit):
        parse(["segment", "photo.jpg", "--model", "FOLDER", "--polygon", "1"], monkeypatch)


@pytest.mark.parametrize("line", found(r"^make\b", shell_lines, inline), ids=str)
def test_make_targets_and_variables_exist(line: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for word in shlex.split(line.text, comments=True)[1:]:
        variable, assigned, value = word.partition("=")
        if not assigned:
            assert re.search(rf"^{word}:", makefile, re.MULTILINE), f"no target {word}"
            continue
        assert re.search(rf"^{variable} *\?=", makefile, re.MULTILINE), f"no variable {variable}"
        if variable == "ARGS":
            (stage,) = (recipe for target, recipe in RECIPES.items() if target in line.text)
            parse([*stage, *shlex.split(value)], monkeypatch)
        if variable == "BACKBONE":
            assert (ROOT / "experiments" / "backbone" / f"{value}.yaml").is_file()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_files_exist(path: Path) -> None:
    text = path.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []
    words = [word for line in shell_lines(text) for word in line.split()]
    named = {word for word in [*inline(text), *words] if re.fullmatch(rf"({'|'.join(ROOMS)})/[\w./*-]*", word)}
    missing = [name for name in named if not any(ROOT.glob(name.rstrip("/")))]
    assert missing == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_python_blocks_import_what_exists(path: Path) -> None:
    for block in blocks(path.read_text(), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def settings(page: str) -> tuple[list[type], list[type]]:
    """The classes whose arguments a page explains, those of its tables last, and the dataclasses within."""
    from datamodules import SA1B, Clips, Concepts, Phrases
    from datamodules.transforms import Augmentation
    from phd.heads.memory.compressors import MemorySettings
    from phd.stages import ClipMix, EncoderDistill, MemoryDistill, Phase, PromptMix, TrackingLosses
    from phd.stages.concept_finetune import ConceptFinetune, ConceptLosses, ConceptMix, PartRates
    from phd.stages.text_distill import TextDistill, TextLosses

    if page == "stage1.md":
        return [EncoderDistill, SA1B], [Phase, PromptMix, Augmentation]
    if page == "stage2.md":
        return [MemoryDistill, Clips], [MemorySettings, TrackingLosses, ClipMix]
    inner: list[type] = [ConceptLosses, ConceptMix, PartRates, Augmentation, TextLosses]
    return [TextDistill, Phrases, ConceptFinetune, Concepts], inner


@pytest.mark.parametrize("page", STAGES)
def test_every_setting_is_explained(page: str) -> None:
    classes, inner = settings(page)
    names = [name for cls in classes for name in inspect.signature(cls).parameters]
    names += [field.name for cls in inner for field in fields(cls)]
    explained = {word for code in inline((ROOT / "docs" / page).read_text()) for word in re.split(r"\W+", code)}
    assert [name for name in names if name not in explained] == []


# Rows whose default is a number or a truth value, by page; without them the test below would check too little.
DEFAULTS = {
    "stage1.md": "lr weight_decay warmup final_lr train_heads compile batch_size num_workers max_masks val_samples "
    "seed",
    "stage2.md": "lr weight_decay warmup final_lr batch_size num_workers clip_length max_objects val_samples "
    "reverse_probability labelled_only seed",
    "stage3.md": "replace_text pairs_at_once gradient_checkpointing lr weight_decay warmup final_lr val_samples "
    "batch_size num_workers max_positives max_negatives hard_negative_share max_instances seed",
}


@pytest.mark.parametrize("page", DEFAULTS)
def test_the_defaults_are_those_of_the_classes(page: str) -> None:
    """Rows `setting`, `setting` | value, value | of the tables of settings; other cells are words."""
    defaults = {
        name: parameter.default
        for cls in settings(page)[0]
        for name, parameter in inspect.signature(cls).parameters.items()
    }
    text = (ROOT / "docs" / page).read_text()
    checked = []
    for cells in re.findall(r"^\| (`[\w`, ]+) \| ([^|]+) \|", text[text.index("## Settings") :], re.MULTILINE):
        names, values = re.findall(r"\w+", cells[0]), [value.strip("` ") for value in cells[1].split(",")]
        for name, value in zip(names, values, strict=True) if len(names) == len(values) else ():
            if re.fullmatch(r"[\d.e-]*\d[\d.e-]*", value):
                assert defaults[name] == pytest.approx(float(value)), name
                checked.append(name)
            elif value in ("true", "false"):
                assert defaults[name] is (value == "true"), name
                checked.append(name)
    assert set(DEFAULTS[page].split()) <= set(checked)


def test_the_weights_of_stage2_are_those_of_the_class() -> None:
    """The row of `losses` has them in the order of the table of terms."""
    from phd.stages import TrackingLosses

    text = (ROOT / "docs" / "stage2.md").read_text()
    terms = re.findall(
        r"^\| `(\w+)` \|", text[text.index("## Losses") : text.index("`supervision` says")], re.MULTILINE
    )
    (row,) = re.findall(r"^\| `losses` \| ([\d, ]+) \|", text, re.MULTILINE)
    assert dict(zip(terms, map(float, row.split(",")), strict=True)) == vars(TrackingLosses())


def test_the_weights_and_rates_of_stage3_are_those_of_the_classes() -> None:
    """Tables of terms and of parts, and settings that are named with their default, as `rounds` (0)."""
    from phd.stages.concept_finetune import ConceptLosses, ConceptMix, PartRates

    text = (ROOT / "docs" / "stage3.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", text[: text.index("## Settings")], re.MULTILINE)
    assert {name for name, _ in rows} >= {name for name in vars(ConceptLosses()) if "_" in name} - {
        "auxiliary_matches",
        "one_to_many",
        "pos_weight",
        "phrase_scaling",
    }
    defaults = vars(ConceptLosses()) | vars(PartRates()) | {"text": PartRates().text}
    assert {name: float(value) for name, value in rows} == {name: defaults[name] for name, _ in rows}
    (mix,) = re.findall(r"^\| `prompts` \| ([\d., ]+) \|", text, re.MULTILINE)
    named = re.findall(r"`(\w+)` \((\d[\d.]*|true|false)\b", text)
    assert {"auxiliary", "auxiliary_matches", "one_to_many", "pos_weight", "phrase_scaling", "layer_decay"} <= {
        name for name, _ in named
    }
    plain = defaults | vars(ConceptMix())
    shares = {name: plain[name] for name in ("phrase", "exemplar", "both")}
    assert dict(zip(shares, map(float, mix.split(",")), strict=True)) == shares
    written = {"true": True, "false": False}
    assert all(plain[name] == written.get(value, value) or plain[name] == float(value) for name, value in named)


@pytest.mark.slow
def test_the_table_of_students_is_measured() -> None:
    from transformers import Sam3ImageProcessor, Sam3VideoConfig

    from phd.student.account import students_table
    from phd.teachers.sam3 import sam3_contract

    config = Sam3VideoConfig()
    text = (ROOT / "README.md").read_text()
    for row in students_table(sam3_contract(config, Sam3ImageProcessor()), config.to_dict()):
        counts = (row["trunk_params"], row["neck_params"], row["heads_params"], row["total_params"])
        cells = [f"{count / 1e6:.2f}" for count in counts]
        cells += [f"{row[name]:.2f}" for name in ("trunk_gmacs", "neck_gmacs", "heads_gmacs")]
        assert f"| `{row['name']}` | {' | '.join(cells)} |" in text
