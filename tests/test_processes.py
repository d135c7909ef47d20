"""`phd fit` and `validate` in two gloo processes: the same samples and numbers as in one, and nobody waits in vain."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from cli_runs import small
from torch.multiprocessing import ProcessExitedException

from phd.batches import ImageBatch
from phd.cli import run

TWO = ["--trainer.devices=2", "--trainer.strategy=ddp_fork"]  # forked, so that nothing is imported again
HALF = [*TWO, "--data.batch_size=1"]
BATCHES_PER_EPOCH, EPOCHS = 4, 2
pytestmark = pytest.mark.slow


class Keys(L.Callback):
    """Appends the keys of every batch to a file of its process, and may signal one process in a batch."""

    def __init__(self, folder: str, kill: int = -1, rank: int = 0) -> None:
        self.folder, self.kill, self.rank = Path(folder), kill, rank

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: ImageBatch, batch_idx: int) -> None:
        if trainer.fit_loop.total_batch_idx == self.kill and trainer.global_rank == self.rank:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: ImageBatch, *_: Any) -> None:
        self.folder.mkdir(exist_ok=True)
        with (self.folder / f"{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps({"step": trainer.global_step, "keys": batch.keys}) + "\n")


def keys_by_step(folder: Path) -> dict[int, list[str]]:
    """Keys of all processes, by optimiser step."""
    seen: dict[int, list[str]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            seen.setdefault(entry["step"], []).extend(entry["keys"])
    return seen


@pytest.mark.parametrize("two_first", [False, True], ids=["one, then two", "two, then one"])
def test_another_number_of_processes_sees_the_same_samples(
    two_first: bool, tmp_path: Path, toy_shards: Path, toy_folder: Path
) -> None:
    def fit(folder: str, keys: str, *more: str) -> None:
        limits = [f"--trainer.limit_train_batches={BATCHES_PER_EPOCH}", f"--trainer.max_epochs={EPOCHS}"]
        limits += ["--trainer.limit_val_batches=0"]
        record = ["--trainer.callbacks+=test_processes.Keys", f"--trainer.callbacks.folder={tmp_path / keys}"]
        run(["fit", *small(toy_shards, tmp_path / folder, toy_folder, *limits, *record, *more, steps=-1)])

    fit("straight", "all")
    stop = ["--trainer.callbacks.kill=5", f"--trainer.callbacks.rank={int(two_first)}"]  # one of the two is enough
    with pytest.raises(ProcessExitedException if two_first else SystemExit) as end:
        fit("run", "before", *stop, *(HALF if two_first else []))
    assert (end.value.exit_code if two_first else end.value.code) == 128 + signal.SIGTERM
    fit("run", "after", "--ckpt_path=last", *([] if two_first else HALF))
    straight, before, after = (keys_by_step(tmp_path / name) for name in ("all", "before", "after"))
    assert sorted(before) == [1, 2, 3, 4, 5, 6]
    assert sorted(after) == [7, 8]
    assert before | after == straight
    assert all(len(keys) == 2 for keys in straight.values())


def test_validation_equals_one_process(tmp_path: Path, toy_shards: Path, toy_folder: Path) -> None:
    def values(name: str, *more: str) -> dict[str, float]:
        arguments = small(toy_shards, tmp_path / name, toy_folder, "--data.val_samples=5", *more)
        run(["validate", *(word for word in arguments if "max_steps" not in word), "--trainer.limit_val_batches=1.0"])
        with (tmp_path / name / "metrics.csv").open() as file:
            row = list(csv.DictReader(file))[-1]
        return {name: float(value) for name, value in row.items() if value and name.startswith("val/")}

    # Five samples in batches of two, and on two processes in batches of one: the last batch of one process has two.
    one, two = values("one"), values("two", *HALF)
    assert {"val/mask_iou", "val/feature_mse", "val/mask_iou/teacher/box", "val/loss/dice"} <= one.keys()
    metrics = [name for name in one if not name.startswith("val/loss")]
    assert {name: two[name] for name in metrics} == pytest.approx({name: one[name] for name in metrics}, rel=1e-5)
    assert two.keys() == one.keys()


class Uneven(L.Callback):
    """Takes all instances from the batches of the second process; in the end compares the weights of both."""

    def __init__(self, file: str) -> None:
        self.file = file

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: ImageBatch, batch_idx: int) -> None:
        if trainer.global_rank == 1:
            batch.valid.zero_()

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        both = pl_module.all_gather(torch.cat([p.detach().flatten() for p in pl_module.learner.parameters()]))
        if trainer.global_rank == 0:
            torch.save([both[0].isfinite().all(), torch.equal(both[0], both[1])], self.file)


@pytest.mark.parametrize(
    "more",
    [
        ["--model.train_heads=false"],
        ["--model.train_heads=true"],  # the heads take no part in the phase of the features
        [
            "--model.train_heads=true",
            "--trainer.callbacks+=callbacks.StageFreeze",
            "--trainer.callbacks.modules={trunk: 1}",
        ],
        ["--model.supervision=ground_truth", "--model.losses.phases=[{dice: 1.0, rounds: 1}]"],
    ],
    ids=["frozen heads", "trained heads", "unfreezing", "masks only"],
)
def test_unused_parameters_and_empty_batches(
    more: list[str], tmp_path: Path, toy_shards: Path, toy_folder: Path
) -> None:
    compare = ["--trainer.callbacks+=test_processes.Uneven", f"--trainer.callbacks.file={tmp_path / 'result.pt'}"]
    run(
        [
            "fit",
            *small(toy_shards, tmp_path / "run", toy_folder, *TWO, *compare, *more, "--trainer.max_epochs=2", steps=-1),
        ]
    )
    finite, equal = torch.load(tmp_path / "result.pt", weights_only=True)
    assert finite
    assert equal
