"""What StageFreeze freezes stays bit for bit; what it unfreezes moves."""

from __future__ import annotations

import copy
from pathlib import Path

import lightning as L
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from tiny_stage import TinyBatches, TinyStage, loader, trainer
from torch.utils.data import DataLoader

from callbacks import StageFreeze
from phd.errors import UserError

IMAGES = TinyBatches(1, seed=9)[0].images


class Snapshots(L.Callback):
    """A copy of the learner after every epoch."""

    def __init__(self) -> None:
        self.states: list[dict[str, torch.Tensor]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: TinyStage) -> None:
        self.states.append(copy.deepcopy(pl_module.learner.state_dict()))


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def named(stage: TinyStage, prefix: str) -> set[str]:
    return {name for name in stage.learner.state_dict() if name.startswith(prefix)}


def test_frozen_batch_norm_and_output_are_unchanged(tmp_path: Path) -> None:
    stage = TinyStage()
    stage.train()
    before = copy.deepcopy(stage.learner.state_dict())
    output = copy.deepcopy(stage.learner.trunk).eval()(IMAGES.float())

    trainer(tmp_path, StageFreeze(["trunk"])).fit(stage, loader(3), loader(1))

    assert moved(before, stage.learner.state_dict()) == named(stage, "heads")
    assert not stage.learner.trunk[1].training
    assert stage.learner.heads["scale"].training
    assert stage.learner.trunk[1].track_running_stats
    assert torch.equal(stage.learner.trunk(IMAGES.float()), output)
    optimised = {id(p) for group in stage.optimizers().param_groups for p in group["params"]}
    assert optimised == {id(p) for p in stage.learner.heads.parameters()}


def test_a_stray_train_is_undone(tmp_path: Path) -> None:
    class Stray(TinyStage):
        def on_validation_model_train(self) -> None:
            self.train()

    stage = Stray()
    before = copy.deepcopy(stage.learner.state_dict())
    trainer(tmp_path, StageFreeze(["trunk"])).fit(stage, loader(3), loader(1))
    assert moved(before, stage.learner.state_dict()) == named(stage, "heads")


def test_unfreezes_at_its_epoch(tmp_path: Path) -> None:
    stage, snapshots = TinyStage(), Snapshots()
    before = copy.deepcopy(stage.learner.state_dict())
    trainer(tmp_path, StageFreeze({"trunk": 1}), snapshots).fit(stage, loader(3), loader(1))
    assert moved(before, snapshots.states[0]) == named(stage, "heads")
    assert moved(snapshots.states[0], snapshots.states[1]) == named(stage, "")
    assert stage.learner.trunk[1].training


def test_the_more_specific_name_counts(tmp_path: Path) -> None:
    stage, snapshots = TinyStage(), Snapshots()
    before = copy.deepcopy(stage.learner.state_dict())
    freeze = StageFreeze({"heads": None, "heads.decod*": 1})
    trainer(tmp_path, freeze, snapshots).fit(stage, loader(3), loader(1))
    assert moved(before, snapshots.states[0]) == named(stage, "trunk")
    assert moved(snapshots.states[0], snapshots.states[1]) == named(stage, "trunk") | named(stage, "heads.decoder")


def test_a_view_outside_the_module_tree_has_its_name(tmp_path: Path) -> None:
    stage = TinyStage()
    stage.learner.__dict__["encoder"] = stage.learner.trunk
    before = copy.deepcopy(stage.learner.state_dict())
    trainer(tmp_path, StageFreeze({"encoder": None})).fit(stage, loader(2))
    assert moved(before, stage.learner.state_dict()) == named(stage, "heads")


@pytest.mark.parametrize("step", [3, 4, 6], ids=["at the unfreeze", "within an epoch", "after the unfreeze"])
def test_resumes_to_the_same_weights(tmp_path: Path, step: int) -> None:
    checkpoints = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    same = DataLoader([TinyBatches(1)[0]] * 3, batch_size=None)  # a plain loader does not resume within an epoch
    straight = TinyStage()
    trainer(tmp_path, StageFreeze({"trunk": 1}), checkpoints, max_epochs=3).fit(straight, same, loader(1))

    resumed = TinyStage(seed=5)
    trainer(tmp_path / "resumed", StageFreeze({"trunk": 1}), max_epochs=3).fit(
        resumed, same, loader(1), ckpt_path=tmp_path / f"step={step}.ckpt", weights_only=False
    )
    assert resumed.global_step == straight.global_step == 9
    assert moved(straight.learner.state_dict(), resumed.learner.state_dict()) == set()


def test_a_second_fit_starts_from_the_original_state(tmp_path: Path) -> None:
    stage, freeze = TinyStage(), StageFreeze({"trunk": 1})
    stage.learner.trunk[0].bias.requires_grad = False
    for _ in range(2):
        trainer(tmp_path, freeze, max_epochs=2).fit(stage, loader(1))
    assert [name for name, p in stage.learner.named_parameters() if not p.requires_grad] == ["trunk.0.bias"]


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (["trunkk"], "no module 'trunkk'; did you mean trunk"),
        (["xyz"], "its parts are trunk, heads"),
        (["trunk", "heads"], "every parameter is frozen in epoch 0"),
        ({"trunk": 2, "heads": 1}, "every parameter is frozen in epoch 0"),
        ({"trunk.2": 1}, "trunk.2 is to unfreeze at epoch 1, but nothing in it requires a gradient"),
        ({"trunk": -1}, "modules.trunk is -1"),
    ],
)
def test_wrong_names_and_epochs(tmp_path: Path, modules: list | dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        trainer(tmp_path, StageFreeze(modules)).fit(TinyStage(), loader(1))


def test_an_optimiser_without_the_scheduled_parameters_is_an_error(tmp_path: Path) -> None:
    class HeadsOnly(TinyStage):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.learner.heads.parameters(), lr=0.1)

    with pytest.raises(RuntimeError, match="configure_optimizers"):
        trainer(tmp_path, StageFreeze({"trunk": 1})).fit(HeadsOnly(), loader(1))


@pytest.mark.parametrize(("text", "expected"), [("[a, b.*]", ["a", "b.*"]), ("{a: 3, b: null}", {"a": 3, "b": None})])
def test_reads_both_forms_from_yaml(text: str, expected: list | dict) -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(StageFreeze, "freeze")
    assert parser.parse_args([f"--freeze.modules={text}"]).freeze.modules == expected


class RanksAgree(TinyStage):
    """Every process has its own data; the largest difference of any weight between the two goes to a file."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def train_dataloader(self) -> DataLoader:
        return loader(3, seed=self.global_rank)

    def on_train_end(self) -> None:
        weights = torch.cat([p.detach().flatten() for p in self.learner.parameters()])
        both = self.all_gather(weights)
        frozen = TinyStage().learner.state_dict()["trunk.0.weight"]
        result = torch.stack([(both[0] - both[1]).abs().max(), (self.learner.trunk[0].weight - frozen).abs().max()])
        if self.global_rank == 0:
            torch.save(result.detach(), self.file)


def test_unfrozen_gradients_are_averaged_under_ddp(tmp_path: Path) -> None:
    strategy = DDPStrategy(process_group_backend="gloo", start_method="fork")
    file = tmp_path / "result.pt"
    trainer(tmp_path, StageFreeze({"trunk": 1}), devices=2, strategy=strategy, max_epochs=3).fit(RanksAgree(file))
    difference, movement = torch.load(file)
    assert difference == 0
    assert movement > 0.01
