"""A text encoder that is distilled by itself: what `make text` trains, and stage 3 and `Student.create` take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol, Self

from safetensors.torch import save_file
from torch import nn

from phd.errors import UserError
from phd.student.artefact import CARD, CONFIG, WEIGHTS, find_file, read_weights
from phd.student.config import plain
from phd.text import MOBILECLIP, TextEncoder, mobileclip, teacher_text
from phd.text.encoder import teacher_vocabulary

MODEL_TYPE = "phd_text"


class NamedConfig(Protocol):
    """What of a teacher decides how a text encoder is built."""

    @property
    def name(self) -> str:
        """Hub id or folder."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """The `transformers` configuration as a dictionary."""
        ...


class TextStudent(nn.Module):
    """A small text encoder, with what is needed to build it again.

    Args:
        config: `text` (a key of `MOBILECLIP`), `text_context`, `vocab_size` and `width` of the teacher, and `teacher`,
            its name.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        self.text = mobileclip(config["text"], config["vocab_size"], config["width"], config["text_context"])

    @classmethod
    def create(cls, kind: str, teacher: NamedConfig, context: int | None = None) -> Self:
        """A new one for a teacher.

        Args:
            kind: A key of `MOBILECLIP`.
            teacher: Gives vocabulary and width.
            context: 16 or 32 tokens; the teacher's by default.

        Raises:
            UserError: No such encoder, or a context that the teacher does not read.
        """
        vocab_size, width, longest = teacher_vocabulary(teacher.config)
        context = context or longest
        if context > longest:
            raise UserError(f"model.text_context is {context}, but {teacher.name} reads at most {longest} tokens")
        parts = {"text": kind, "text_context": context, "vocab_size": vocab_size, "width": width}
        return cls({"model_type": MODEL_TYPE, **parts, "teacher": teacher.name})

    @classmethod
    def load(cls, source: str | Path) -> Self:
        """A saved one, in eval mode.

        Raises:
            UserError: Nothing there, a file missing or damaged, or another kind of model.
        """
        path = find_file(source, CONFIG)
        try:
            config = json.loads(path.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not valid JSON ({error}); save the text encoder again") from error
        if not isinstance(config, dict) or config.get("model_type") != MODEL_TYPE:
            raise UserError(f"{path}: no text encoder of this project; `make text` writes one")
        missing = {"text", "text_context", "vocab_size", "width"} - config.keys()
        if missing:
            raise UserError(f"{path}: has no {sorted(missing)[0]}; save the text encoder again")
        student = cls(config)
        student.load_state_dict(read_weights(source, student.state_dict()))
        return student.eval()

    def save(self, folder: Path, **provenance: Any) -> None:
        """Write `config.json`, `model.safetensors` and a short card.

        Args:
            folder: Made if it is missing.
            **provenance: Stage, metrics and the like.
        """
        folder.mkdir(parents=True, exist_ok=True)
        kept = {**self.config.get("provenance", {}), **plain(provenance)}
        config = {**self.config, "provenance": kept}
        save_file({name: tensor.detach().clone().contiguous() for name, tensor in self.state_dict().items()},
                  folder / WEIGHTS)  # fmt: skip
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
        (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)
        count = sum(parameter.numel() for parameter in self.parameters())
        (folder / CARD).write_text(
            f"# {config['text']}, a text student of {config['teacher']}\n\n"
            f"{count / 1e6:.2f} M parameters, {config['text_context']} tokens, distilled by `phd`. Give the folder to "
            f"`Student.create(text=...)` or to stage 3.\n\n```json\n{json.dumps(kept, indent=1)}\n```\n"
        )


def build_text(kind: str | None, context: int | None, teacher_config: dict[str, Any]) -> TextEncoder | None:
    """The text encoder of a student's configuration, with fresh weights; None where it has none.

    Args:
        kind: "teacher", a key of `MOBILECLIP`, or None.
        context: Tokens of a phrase; the teacher's by default.
        teacher_config: The teacher's `transformers` configuration as a dictionary.
    """
    if kind is None:
        return None
    if kind == "teacher":
        return teacher_text(teacher_config, context)
    vocab_size, width, longest = teacher_vocabulary(teacher_config)
    return mobileclip(kind, vocab_size, width, context or longest)


def read_text(source: str, teacher_config: dict[str, Any]) -> TextStudent:
    """A text encoder that was distilled from this kind of teacher.

    Raises:
        UserError: Nothing there, or made for another vocabulary or width.
    """
    if not Path(source).is_dir():
        known = ", ".join(["teacher", *MOBILECLIP])
        raise UserError(f"model.text {source!r}: no text encoder and no folder; give one of {known}, or a folder")
    loaded = TextStudent.load(source)
    vocab_size, width, _ = teacher_vocabulary(teacher_config)
    mine = loaded.config["vocab_size"], loaded.config["width"]
    if mine != (vocab_size, width):
        raise UserError(
            f"model.text {source}: made for a vocabulary of {mine[0]} and {mine[1]} channels, but the student's "
            f"detector has {vocab_size} and {width}; distil one from the same teacher"
        )
    return loaded
