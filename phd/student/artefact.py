"""A student's folder: config.json, model.safetensors, README.md."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.utils.hub import cached_file

from phd.contract import Contract
from phd.errors import UserError
from phd.hub import hub_unreachable
from phd.student.card import model_card
from phd.student.config import StudentConfig

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"


def find_file(source: str | Path, name: str) -> Path:
    """A file of a folder or of a hub repository.

    Raises:
        UserError: It is not there.
    """
    folder = Path(source)
    if folder.is_dir():
        if not (folder / name).is_file():
            raise UserError(f"{source}: no {name}; a student's folder holds {CONFIG}, {WEIGHTS} and {CARD}")
        return folder / name
    try:
        validate_repo_id(str(source))
    except HFValidationError as error:
        raise UserError(f"student {source}: no such folder, and not a hub id either") from error
    unreachable = hub_unreachable(str(source))
    try:
        path = cached_file(str(source), name, local_files_only=bool(unreachable))
    except OSError as error:
        reason = unreachable or str(error).strip().splitlines()[0]
        raise UserError(f"student {source}: no such folder, and no {name} of that hub id ({reason})") from error
    assert path is not None, "cached_file raises unless told otherwise"
    return Path(path)


def read_config(source: str | Path) -> StudentConfig:
    """The configuration of a saved student.

    Raises:
        UserError: There is none, it is damaged, or it is that of another kind of model.
    """
    path = find_file(source, CONFIG)
    try:
        values = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); save the student again") from error
    model_type = values.get("model_type") if isinstance(values, dict) else None
    if model_type != StudentConfig.model_type:
        raise UserError(f"{path}: model type {model_type!r} is not a student of this project")
    try:
        Contract.from_dict(values["contract"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: the contract is incomplete ({error}); save the student again") from error
    return StudentConfig.from_dict(values)


def read_weights(source: str | Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a saved student, every one accounted for.

    Args:
        source: Folder or hub id.
        wanted: State dict of a student built from the configuration beside them.

    Raises:
        UserError: The file is missing or damaged, or holds other names or shapes than wanted.
    """
    path = find_file(source, WEIGHTS)
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: damaged ({error}); save or download the student again") from error
    missing = sorted(wanted.keys() - state.keys())
    unexpected = sorted(state.keys() - wanted.keys())
    reshaped = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    if missing or unexpected or reshaped:
        example = (missing + unexpected + reshaped)[0]
        raise UserError(
            f"{path}: does not fit the config.json beside it ({len(missing)} weights missing, {len(unexpected)} "
            f"unexpected, {len(reshaped)} of another shape, for instance {example}); "
            f"the two files belong to different students"
        )
    return state


def write_folder(
    folder: Path,
    config: StudentConfig,
    contract: Contract,
    state: Mapping[str, Tensor],
    parameters: Mapping[str, int],
) -> None:
    """Write beside the folder, then swap, so that the folder never holds half a student.

    Raises:
        UserError: The folder holds files of something else, which the swap would lose.
    """
    others = [path.name for path in folder.glob("*") if path.name not in (CONFIG, WEIGHTS, CARD)]
    if others:
        raise UserError(f"{folder}: holds other files ({others[0]}); save the student to a folder of its own")
    partial, previous = (folder.with_name(folder.name + suffix) for suffix in (".partial", ".previous"))
    for leftover in (partial, previous):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    # Clones, because safetensors refuses tensors that share memory, as tied weights do.
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in state.items()}, partial / WEIGHTS)
    config.architectures = ["Student"]
    config.save_pretrained(partial)
    (partial / CARD).write_text(model_card(config, contract, parameters))
    # safetensors writes for the owner only, whatever the umask says.
    (partial / WEIGHTS).chmod((partial / CONFIG).stat().st_mode)
    if folder.exists():
        folder.rename(previous)
    partial.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)
