"""LightningCLI for the stages: loggers, run folder, and the guard of `--ckpt_path`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, WandbLogger

import callbacks  # noqa: F401 - so that class names resolve without their path
import datamodules  # noqa: F401
import phd.stages  # noqa: F401
from phd.errors import UserError
from phd.stages.base import Stage

warnings.filterwarnings("ignore", message=".*does not have many workers.*")
warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")


class SaveConfig(SaveConfigCallback):
    """Writes the resolved configuration into the run folder, and into W&B's config where W&B logs."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Lightning's hook, on rank 0."""
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.config.update(self.config.as_dict(), allow_val_change=True)


class TrainingCLI(LightningCLI):
    """One run folder for everything, W&B by one option, and no silent hand-over through `--ckpt_path`."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options beside Lightning's own."""
        parser.add_argument(
            "--wandb",
            type=str,
            default="disabled",
            choices=["disabled", "offline", "online"],
            help="also log to Weights & Biases; metrics.csv is always written",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Keep the model as asked for, before Lightning merges a checkpoint's hyper-parameters over it."""
        super().parse_arguments(parser, args)
        self.asked_for = self.config[self.config.subcommand].model.clone()

    def before_instantiate_classes(self) -> None:
        """Refuse a checkpoint whose model is not the one asked for.

        In Lightning 2.6 the hyper-parameters of a checkpoint silently win over the command line, class included.

        Raises:
            UserError: They differ.
        """
        config = self.config[self.config.subcommand]
        checkpoint = config.get("ckpt_path")
        if not checkpoint:
            return
        difference = first_difference(self.asked_for, config.model)
        if difference:
            raise UserError(
                f"--ckpt_path {checkpoint}: it is a checkpoint of another model ({difference}); --ckpt_path only "
                f"resumes the same run. To start from an earlier student use --model.init_from=FOLDER"
            )

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Loggers write into the run folder itself, `trainer.default_root_dir`."""
        config = cast(Any, self.config_init)[self.subcommand]
        if config.trainer.logger in (None, True):
            root = Path(config.trainer.default_root_dir or "runs/latest")
            root.mkdir(parents=True, exist_ok=True)
            loggers: list[Any] = [CSVLogger(root, name="", version="", flush_logs_every_n_steps=20)]
            if config.wandb != "disabled":
                loggers.append(WandbLogger(project="phd", save_dir=root, offline=config.wandb == "offline"))
            kwargs |= {"logger": loggers, "default_root_dir": str(root)}
        return super().instantiate_trainer(**kwargs)


def first_difference(asked: Namespace, loaded: Namespace) -> str:
    """Name the first setting in which two model configurations differ; empty where they agree."""
    mine, theirs = asked.as_flat(), loaded.as_flat()
    left, right = vars(mine), vars(theirs)
    for key in sorted({*left, *right} - {"_instantiator"}, key=lambda key: (key != "class_path", key)):
        if key.split(".")[-1] != "_instantiator" and left.get(key) != right.get(key):
            return f"{key}: {left.get(key)!r} asked for, {right.get(key)!r} in the checkpoint"
    return ""


def training_cli(arguments: list[str]) -> TrainingCLI:
    """Parse and run `fit`, `validate` or `test`."""
    return TrainingCLI(
        Stage,
        L.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=SaveConfig,
        save_config_kwargs={"overwrite": True},
        seed_everything_default=0,
        trainer_defaults={"use_distributed_sampler": False, "max_epochs": 1},
        auto_configure_optimizers=False,
        args=arguments,
    )
