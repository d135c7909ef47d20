"""The option `--device`."""

from __future__ import annotations

from phd.errors import UserError


def checked_device(name: str) -> str:
    """The name of a device that this machine has.

    Raises:
        UserError: It has none of that name.
    """
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # the latter from a torch that was built without CUDA
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--device {name}: this machine has no such device ({reason}); give cpu or cuda") from error
    return name
