"""A teacher: a `transformers` model of the SAM family behind the four verbs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from phd.contract import Branch, Contract, ImageFeatures
from phd.heads import InteractiveHeads, TeacherNeck
from phd.segmenter import Segmenter


class Teacher(Segmenter):
    """The model is registered once; trunk, neck and heads are views into it.

    Args:
        name: Hub id or folder that it came from.
        contract: Read from the model's own configuration and processor.
        model: The whole `transformers` model, text encoder and memory included.
        processor: Its image processor, saved along with it.
        trunk: Module from normalised images to the maps of `contract.trunk`.
        neck: The model's necks.
        heads: The model's heads.
        text: The model's text encoder, where it has one.
    """

    neck: Any
    text: Any

    def __init__(
        self,
        name: str,
        contract: Contract,
        model: PreTrainedModel,
        processor: Any,
        trunk: nn.Module,
        neck: TeacherNeck,
        heads: InteractiveHeads,
        text: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.contract = contract
        self.model = model
        self.processor = processor
        # Views stay out of the module tree, so that no parameter is counted, moved or saved twice.
        self.__dict__.update(trunk=trunk, neck=neck, heads=heads, text=text)

    def train(self, mode: bool = True) -> Teacher:
        """Also sets the views, which `nn.Module.train` does not reach."""
        for view in (self.trunk, self.neck, self.heads, self.text):
            if view is not None:
                view.train(mode)
        return super().train(mode)

    @property
    def config(self) -> dict[str, Any]:
        """The model's configuration; a student builds its heads from it."""
        return self.model.config.to_dict()

    def encode(self, images: Tensor, branches: Sequence[Branch] | None = None, coarsest: bool = False) -> ImageFeatures:
        """See `Segmenter.encode`."""
        return ImageFeatures(self.neck(self.trunk(images), branches, coarsest))

    def gradient_checkpointing(self) -> None:
        """Recompute the trunk's activations in the backward pass."""
        self.model.gradient_checkpointing_enable()

    def save(self, folder: Path, **provenance: Any) -> None:
        """Write a folder that `load_teacher` and `transformers` read.

        The tensors keep the names they have in memory: `save_pretrained` of transformers 5 renames the tracker of a
        `Sam3VideoModel` in a way that its other classes do not read back.
        """
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}
        for tied in getattr(self.model, "_tied_weights_keys", None) or {}:
            state.pop(tied, None)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        self.model.config.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        (folder / "phd.json").write_text(json.dumps(provenance, indent=1, default=str) + "\n")


class FrozenTeacher:
    """A teacher outside the module tree: never trained, never in train mode, never in a checkpoint.

    Lightning does not see it, so the stage moves it to the device.
    """

    def __init__(self, teacher: Segmenter) -> None:
        self.model = teacher.eval().requires_grad_(False)
        self.contract = teacher.contract
        self.name = teacher.name

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenTeacher:
        """One teacher serves every copy of a module, such as the averaged one."""
        return self
