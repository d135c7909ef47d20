"""A student starts from its teacher's weights, copied by name, with an account of what was and was not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

FEW = 6


@dataclass
class Inheritance:
    """What became of each weight and buffer.

    Attributes:
        inherited: Names copied from the teacher.
        new: Names of the student that keep their fresh initialisation, mismatched ones included.
        missing: Names of the teacher that the student has no place for.
        mismatched: Of the new ones, those that the teacher has in another shape: name, student's and teacher's shape.
    """

    inherited: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)

    def summary(self, title: str) -> str:
        """A short account: counts by part, and the names of what is new or missing, by part where they are many."""
        origin = ", ".join(f"{part} {count}" for part, count in by_part(self.inherited, depth=1))
        lines = [
            f"{title}: {len(self.inherited)} inherited{f' ({origin})' if origin else ''}, "
            f"{len(self.new)} new, {len(self.missing)} missing"
        ]
        lines += _listed("new", self.new) + _listed("missing", self.missing)
        lines += [
            f"  other shape: {name} {list(mine)} here, {list(theirs)} in the teacher"
            for name, mine, theirs in self.mismatched
        ]
        return "\n".join(lines)


def inherit(student: nn.Module, teacher: nn.Module) -> Inheritance:
    """Copy every weight and buffer of the teacher that the student has under the same name and in the same shape.

    Both modules are in memory, so what is not copied keeps the values that its own constructor gave it.
    `from_pretrained` with `ignore_mismatched_sizes` would leave it as uninitialised memory.
    """
    mine, theirs = student.state_dict(), teacher.state_dict()
    account = Inheritance(missing=[name for name in theirs if name not in mine])
    with torch.no_grad():
        for name, tensor in mine.items():
            if name not in theirs:
                account.new.append(name)
            elif tensor.shape != theirs[name].shape:
                account.new.append(name)
                account.mismatched.append((name, tuple(tensor.shape), tuple(theirs[name].shape)))
            else:
                tensor.copy_(theirs[name])
                account.inherited.append(name)
    return account


def by_part(names: Sequence[str], depth: int) -> list[tuple[str, int]]:
    """Number of names by their first components, in order of appearance."""
    return list(Counter(".".join(name.split(".")[:depth]) for name in names).items())


def _listed(word: str, names: Sequence[str]) -> list[str]:
    if len(names) <= FEW:
        return [f"  {word}: {name}" for name in names]
    return [f"  {word}: {part} ({count} names)" for part, count in by_part(names, depth=2)]
