"""Where the members of all samples lie, in arrays: millions of strings and dicts would not fit beside many workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np


def _smallest(values: np.ndarray) -> np.ndarray:
    """The same whole numbers in the smallest type that holds them."""
    return values.astype(np.min_scalar_type(values.max())) if len(values) else values.astype(np.uint8)


@dataclass(frozen=True)
class MemberIndex:
    """Members of samples, as one shard or a whole folder has them.

    Attributes:
        keys: (samples,) keys, as bytes.
        starts: (samples + 1,) where the members of each sample begin in the arrays below.
        extensions: The extensions in use.
        names: (members,) which of the extensions.
        offsets: (members,) first byte in the tar.
        sizes: (members,) number of bytes.
    """

    keys: np.ndarray
    starts: np.ndarray
    extensions: list[str]
    names: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of_shard(cls, samples: Sequence[dict[str, Any]]) -> MemberIndex:
        """From the entries of a shard's index file.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: They are of another form.
        """
        numbers: dict[str, int] = {}
        members = [sample["members"] for sample in samples]
        names = [numbers.setdefault(extension, len(numbers)) for places in members for extension in places]
        listed = [place for places in members for place in places.values()]
        places = np.array(listed or np.empty((0, 2), dtype=np.int64))
        if places.shape != (len(listed), 2) or places.dtype != np.int64 or (places < 0).any():
            raise ValueError("a place is no offset and size")
        return cls(
            keys=np.array([sample["key"].encode() for sample in samples], dtype=np.bytes_),
            starts=np.cumsum([0, *map(len, members)]),
            extensions=list(numbers),
            names=_smallest(np.array(names, dtype=np.int64)),
            offsets=_smallest(places[:, 0]),
            sizes=_smallest(places[:, 1]),
        )

    @classmethod
    def of_folder(cls, shards: Sequence[MemberIndex]) -> MemberIndex:
        """All samples of these shards, one after the other."""
        extensions = sorted(set(chain.from_iterable(shard.extensions for shard in shards)))
        numbers = {extension: number for number, extension in enumerate(extensions)}
        # A shard without any member has no extension either.
        renamed = [np.array([numbers[name] for name in shard.extensions] or [0])[shard.names] for shard in shards]
        before = np.cumsum([0, *(len(shard.names) for shard in shards)])
        starts = [shard.starts[:-1] + first for shard, first in zip(shards, before[:-1], strict=True)]
        return cls(
            keys=np.concatenate([shard.keys for shard in shards]),
            starts=_smallest(np.concatenate([*starts, before[-1:]])),
            extensions=extensions,
            names=_smallest(np.concatenate(renamed)),
            offsets=_smallest(np.concatenate([shard.offsets for shard in shards])),
            sizes=_smallest(np.concatenate([shard.sizes for shard in shards])),
        )

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Extension -> its number."""
        return {extension: number for number, extension in enumerate(self.extensions)}

    @property
    def end(self) -> int:
        """Where the last member ends, of the index of one shard; 0 where there is none."""
        return int((self.offsets.astype(np.int64) + self.sizes).max()) if len(self.names) else 0

    def twice(self) -> list[int]:
        """The numbers of the samples that share the first key which is used twice; mostly none."""
        keys, counts = np.unique(self.keys, return_counts=True)
        return [] if len(keys) == len(self) else np.flatnonzero(self.keys == keys[counts > 1][0]).tolist()

    def extensions_of(self, sample: int) -> list[str]:
        """The extensions of a sample, in the order of the index."""
        return [self.extensions[name] for name in self.names[self.starts[sample] : self.starts[sample + 1]]]

    def place(self, sample: int, extension: str) -> tuple[int, int] | None:
        """Offset and size of a member, None where the sample has no such member."""
        first, last = int(self.starts[sample]), int(self.starts[sample + 1])
        hits = np.flatnonzero(self.names[first:last] == self.numbers.get(extension, -1))
        return (int(self.offsets[first + hits[0]]), int(self.sizes[first + hits[0]])) if len(hits) else None
