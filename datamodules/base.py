"""What the data modules of all stages share: shards, the plan of batches, and exact resumes."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader, Dataset

from datamodules.foreign import is_stream
from datamodules.place import Place
from datamodules.plan import Entry, PlannedBatchSampler, cuts
from datamodules.reader import ShardReader
from datamodules.stream import StreamedSamples
from datamodules.streamed import StreamedExamples
from datamodules.workers import LeaveStopSignals
from phd.contract import Contract
from phd.errors import UserError


class ShardSamples(Dataset[Any]):
    """Samples [first, last) of a reader of images or concepts, transformed; indexed by the entries of the plan."""

    def __init__(self, reader: ShardReader, transform: Any, first: int, last: int) -> None:
        self.reader, self.transform = reader, transform
        self.first, self.last = first, last

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, entry: Entry) -> Any:
        epoch, number = entry
        sample = self.reader.read(self.first + number)
        return self.transform(sample.jpg, sample.record, sample.key, epoch, sample.where)


class ShardDataModule(LightningDataModule):
    """Batches from shards, at the contract of the model that is trained.

    A subclass gives `transform`, `collate` and perhaps `stored`. Use it with
    `Trainer(use_distributed_sampler=False)`: the plan divides the batches among the processes.

    Resume is exact and elastic. `state_dict` is the number of samples consumed in the epoch (see
    `datamodules.place.Place`); the order of an epoch depends on `seed` alone, and what is drawn for a sample on
    (seed, epoch, key). So a run may go on with another `num_workers`, `batch_size` or number of processes: with the
    same global batch it is the same run; with another one it goes on at the same sample. Fewer shards than
    processes x workers do no harm, since the plan divides samples, not shards.

    Tars without an index are streamed (see `datamodules.stream.StreamedSamples`, and the limits there).

    Args:
        root: Shards to train on: a folder, or a URL of one; or tars without an index, as a folder or with braces
            (`https://host/shard-{000000..000009}.tar`).
        val_root: Shards to validate on; the first `val_samples` of `root` are held out where None.
        val_samples: How many samples to validate on; at most all of `val_root`.
        batch_size: Samples in a batch of one process.
        num_workers: Loading processes for each training process.
        max_shards: Use only the first shards of `root`.
        max_samples: Use only the first training samples.
        samples: How many samples there are, where `root` is tars without an index behind a URL.
        seed: Of order, choice and augmentation.
        contract: Image size, resize rule and mask grid; the trained model's where None.
    """

    forms: ClassVar[tuple[str, ...]]  # of the samples that it reads
    needs: ClassVar[str]  # the same in words
    least: ClassVar[dict[str, int]] = {
        "val_samples": 1,
        "batch_size": 1,
        "max_samples": 1,
        "samples": 1,
        "num_workers": 0,
        "seed": 0,
    }

    def __init__(
        self,
        root: str,
        val_root: str | None,
        val_samples: int,
        batch_size: int,
        num_workers: int,
        max_shards: int | None,
        max_samples: int | None,
        samples: int | None,
        seed: int,
        contract: Contract | None,
    ) -> None:
        super().__init__()
        self.root, self.val_root, self.val_samples = root, val_root, val_samples
        self.batch_size, self.num_workers = batch_size, num_workers
        self.max_shards, self.max_samples, self.samples = max_shards, max_samples, samples
        self.seed, self.contract = seed, contract
        self.place = Place()
        self.train_set: ShardSamples | StreamedExamples
        self.val_set: ShardSamples

    def transform(self, contract: Contract, train: bool) -> Any:
        """What makes an example of a stored sample."""
        raise NotImplementedError(f"{type(self).__name__} has no transform")

    def collate(self, train: bool) -> Any:
        """The function that makes a batch of a list of examples; sent to the workers."""
        raise NotImplementedError(f"{type(self).__name__} has no collate")

    def stored(self, reader: ShardReader, transform: Any, first: int, last: int) -> ShardSamples:
        """The data set of samples [first, last)."""
        return ShardSamples(reader, transform, first, last)

    def sampler(self, num_samples: int, rank: int, world_size: int, train: bool) -> PlannedBatchSampler:
        """The batches of one rank."""
        return PlannedBatchSampler(
            num_samples, self.batch_size, self.seed, rank, world_size, self.shuffles(train), drop_last=train
        )

    def doubts(self, manifest: dict[str, Any]) -> list[str]:
        """What makes shards teach less than they seem to; a run warns of it before it begins."""
        return []

    def warn(self, message: str) -> None:
        """Warn, from the first process only."""
        rank_zero_warn(message)

    def shuffles(self, train: bool) -> bool:
        """Whether the order changes every epoch; to overfit some batches is to see the same ones."""
        return train and not getattr(self.trainer, "overfit_batches", 0)

    def setup(self, stage: str) -> None:
        """Open the shards and divide them.

        Raises:
            UserError: A folder is not finished, too small or of another kind, or a setting is out of range.
        """
        self.check_settings()
        contract = self.trained_contract()
        transform = self.transform(contract, train=True)
        if is_stream(self.root):
            reader = None
            self.train_set = self._stream(transform)
        else:
            reader = self._open(self.root, self.max_shards)
            held_out = 0 if self.val_root else self.val_samples
            last = len(reader) if self.max_samples is None else min(len(reader), held_out + self.max_samples)
            if last <= held_out:
                raise UserError(
                    f"{self.root}: data.val_samples holds out {held_out} of its {len(reader)} samples and leaves "
                    f"none to train on; lower data.val_samples or name a data.val_root"
                )
            self.train_set = self.stored(reader, transform, held_out, last)
        val_reader = self._open(self.val_root) if self.val_root else reader
        if val_reader is None:
            raise UserError(f"{self.root}: tars without an index cannot be divided; name a data.val_root of shards")
        val_last = min(self.val_samples, len(val_reader))
        self.val_set = self.stored(val_reader, self.transform(contract, train=False), 0, val_last)
        if stage == "fit":
            self._prepare_fit()

    def check_settings(self) -> None:
        """Check the range of every setting.

        Raises:
            UserError: Names the setting.
        """
        for name, minimum in self.least.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise UserError(f"data.{name} is {value}; give at least {minimum}")

    def trained_contract(self) -> Contract:
        """The contract as set, or that of the trained model.

        Raises:
            UserError: There is neither.
        """
        if self.contract is not None:
            return self.contract
        contract = getattr(getattr(self.trainer, "lightning_module", None), "contract", None)
        if not isinstance(contract, Contract):
            raise UserError(
                f"data.contract is not given and the model has none; give {type(self).__name__}(contract=...)"
            )
        return contract

    def state_dict(self) -> dict[str, int]:
        """Where the next training batch lies: epoch, and samples consumed in it."""
        return self.place.position()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Begin there."""
        self.place.go_to(state_dict)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches in a new order every epoch; the tail that fills no batch on all ranks is left out."""
        return self._loader(self.train_set, train=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation sample once, in the order of the shards."""
        return self._loader(self.val_set, train=False)

    def test_dataloader(self) -> DataLoader[Any]:
        """The same as for validation."""
        return self.val_dataloader()

    def _open(self, root: str, max_shards: int | None = None) -> ShardReader:
        reader = ShardReader(root, max_shards)
        if reader.form not in self.forms:
            raise UserError(
                f"{root}: its samples are of the form {reader.form}, and {type(self).__name__} needs {self.needs}; "
                f"name the folder of another kind (`phd shards convert --help` lists them)"
            )
        for doubt in self.doubts(reader.manifest):
            self.warn(f"{root}: {doubt}")
        return reader

    def _stream(self, transform: Any) -> StreamedExamples:
        for name in ("max_shards", "max_samples"):
            if getattr(self, name) is not None:
                raise UserError(f"{self.root}: has no index, so data.{name} cannot be kept; leave it out, or convert")
        if "video" in self.forms:
            raise UserError(f"{self.root}: videos without an index cannot be read; use `phd shards convert`")
        rank, world_size = self._process()
        stream = StreamedSamples(
            self.root,
            self.seed,
            self.samples,
            self.batch_size,
            rank,
            world_size,
            shuffle=self.shuffles(train=True),
            form=self.forms[0],
        )
        return StreamedExamples(stream, transform)

    def _process(self) -> tuple[int, int]:
        """Rank and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _prepare_fit(self) -> None:
        """Check that every rank gets its batches, before the run writes anything; count from the beginning."""
        trainer: Any = self.trainer  # Lightning does not declare its list of callbacks
        _, world_size = self._process()
        if isinstance(self.train_set, ShardSamples):
            cuts(len(self.train_set), self.batch_size, world_size, drop_last=True)
        if trainer is None or trainer.limit_val_batches:
            cuts(len(self.val_set), self.batch_size, world_size, drop_last=False)
        self.place.restart()
        if trainer is not None and self.place not in trainer.callbacks:
            # First, so that the place is right when another callback writes a checkpoint.
            trainer.callbacks.insert(0, self.place)

    def _loader(self, examples: ShardSamples | StreamedExamples, train: bool) -> DataLoader[Any]:
        options: dict[str, Any]
        if isinstance(examples, StreamedExamples):
            plan, options = examples, {"batch_size": self.batch_size, "drop_last": True}
        else:
            plan = self.sampler(len(examples), *self._process(), train)
            options = {"batch_sampler": plan}
        if train:
            self.place.attach(plan, self.root)
        return DataLoader(
            examples,
            num_workers=self.num_workers,
            worker_init_fn=LeaveStopSignals() if self.num_workers else None,
            collate_fn=self.collate(train),
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            **options,
        )
