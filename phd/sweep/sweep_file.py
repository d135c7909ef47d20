"""Reading a W&B sweep file; its keys are described at docs.wandb.ai, "Sweep configuration options"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from phd.errors import UserError

DEFAULT_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")
TOP_LEVEL_KEYS = ("program", "command", "method", "metric", "parameters", "run_cap", "early_terminate")
DESCRIPTIVE_KEYS = ("name", "description", "project", "entity")  # read by W&B's server only
# What each distribution needs beyond its name; optional settings follow after the bar.
DISTRIBUTIONS = {
    "constant": "value",
    "categorical": "values | probabilities",
    "int_uniform": "min max",
    "uniform": "min max",
    "q_uniform": "min max | q",
    "log_uniform": "min max",
    "log_uniform_values": "min max",
    "q_log_uniform": "min max | q",
    "q_log_uniform_values": "min max | q",
    "normal": "| mu sigma",
    "q_normal": "| mu sigma q",
    "log_normal": "| mu sigma",
    "q_log_normal": "| mu sigma q",
}


@dataclass(frozen=True)
class Parameter:
    """One searched setting.

    Attributes:
        name: The flag without its hyphens, such as "model.lr".
        distribution: A key of `DISTRIBUTIONS`.
        settings: The distribution's own settings: value, values, probabilities, min, max, q, mu, sigma.
    """

    name: str
    distribution: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class SweepFile:
    """What a sweep file says, checked.

    Attributes:
        path: Where it was read.
        method: "grid" or "random".
        metric: Name of the column that ranks the trials.
        goal: "maximize" or "minimize".
        target: No new trial starts once one has reached this value; None without one.
        parameters: What is searched, in the order of the file.
        command: Words of the command line, with W&B's macros.
        program: What `${program}` stands for, or None.
        run_cap: Largest number of trials, or None.
        early_terminate: Whether the file asks for early termination, which only W&B's server does.
    """

    path: Path
    method: str
    metric: str
    goal: str
    target: float | None
    parameters: tuple[Parameter, ...]
    command: tuple[str, ...]
    program: str | None
    run_cap: int | None
    early_terminate: bool


def read_sweep_file(path: Path) -> SweepFile:
    """Read and check a sweep file.

    Args:
        path: A YAML file as `wandb sweep` takes it.

    Raises:
        UserError: The file is missing or no YAML, a key or a distribution is unknown, a value is of a wrong
            type, the method is not grid or random, or there is no metric.
    """
    content = _load(path)
    _reject_unknown(path, content, TOP_LEVEL_KEYS + DESCRIPTIVE_KEYS, "top level")
    method = content.get("method")
    if method not in ("grid", "random"):
        raise UserError(
            f"{path}: method is {method!r}, but only grid and random run locally; "
            f"change it, or use `wandb sweep {path}` for W&B's server"
        )
    metric = content.get("metric")
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise UserError(f"{path}: no metric.name; name the logged value that ranks trials, e.g. val/mask_iou")
    _reject_unknown(path, metric, ("name", "goal", "target"), "metric")
    goal = metric.get("goal", "minimize")  # W&B's default
    if goal not in ("minimize", "maximize"):
        raise UserError(f"{path}: metric.goal is {goal!r}; write minimize or maximize")
    parameters = content.get("parameters")
    if not isinstance(parameters, dict) or not parameters:
        raise UserError(f"{path}: no parameters; name at least one setting to search")
    command = content.get("command", list(DEFAULT_COMMAND))
    if not isinstance(command, list) or not command:
        raise UserError(f"{path}: command must be a list of words")
    run_cap = content.get("run_cap")
    if run_cap is not None and (not isinstance(run_cap, int) or run_cap < 1):
        raise UserError(f"{path}: run_cap is {run_cap!r}; write a whole number of at least 1")
    target = metric.get("target")
    return SweepFile(
        path=path,
        method=method,
        metric=metric["name"],
        goal=goal,
        target=None if target is None else _number(path, "metric.target", target),
        parameters=tuple(_parameter(path, str(name), spec) for name, spec in parameters.items()),
        command=tuple(str(word) for word in command),
        program=content.get("program"),
        run_cap=run_cap,
        early_terminate="early_terminate" in content,
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the sweep file ({error})") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: a sweep file is a mapping with method, metric and parameters")
    return content


def _parameter(path: Path, name: str, spec: Any) -> Parameter:
    if not isinstance(spec, dict):
        raise UserError(f"{path}: parameters.{name} must be a mapping, such as {{values: [...]}}")
    if "parameters" in spec:
        raise UserError(f"{path}: parameters.{name} is nested; write dotted names such as {name}.lr, which are flags")
    distribution = spec.get("distribution") or _implied_distribution(path, name, spec)
    if distribution not in DISTRIBUTIONS:
        raise UserError(
            f"{path}: parameters.{name} has the unknown distribution {distribution!r}; "
            f"known here: {', '.join(DISTRIBUTIONS)}"
        )
    required, _, optional = (part.split() for part in DISTRIBUTIONS[distribution].partition("|"))
    settings = {key: value for key, value in spec.items() if key != "distribution"}
    _reject_unknown(path, settings, required + optional, f"parameters.{name} ({distribution})")
    for key in required:
        if key not in settings:
            raise UserError(f"{path}: parameters.{name} ({distribution}) lacks {key}")
    for key in set(settings) & {"min", "max", "q", "mu", "sigma"}:
        settings[key] = _number(path, f"parameters.{name}.{key}", settings[key])
    _check_settings(path, name, distribution, settings)
    return Parameter(name, distribution, settings)


def _implied_distribution(path: Path, name: str, spec: dict[str, Any]) -> str:
    """W&B's rule for a parameter without a distribution."""
    if "value" in spec:
        return "constant"
    if "values" in spec:
        return "categorical"
    if "min" in spec and "max" in spec:
        return "int_uniform" if all(isinstance(spec[key], int) for key in ("min", "max")) else "uniform"
    raise UserError(f"{path}: parameters.{name} needs value, values, or min and max")


def _check_settings(path: Path, name: str, distribution: str, settings: dict[str, Any]) -> None:
    where = f"{path}: parameters.{name}"
    if "values" in settings and (not isinstance(settings["values"], list) or not settings["values"]):
        raise UserError(f"{where}.values must be a list with at least one value")
    if "probabilities" in settings:
        weights = settings["probabilities"]
        if not isinstance(weights, list) or len(weights) != len(settings["values"]) or abs(sum(weights) - 1) > 1e-6:
            raise UserError(f"{where}.probabilities must hold one number per value and sum to 1")
    if "min" in settings and settings["min"] > settings["max"]:
        raise UserError(f"{where} has min {settings['min']} above max {settings['max']}")
    if distribution.endswith("log_uniform_values") and settings["min"] <= 0:
        raise UserError(f"{where} ({distribution}) needs min above 0; for exponents of e use log_uniform")
    if distribution == "int_uniform" and not all(isinstance(settings[key], int) for key in ("min", "max")):
        raise UserError(f"{where} (int_uniform) needs whole numbers as min and max")
    if settings.get("q", 1) <= 0:
        raise UserError(f"{where}.q must be above 0")


def _number(path: Path, where: str, value: Any) -> float | int:
    # YAML 1.1 reads 1e-4 (no point before the e) as a string.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{path}: {where} is {value!r}; write a number")
    return value


def _reject_unknown(path: Path, mapping: dict[str, Any], known: Iterable[str], where: str) -> None:
    known = list(known)
    for key in mapping:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise UserError(f"{path}: unknown key {key!r} at {where}; {hint}")
