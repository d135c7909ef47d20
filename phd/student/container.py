"""The student: a small trunk and neck under the teacher's heads."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, Self, get_args

from timm.utils.model import reparameterize_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from phd.contract import Branch, Contract, ImageFeatures
from phd.errors import UserError
from phd.heads import build_heads
from phd.heads.memory.compressors import MemorySettings
from phd.segmenter import Segmenter
from phd.student.artefact import read_config, read_weights, write_folder
from phd.student.backbones import Pretrained, build_trunk
from phd.student.config import StudentConfig, plain
from phd.student.image_size import at_size
from phd.student.inherit import Inheritance, inherit
from phd.student.memory import fit_memory, replace_memory
from phd.student.neck import InheritedNeck, NeckKind, new_neck
from phd.student.notices import notice
from phd.student.text import build_text, read_text
from phd.text import MOBILECLIP


class TeacherLike(Protocol):
    """What a student takes from its teacher; every teacher of `phd.teachers` has it."""

    @property
    def name(self) -> str:
        """Hub id or folder."""
        ...

    @property
    def contract(self) -> Contract:
        """What the student is built to."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """The `transformers` configuration as a dictionary."""
        ...

    @property
    def heads(self) -> nn.Module:
        """Copied by name."""
        ...

    @property
    def neck(self) -> nn.Module:
        """Copied by name where the student keeps it."""
        ...

    @property
    def text(self) -> nn.Module | None:
        """Copied by name where the student keeps it."""
        ...


class Student(PreTrainedModel, Segmenter):
    """A `Segmenter` and a `transformers` model: `trunk`, `neck`, `heads` named as the teacher's, perhaps `text`.

    Args:
        config: As `create` makes it or a folder holds it.
        pretrained: The trunk's weights; see `build_trunk`.
    """

    config_class = StudentConfig
    main_input_name = "images"
    config: StudentConfig

    def __init__(self, config: StudentConfig, pretrained: Pretrained = False) -> None:
        super().__init__(config)
        if config.neck not in get_args(NeckKind):
            raise UserError(f"neck {config.neck!r} does not exist; choose one of {', '.join(get_args(NeckKind))}")
        if config.contract is None or config.teacher_config is None:
            raise UserError("student config: contract or teacher_config is empty; make students with Student.create")
        self.name = config.backbone
        self.contract = Contract.from_dict(config.contract)
        self.trunk = build_trunk(config.backbone, pretrained)
        self.neck = new_neck(config.neck, self.trunk.channels, self.contract, config.teacher_config)
        self.heads = build_heads(self.contract.family, config.teacher_config)
        fit_memory(self.heads, config.memory, config.memory_layers)
        self.text = build_text(config.text, config.text_context, config.teacher_config)
        # No `post_init`: it would initialise the weights again, the trunk's pretrained ones included.
        self.inheritance: dict[str, Inheritance] = {}
        self.folded = False

    @classmethod
    def create(
        cls,
        backbone: str,
        teacher: TeacherLike,
        neck: NeckKind = "light",
        pretrained: Pretrained = "auto",
        text: str | None = None,
        text_context: int | None = None,
    ) -> Self:
        """A new student of a teacher; what it inherits is printed and kept in `inheritance`.

        Args:
            backbone: One of the nine of the paper, or a hierarchical timm model.
            teacher: Gives the contract, and its weights to the heads.
            neck: "light", or "teacher" for the teacher's own, inherited, behind an adapter.
            pretrained: Whether the trunk starts from pretrained weights; "auto" where they can be had.
            text: See `set_text`; without one it detects nothing until stage 3 gives it one.
            text_context: See there.

        Raises:
            UserError: No such backbone, neck or text encoder, or no weights although wanted.
        """
        config = StudentConfig(
            backbone=backbone,
            neck=neck,
            contract=plain(teacher.contract.to_dict()),
            teacher=teacher.name,
            teacher_config=plain(teacher.config),
        )
        student = cls(config, pretrained)
        config.provenance = {"trunk_weights": student.trunk.weights}
        notice(f"trunk {backbone}: {student.trunk.weights} weights; neck {neck}")
        student.inheritance["heads"] = inherit(student.heads, teacher.heads)
        if isinstance(student.neck, InheritedNeck):
            student.inheritance["neck"] = inherit(student.neck.teacher, teacher.neck)
        for part, account in student.inheritance.items():
            notice(account.summary(f"{part} of {teacher.name}"))
        if text is not None:
            student.set_text(text, teacher, text_context)
        return student

    @classmethod
    def from_pretrained(cls, source: str | Path, expect: Contract | None = None, image_size: int | None = None) -> Self:
        """A saved student, in eval mode.

        `transformers` would build it on the meta device, where the buffers that are not saved (TinyViT's bias indices,
        rotary codes) are lost; here it is built like any module and then filled, every weight accounted for.

        Args:
            source: A folder, or a hub id.
            expect: The contract that it must have.
            image_size: For images of this size instead of its own, in pixels; see `at_size`.

        Raises:
            UserError: Nothing there, a file missing or damaged, weights of another model, or another contract.
        """
        config = read_config(source)
        if image_size is not None:
            config = at_size(config, image_size)
        student = cls(config)
        if expect is not None:
            student.contract.require_equal(expect, f"student {source}", "what is asked for")
        student.load_state_dict(read_weights(source, student.state_dict()))
        student.name = str(source)
        return student.eval()

    def set_memory(self, settings: MemorySettings, layers: int | None = None) -> None:
        """Give it a new memory, which stage 2 trains; the account is printed and kept in `inheritance`.

        Args:
            settings: Of the compressor.
            layers: Keep so many layers of the memory attention; None for those that are there.

        Raises:
            UserError: The family has no memory, or a number is out of range.
        """
        account = replace_memory(self.heads, settings, layers)
        self.config.memory = asdict(settings)
        self.config.memory_layers = layers or self.config.memory_layers
        self.inheritance["memory"] = account
        tokens = self.heads.compressor.num_tokens
        notice(account.summary(f"heads with a memory of {tokens} tokens for each frame ({settings.kind})"))

    def set_text(self, text: str, teacher: TeacherLike | None = None, context: int | None = None) -> None:
        """Give it a text encoder, in place of the one it may have; the account is printed and kept in `inheritance`.

        Args:
            text: "teacher" for the teacher's own, a key of `phd.text.MOBILECLIP` for a small one with new weights, or
                the folder of one that `make text` distilled.
            teacher: Gives its weights to "teacher".
            context: 16 or 32 tokens; the teacher's, or the folder's, by default.

        Raises:
            UserError: The family reads no phrases, no such encoder, or one made for another teacher.
        """
        if self.contract.family != "sam3":
            raise UserError(f"model.text is {text!r}, but only SAM 3 reads phrases; leave it out")
        values = self.config.teacher_config or {}
        if text == "teacher":
            if teacher is None or teacher.text is None:
                raise UserError("model.text is 'teacher', but there is no teacher to inherit from; set model.teacher")
            new, kind = build_text(text, context, values), text
            assert new is not None
            self.inheritance["text"] = inherit(new, teacher.text)
        elif text in MOBILECLIP:
            new, kind = build_text(text, context, values), text
            assert new is not None
            self.inheritance["text"] = Inheritance(new=list(new.state_dict()))
        else:
            loaded = read_text(text, values)
            new, kind = loaded.text, str(loaded.config["text"])
            if context not in (None, new.context):
                raise UserError(f"model.text_context is {context}, but {text} was distilled with {new.context}")
            self.inheritance["text"] = Inheritance(inherited=list(new.state_dict()))
        self.text = new.to(next(self.parameters()).device).train(self.training)
        self.config.text, self.config.text_context = kind, new.context
        notice(self.inheritance["text"].summary(f"text encoder {kind}, {new.context} tokens, from {text}"))

    def encode(self, images: Tensor, branches: Sequence[Branch] | None = None, coarsest: bool = False) -> ImageFeatures:
        """See `Segmenter.encode`."""
        return ImageFeatures(self.neck(self.trunk(images), branches, coarsest))

    def gradient_checkpointing(self) -> None:
        """Recompute the trunk's activations in the backward pass."""
        self.trunk.gradient_checkpointing()

    def gradient_checkpointing_enable(self, **_: Any) -> None:
        """The name that `transformers` gives it; its own would overwrite the method above by a flag."""
        self.gradient_checkpointing()

    def fold(self) -> Self:
        """A copy for inference, in eval mode, with its branches and batch norms folded into convolutions.

        Folding ends training: a folded student cannot be saved. RepViT, TinyViT and the neck fold; timm's EfficientViT
        does not, and stays as it is.
        """
        folded = copy.deepcopy(self).eval()
        reparameterize_model(folded.trunk, inplace=True)
        reparameterize_model(folded.neck, inplace=True)
        folded.folded = True
        return folded

    def save(self, folder: Path, **provenance: Any) -> None:
        """Write `config.json`, `model.safetensors` and the model card, all or nothing.

        Args:
            folder: Replaced as a whole if it holds a student.
            **provenance: Stage, data hash, git revision, metrics and the like; joins what the config holds already.

        Raises:
            UserError: The student is folded, or the folder holds other files.
        """
        if self.folded:
            raise UserError(f"{folder}: a folded student is for inference only; save the one it was folded from")
        self.config.provenance = {**(self.config.provenance or {}), **plain(provenance)}
        write_folder(folder, self.config, self.contract, self.state_dict(), parameters(self))

    def save_pretrained(self, save_directory: str | Path, **_: Any) -> None:
        """The same as `save`: `transformers` 5 would rename the tracker's weights on the way."""
        self.save(Path(save_directory))


def parameters(student: Student) -> dict[str, int]:
    """Number of parameters by part."""
    parts: dict[str, nn.Module] = {"trunk": student.trunk, "neck": student.neck, "heads": student.heads}
    if student.text is not None:
        parts["text"] = student.text
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
