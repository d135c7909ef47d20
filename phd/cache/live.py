"""Images of shards on the teacher's canvas, and its trunk over them."""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from datamodules.cache.join import image_digest
from datamodules.cache.quantise import Dtype
from datamodules.cache.recipe import Precision, Recipe, transform_sha256
from datamodules.reader import ShardReader
from datamodules.transforms import Example, ImageTransform
from phd.contract import Contract
from phd.errors import UserError
from phd.teachers import Teacher
from phd.teachers.fingerprint import weights_sha256


@dataclass(frozen=True)
class Canvases:
    """A batch of images.

    Attributes:
        keys: B keys.
        digests: B digests of the image files.
        images: (B, 3, S, S) uint8 RGB canvas.
        content: (B, 2) height and width of the filled part, in contract pixels.
    """

    keys: list[str]
    digests: list[str]
    images: Tensor
    content: Tensor


def require_images(reader: ShardReader) -> None:
    """Check that shards hold images.

    Raises:
        UserError: They hold videos.
    """
    if reader.form == "video":
        raise UserError(f"{reader.root}: holds videos; a cache is made of images, so name shards of those")


class CanvasLoader:
    """Images without augmentation, as training shows them; read and decoded on threads.

    Args:
        reader: Of the images.
        contract: Of the teacher.
        threads: How many decode at once.
    """

    def __init__(self, reader: ShardReader, contract: Contract, threads: int) -> None:
        require_images(reader)
        self.reader, self.threads = reader, threads
        self.transform = ImageTransform(contract, None, max_masks=1, train=False)
        self._local = threading.local()

    def batches(self, numbers: Sequence[int], batch_size: int) -> Iterator[Canvases]:
        """Batches in the order of the numbers, the next ones decoded ahead.

        Raises:
            UserError: An image cannot be decoded.
        """
        pending: deque[Future[tuple[Example, str]]] = deque()
        ahead = iter(numbers)
        pool = ThreadPoolExecutor(self.threads)
        try:
            for begin in range(0, len(numbers), batch_size):
                for number in islice(ahead, 2 * batch_size + self.threads - len(pending)):
                    pending.append(pool.submit(self._load, number))
                loaded = [pending.popleft().result() for _ in numbers[begin : begin + batch_size]]
                yield Canvases(
                    keys=[example.key for example, _ in loaded],
                    digests=[digest for _, digest in loaded],
                    images=torch.stack([example.image for example, _ in loaded]),
                    content=torch.stack([example.content for example, _ in loaded]),
                )
        finally:
            pool.shutdown(cancel_futures=True)

    def _load(self, number: int) -> tuple[Example, str]:
        reader: ShardReader | None = getattr(self._local, "reader", None)
        if reader is None:
            # Open files are not shared between threads; a copy brings none.
            reader = self._local.reader = copy.copy(self.reader)
        jpg = reader.member(number, "jpg")
        record = {"image": {}, "annotations": []}
        example = self.transform(jpg, record, reader.key(number), where=reader.where(number))
        return example, image_digest(jpg)


class LiveTrunk:
    """A teacher's trunk on a device.

    Args:
        teacher: Only its trunk is moved.
        device: Where it runs.
        precision: "bf16-mixed" runs it under autocast.
    """

    def __init__(self, teacher: Teacher, device: torch.device, precision: Precision) -> None:
        self.contract, self.device = teacher.contract, device
        self.trunk = teacher.eval().trunk.to(device)
        self.autocast = precision == "bf16-mixed"

    @torch.inference_mode()
    def __call__(self, canvases: Canvases) -> tuple[Tensor, ...]:
        """The maps of `contract.trunk`, finest first, each (B, C, h, w)."""
        images, content = canvases.images.to(self.device), canvases.content.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            return tuple(self.trunk(self.contract.normalise(images, content)))


def recipe_of(teacher: Teacher, dtype: Dtype, precision: Precision) -> Recipe:
    """How a teacher's features are made and stored."""
    return Recipe(
        teacher=teacher.name,
        weights_sha256=weights_sha256(teacher.trunk),
        contract=teacher.contract,
        transform_sha256=transform_sha256(teacher.contract),
        dtype=dtype,
        precision=precision,
    )
