"""What decides about the values in a cache; two caches with the same recipe hold the same features."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from datamodules.cache.quantise import QUANTISER, TORCH_TYPES, Dtype
from datamodules.shards import sha256, to_json
from phd.contract import Contract

Precision = Literal["32-true", "bf16-mixed"]
# Counts up whenever the same image would be drawn onto the canvas with other pixels.
TRANSFORM = 1


@dataclass(frozen=True)
class Member:
    """What one file of a sample holds."""

    extension: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.dtype.itemsize * torch.Size(self.shape).numel()


@dataclass(frozen=True)
class Recipe:
    """How the features of a cache are made.

    Attributes:
        teacher: Hub id or folder, for the reader; the hash of the weights decides.
        weights_sha256: Of the teacher's trunk.
        contract: The teacher's.
        transform_sha256: Of what makes the canvas.
        dtype: How a number is stored.
        precision: What the trunk ran in, in Lightning's words.
        quantiser: Version of the quantiser.
    """

    teacher: str
    weights_sha256: str
    contract: Contract
    transform_sha256: str
    dtype: Dtype = "int8"
    precision: Precision = "32-true"
    quantiser: int = QUANTISER

    @property
    def members(self) -> list[Member]:
        """The files of a sample, in the order of the tar: `level0.q8` and `level0.scale`, or `level0.fp16`."""
        found: list[Member] = []
        for number, level in enumerate(self.contract.trunk):
            shape = (level.channels, level.size, level.size)
            kind = "q8" if self.dtype == "int8" else self.dtype
            found.append(Member(f"level{number}.{kind}", shape, TORCH_TYPES[self.dtype]))
            if self.dtype == "int8":
                found.append(Member(f"level{number}.scale", (level.channels,), torch.float16))
        return found

    @property
    def sha256(self) -> str:
        """Of all but the teacher's name; every shard carries it, so that shards of two recipes cannot mix."""
        return sha256(to_json({**self.to_dict(), "teacher": None}))

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """The inverse of `to_dict`."""
        return cls(**{**values, "contract": Contract.from_dict(values["contract"])})

    def differences(self, other: Recipe) -> list[str]:
        """What differs from another recipe, as `name: mine against theirs`; the teacher's name does not count."""
        mine, theirs = self._named(), other._named()
        return [f"{name}: {mine[name]} against {theirs[name]}" for name in mine if mine[name] != theirs[name]]

    def _named(self) -> dict[str, Any]:
        contract = {f"contract.{name}": value for name, value in self.contract.to_dict().items()}
        return {
            "weights": self.weights_sha256[:12],
            **contract,
            "transform": self.transform_sha256[:12],
            "dtype": self.dtype,
            "precision": self.precision,
            "quantiser": self.quantiser,
        }


def transform_sha256(contract: Contract) -> str:
    """Of what makes the canvas from an image, and the pixels from the canvas."""
    names = ("resize", "image_size", "mean", "std")
    return sha256(to_json({"version": TRANSFORM, **{name: getattr(contract, name) for name in names}}))
