"""Phrases without images, to distil a text encoder: a text file, or the phrases of shards."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, ClassVar

from datamodules.base import ShardDataModule, ShardSamples
from datamodules.plan import Entry
from datamodules.reader import ShardReader
from phd.errors import UserError


class PhraseSet(ShardSamples):
    """Phrases by number."""

    def __init__(self, phrases: list[str]) -> None:
        self.phrases = phrases
        self.first, self.last = 0, len(phrases)

    def __getitem__(self, entry: Entry) -> str:
        return self.phrases[entry[1]]


def read_lines(path: Path) -> list[str]:
    """The phrases of a text file, one per line; blank lines are left out with one warning that counts them.

    Raises:
        UserError: The file cannot be read, or holds no phrase.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}); give UTF-8, one phrase per line") from error
    phrases = [line for line in lines if line]
    if not phrases:
        raise UserError(f"{path}: holds no phrase; write one per line")
    if len(phrases) < len(lines):
        blank = len(lines) - len(phrases)
        warnings.warn(f"{path}: {blank} of {len(lines)} lines are blank and were left out", stacklevel=2)
    return phrases


def read_phrases(root: str) -> list[str]:
    """The phrases of a text file or of a folder of shards, each once, in the order of their first appearance.

    Raises:
        UserError: There is nothing of that name, or the samples of the shards have no phrases.
    """
    if Path(root).is_file():
        return list(dict.fromkeys(read_lines(Path(root))))
    if Path(root).suffix == ".txt":
        raise UserError(f"{root}: no such file; give a text file, one phrase per line, or a folder of shards")
    reader = ShardReader(root)
    if reader.form != "concept":
        raise UserError(f"{root}: its samples are of the form {reader.form} and have no phrases; give a text file")
    texts = (phrase["text"].strip() for n in range(len(reader)) for phrase in reader.read(n).record["phrases"])
    phrases = list(dict.fromkeys(text for text in texts if text))
    if not phrases:
        raise UserError(f"{root}: its samples have no phrases; give a text file, one phrase per line")
    return phrases


class Phrases(ShardDataModule):
    """Batches of phrases, each a list of strings. Resume is exact, as for `ShardDataModule`.

    Args:
        root: A text file, one phrase or caption per line, or a folder of shards with phrases. Repetitions count once.
        val_root: The same to validate on; `val_phrases` of `root`, spread over it, are held out where None.
        val_phrases: How many phrases to validate on.
        batch_size: Phrases in a batch of one process.
        num_workers: Loading processes for each training process; phrases need none.
        seed: Of the order.
    """

    forms: ClassVar[tuple[str, ...]] = ("concept",)
    needs = "phrases"
    least: ClassVar = {"val_phrases": 1, "batch_size": 1, "num_workers": 0, "seed": 0}

    def __init__(
        self,
        root: str,
        val_root: str | None = None,
        val_phrases: int = 512,
        batch_size: int = 256,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(root, val_root, val_phrases, batch_size, num_workers, None, None, None, seed, None)
        self.val_phrases = val_phrases

    def setup(self, stage: str) -> None:
        """Read and divide the phrases.

        Raises:
            UserError: Nothing to read, too few phrases, or a setting out of range.
        """
        self.check_settings()
        train = read_phrases(self.root)
        if self.val_root is None:
            train, val = hold_out(train, self.val_phrases, self.root)
        else:
            val = read_phrases(self.val_root)[: self.val_phrases]
        self.train_set, self.val_set = PhraseSet(train), PhraseSet(val)
        if stage == "fit":
            self._prepare_fit()

    def collate(self, train: bool) -> Any:
        """A batch is a list of phrases."""
        return list


def hold_out(phrases: list[str], count: int, root: str) -> tuple[list[str], list[str]]:
    """Split off `count` phrases at even distances, since files are often sorted.

    Raises:
        UserError: There are not more than that.
    """
    if len(phrases) <= count:
        raise UserError(
            f"{root}: data.val_phrases holds out {count} of its {len(phrases)} phrases and leaves none to train on; "
            f"lower data.val_phrases or name a data.val_root"
        )
    chosen = {number * len(phrases) // count for number in range(count)}
    train = [phrase for number, phrase in enumerate(phrases) if number not in chosen]
    return train, [phrases[number] for number in sorted(chosen)]
