"""The command `phd`: LightningCLI for fit, validate and test, and the other commands beside it."""

from __future__ import annotations

import sys
import warnings
from typing import Any

from phd import __version__
from phd.commands import COMMANDS
from phd.errors import UserError, show_warning, tell

TRAINING = {
    "fit": "train a stage from YAML files (-c FILE, repeatable; a later file wins)",
    "validate": "run the validation of a stage",
    "test": "run the test of a stage",
}


def usage() -> str:
    """The list of commands, one line each."""
    lines = ["usage: phd COMMAND [ARGUMENTS]     (phd COMMAND --help tells more)", ""]
    width = max(map(len, [*TRAINING, *COMMANDS]))
    lines += [f"  {name:<{width}}  {what}" for name, what in TRAINING.items()]
    lines += [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(lines)


def run(arguments: list[str]) -> Any:
    """Run one command and return what it returns; errors pass through, a warning becomes one line."""
    # Here, not in `main`: the processes of an ablation's pool come in by this door.
    warnings.showwarning = show_warning
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return None
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        print(f"phd {__version__}")
        return None
    if name in COMMANDS:
        return COMMANDS[name].run(rest)
    if name in TRAINING or name.startswith("-"):
        from phd.training_cli import training_cli  # imports Lightning, which takes seconds

        return training_cli(arguments)
    raise UserError(f"phd has no command {name!r}; there are {', '.join([*TRAINING, *COMMANDS])}")


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script; a `UserError` becomes one line and exit code 2."""
    try:
        run(sys.argv[1:] if arguments is None else arguments)
    except UserError as error:
        # From a worker of the data loader the message comes wrapped in that process's traceback.
        message = str(error).rsplit("phd.errors.UserError: ", 1)[-1]
        tell("error", message)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
