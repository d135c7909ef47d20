"""Find a teacher's files, and read model and image processor from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoImageProcessor, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from phd.errors import UserError
from phd.hub import hub_unreachable

logging.set_verbosity_error()  # transformers announces every default sub-configuration
logging.disable_progress_bar()


def read_model_type(source: str) -> str:
    """What kind of model a hub id or local folder holds, by its config.json.

    Raises:
        UserError: It is empty, there is no such folder, and the hub has or gives no such id.
    """
    if not source:
        raise UserError("the name of a model is empty; give a folder, a hub id, or toy-teacher")
    if Path(source).is_dir() and not (Path(source) / "config.json").exists():
        raise UserError(f"{source}: no config.json; a model folder holds config.json and model.safetensors")
    reason = "" if Path(source).is_dir() else hub_unreachable(source)
    try:
        values, _ = PreTrainedConfig.get_config_dict(source, local_files_only=bool(reason))
    except (OSError, ValueError) as error:
        reason = reason or str(error).strip().splitlines()[0]
        raise UserError(
            f"model {source!r}: neither a local folder nor a hub id that can be read here ({reason}); "
            f"give a folder, or log in with `hf auth login` if the model is gated"
        ) from error
    return str(values.get("model_type", "unknown"))


def read_config(source: str) -> Any:
    """The `transformers` configuration of a hub id or local folder that `read_model_type` knows."""
    return AutoConfig.from_pretrained(source)


def read_model(cls: type[PreTrainedModel], source: str, **options: Any) -> PreTrainedModel:
    """The model in fp32, with every weight accounted for.

    Raises:
        UserError: No weights, or weights of another model.
    """
    folder = Path(source)
    if folder.is_dir() and not list(folder.glob("*.safetensors*")):
        raise UserError(f"{source}: a teacher folder without weights; put model.safetensors into it")
    try:
        loaded: Any = cls.from_pretrained(
            source,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they raise below, in one line
            **options,
        )
    except (OSError, SafetensorError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise UserError(f"teacher {source!r}: its weights cannot be read ({first_line}); fetch them again") from error
    model, info = loaded
    # A mismatch is listed as (name, shape in the file, shape in the model).
    for names, what in (
        (sorted(info["missing_keys"]), "are missing"),
        (sorted(entry[0] for entry in info["mismatched_keys"]), "have another shape"),
    ):
        if names:
            raise UserError(
                f"teacher {source!r}: {len(names)} weights of {cls.__name__} {what}, the first is {names[0]}; "
                f"the file belongs to another model"
            )
    return model


def read_processor(source: str) -> Any:
    """The checkpoint's own image processor, from which the contract is read.

    Raises:
        UserError: The folder has none.
    """
    try:
        processor = AutoImageProcessor.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise UserError(
            f"teacher {source!r}: no image processor (preprocessor_config.json or processor_config.json), so its "
            f"contract is unknown; save the processor beside the weights"
        ) from error
    return processor


def require_one_size(name: str, processor: int, model: int) -> None:
    """Raise unless the image processor makes images of the size that the model was built for.

    Raises:
        UserError: They disagree, so the model's positions would not fit its images.
    """
    if processor != model:
        raise UserError(
            f"teacher {name!r}: its image processor makes images of {processor} pixels but its config is of a model "
            f"for {model}; put the processor's and the model's files of one checkpoint together"
        )


def rgb(values: Any) -> tuple[float, float, float]:
    """Mean or standard deviation of a processor as three floats."""
    red, green, blue = (float(value) for value in values)
    return red, green, blue
