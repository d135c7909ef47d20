"""What an evaluation of interactive segmentation found, and its averages."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

# COCO's sizes by mask area in image pixels, [from, to).
SIZES: dict[str, tuple[float, float]] = {
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, math.inf),
}


@dataclass(frozen=True)
class InstanceResult:
    """The IoU of one instance after each prompt.

    Attributes:
        key: Its sample.
        id: Its id in the data set.
        area: Of its mask, in image pixels.
        ious: IoU in [0, 1] by prompt: "box", "click1", "click3" and so on.
    """

    key: str
    id: int
    area: int
    ious: dict[str, float]


@dataclass
class ImageReport:
    """Results of every instance, with the protocol that made them.

    Attributes:
        protocol: Every choice that moves the numbers.
        model: Name of the evaluated model.
        num_images: Images read, also those without an instance.
        prompts: The prompts that were evaluated, in order.
        instances: One result for each instance.
        num_crowd: Crowd regions that the data reader left out.
        skipped: What was left out on request; empty by default.
    """

    protocol: dict[str, Any]
    model: str
    num_images: int
    prompts: list[str]
    instances: list[InstanceResult]
    num_crowd: int = 0
    skipped: list[str] = field(default_factory=list)

    def mean_iou(self, prompt: str, size: str | None = None) -> float | None:
        """Mean over instances, each counted once; None where there is none of this size."""
        ious = [instance.ious[prompt] for instance in self._of_size(size)]
        return math.fsum(ious) / len(ious) if ious else None

    def to_dict(self, with_instances: bool = False) -> dict[str, Any]:
        """Plain types for JSON.

        Args:
            with_instances: Also list the result of every instance.
        """
        values: dict[str, Any] = {
            "protocol": self.protocol,
            "model": self.model,
            "num_images": self.num_images,
            "num_instances": len(self.instances),
            **self._means(None),
            "by_size": {size: {"num_instances": len(self._of_size(size)), **self._means(size)} for size in SIZES},
            "num_crowd": self.num_crowd,
            "skipped": self.skipped,
        }
        if with_instances:
            values["instances"] = [
                {"key": result.key, "id": result.id, "area": result.area, **result.ious} for result in self.instances
            ]
        return values

    def _of_size(self, size: str | None) -> list[InstanceResult]:
        low, high = SIZES[size] if size else (0, math.inf)
        return [instance for instance in self.instances if low <= instance.area < high]

    def _means(self, size: str | None) -> dict[str, float | None]:
        return {f"{prompt}_miou": self.mean_iou(prompt, size) for prompt in self.prompts}
