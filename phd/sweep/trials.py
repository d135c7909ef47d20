"""From a sweep file to a list of trials and to the command line of each."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
import sys
from typing import Any

import numpy as np

from phd.errors import UserError
from phd.sweep.sweep_file import Parameter, SweepFile

# Distinct combinations run out where all parameters are discrete; so many draws in vain end the search.
DRAWS_IN_VAIN = 1000


def plan_trials(sweep: SweepFile, max_runs: int | None, seed: int) -> list[dict[str, Any]]:
    """The parameters of each trial, a pure function of the file, the cap and the seed.

    A longer random plan of the same seed starts with the shorter one, so that a sweep can be extended.

    Args:
        sweep: The file.
        max_runs: Largest number of trials; the file's `run_cap` by default.
        seed: Seed of method "random".

    Raises:
        UserError: Grid over a continuous distribution, or random without any cap.
    """
    cap = sweep.run_cap if max_runs is None else max_runs
    if sweep.method == "grid":
        axes = [_grid_values(sweep, parameter) for parameter in sweep.parameters]
        names = [parameter.name for parameter in sweep.parameters]
        return [dict(zip(names, values, strict=True)) for values in itertools.islice(itertools.product(*axes), cap)]
    if cap is None:
        raise UserError(f"{sweep.path}: method random has no end; add run_cap to the file or give --max-runs")
    trials: dict[str, dict[str, Any]] = {}
    in_vain = 0
    for index in itertools.count():
        if len(trials) == cap or in_vain == DRAWS_IN_VAIN:
            break
        generator = np.random.default_rng([seed, index])
        drawn = {parameter.name: draw(parameter, generator) for parameter in sweep.parameters}
        in_vain = in_vain + 1 if trial_key(drawn) in trials else 0
        trials.setdefault(trial_key(drawn), drawn)
    return list(trials.values())


def trial_key(parameters: dict[str, Any]) -> str:
    """Short hash of a trial's parameters; names its folder and its record."""
    canonical = json.dumps(parameters, sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def draw(parameter: Parameter, generator: np.random.Generator) -> Any:
    """One value of a parameter.

    The distributions are W&B's: `log_uniform` takes exponents of e, `log_uniform_values` the values
    themselves, a `q_` in front rounds to multiples of q (1 by default).
    """
    settings, kind = parameter.settings, parameter.distribution
    if kind == "constant":
        return settings["value"]
    if kind == "categorical":
        return settings["values"][generator.choice(len(settings["values"]), p=settings.get("probabilities"))]
    if kind == "int_uniform":
        return int(generator.integers(settings["min"], settings["max"], endpoint=True))
    shape = kind.removeprefix("q_")
    if shape.endswith("normal"):
        value = generator.normal(settings.get("mu", 0), settings.get("sigma", 1))
    elif shape == "log_uniform_values":
        value = generator.uniform(math.log(settings["min"]), math.log(settings["max"]))
    else:
        value = generator.uniform(settings["min"], settings["max"])
    if shape.startswith("log_"):
        value = math.exp(value)
    return _round_to(value, settings.get("q", 1)) if kind.startswith("q_") else float(value)


def expand_command(sweep: SweepFile, parameters: dict[str, Any]) -> list[str]:
    """The words of one trial's command line, W&B's macros replaced by W&B's rules.

    Raises:
        UserError: An unknown macro, `${program}` without a program, or an unset environment variable.
    """
    macros = {
        "${env}": [] if sys.platform == "win32" else ["/usr/bin/env"],
        "${interpreter}": [sys.executable],
        "${args}": [f"--{name}={value}" for name, value in parameters.items()],
        "${args_no_boolean_flags}": [
            f"--{name}" if value is True else f"--{name}={value}"
            for name, value in parameters.items()
            if value is not False
        ],
        "${args_no_hyphens}": [f"{name}={value}" for name, value in parameters.items()],
        "${args_json}": [json.dumps(parameters)],
    }
    if sweep.program is not None:
        macros["${program}"] = [sweep.program]
    elif "${program}" in sweep.command:
        raise UserError(f"{sweep.path}: the command uses ${{program}}, but the file names no program")
    words: list[str] = []
    for word in sweep.command:
        words += macros[word] if word in macros else [_replace_environment(sweep, word)]
    return words


def _replace_environment(sweep: SweepFile, word: str) -> str:
    def value(match: re.Match[str]) -> str:
        kind, _, name = match[1].partition(":")
        if kind != "envvar" or not name:
            raise UserError(
                f"{sweep.path}: the command holds {match[0]}, which is unknown here or not a word of its own"
            )
        if name not in os.environ:
            raise UserError(f"{sweep.path}: the command reads the environment variable {name}, which is not set")
        return os.environ[name]

    return re.sub(r"\$\{([^}]*)\}", value, word)


def _grid_values(sweep: SweepFile, parameter: Parameter) -> list[Any]:
    settings, kind = parameter.settings, parameter.distribution
    if kind == "constant":
        return [settings["value"]]
    if kind == "categorical" and "probabilities" not in settings:
        return list(settings["values"])
    if kind == "int_uniform":
        return list(range(settings["min"], settings["max"] + 1))
    if kind == "q_uniform":
        q = settings.get("q", 1)
        # The slack keeps an end point such as 0.3 / 0.1, which floating point puts just outside.
        first, last = math.ceil(settings["min"] / q - 1e-9), math.floor(settings["max"] / q + 1e-9)
        return [_round_to(step * q, q) for step in range(first, last + 1)]
    raise UserError(
        f"{sweep.path}: parameters.{parameter.name} ({kind}) has no grid; list its values, or use method random"
    )


def _round_to(value: float, q: float) -> float | int:
    multiple = round(value / q) * q
    # 3 * 0.1 is 0.30000000000000004; the flag should read 0.3.
    return multiple if isinstance(multiple, int) else float(f"{multiple:.12g}")
