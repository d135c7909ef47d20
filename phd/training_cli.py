"""LightningCLI for the stages: loggers, run folder, and the guard of `--ckpt_path`."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any, NoReturn, cast

import lightning as L
import torch
from jsonargparse import Namespace
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

import callbacks  # its class names resolve without their path
import datamodules  # noqa: F401
import phd.stages  # noqa: F401
from phd.errors import UserError
from phd.stages.base import Stage

warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended.*")
warnings.filterwarnings("ignore", message=".*does not have many workers.*")
warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
warnings.filterwarnings("ignore", message=".*Experiment logs directory .* exists and is not empty.*")
warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.* is deprecated.*")

# The loader itself holds no state: the data module does.
warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")


# Where a run writes that names no trainer.default_root_dir.
RUN_FOLDER = "runs/latest"
# What torch.load raises on files that are damaged or something else, besides OSError.
UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError)
# What jsonargparse says about an optional setting beside what is wrong with it.
NOISE = ("Does not validate", "Subtypes:", "Errors:", "Given value", "Expected a <class 'NoneType'>")


class SaveConfig(SaveConfigCallback):
    """Writes the resolved configuration into the run folder, and into W&B's config where W&B logs."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Lightning's hook, on rank 0."""
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.config.update(self.config.as_dict(), allow_val_change=True)


class OneLineParser(LightningArgumentParser):
    """Errors in files and flags as one line, without pages of usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Called by the parser itself, and by the parsers of nested classes, which must raise its own error."""
        if not self.exit_on_error:
            super().error(message, ex)
        lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
        said = " ".join(line for line in lines if not line.startswith(NOISE))
        raise UserError(f"{said} (phd fit --help lists the settings)") from ex


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
        config = self.config[self.config.subcommand]
        self.asked_for = config.model.clone()
        if config.get("ckpt_path") == "last":
            config.ckpt_path = last_checkpoint(config, needed=self.config.subcommand != "fit")
        if config.get("ckpt_path"):
            check_checkpoint(Path(str(config.ckpt_path)), config.model.class_path)

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
            raise another_model(checkpoint, difference)

    def instantiate_classes(self) -> None:
        """Build model, data and trainer.

        Raises:
            UserError: From a constructor; the parser packs it into a ValueError of many lines.
        """
        try:
            super().instantiate_classes()
        except ValueError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, UserError):
                cause = cause.__cause__
            if cause is None:
                raise
            raise cause from None

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Loggers write into the run folder itself, `trainer.default_root_dir`."""
        config = cast(Any, self.config_init)[self.subcommand]
        if config.trainer.logger in (None, True):
            root = Path(config.trainer.default_root_dir or RUN_FOLDER)
            root.mkdir(parents=True, exist_ok=True)
            keep_earlier_metrics(root)
            loggers: list[Any] = [CSVLogger(root, name="", version="", flush_logs_every_n_steps=20)]
            if config.wandb != "disabled":
                loggers.append(WandbLogger(project="phd", save_dir=root, offline=config.wandb == "offline"))
            kwargs |= {"logger": loggers, "default_root_dir": str(root)}
        trainer = super().instantiate_trainer(**kwargs)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # Lightning's own, for one process and for DDP
            trainer.strategy.checkpoint_io = callbacks.AtomicCheckpointIO()
        return trainer


def last_checkpoint(config: Namespace, needed: bool) -> str | None:
    """What `--ckpt_path=last` means: the run folder's `checkpoints/last.ckpt`, or a new run where there is none yet.

    So the same command starts a job and, when the job is requeued, resumes it.

    Raises:
        UserError: There is none although it is needed, or the loggers decide where the checkpoints lie.
    """
    if config.trainer.logger not in (None, True):
        raise UserError(
            "--ckpt_path=last: trainer.logger decides where this run's checkpoints lie; name the file itself"
        )
    path = Path(config.trainer.default_root_dir or RUN_FOLDER) / "checkpoints" / "last.ckpt"
    if path.is_file():
        return str(path)
    if needed:
        raise UserError(f"--ckpt_path=last: {path} does not exist; name a checkpoint, or train first")
    rank_zero_info(f"--ckpt_path=last: no {path} yet, so the run starts at the beginning")
    return None


def check_checkpoint(path: Path, class_path: str) -> None:
    """Refuse a file that is no checkpoint of this stage before anything is built.

    Raises:
        UserError: It is missing, damaged, something else, or of another class.
    """
    if not path.is_file():
        raise UserError(f"--ckpt_path {path}: no such file; name a checkpoint, such as RUN/checkpoints/last.ckpt")
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise UserError(
            f"--ckpt_path {path}: not a checkpoint, or a damaged one ({type(error).__name__}); name another, or "
            f"start again"
        ) from error
    settings = values.get("hyper_parameters") if isinstance(values, dict) else None
    if not settings or "_class_path" not in settings or "pytorch-lightning_version" not in values:
        raise UserError(
            f"--ckpt_path {path}: not a checkpoint of `phd fit`; name one, such as RUN/checkpoints/last.ckpt"
        )
    if settings["_class_path"] != class_path:
        raise another_model(
            str(path), f"class_path: {class_path} asked for, {settings['_class_path']} in the checkpoint"
        )


def another_model(checkpoint: str, difference: str) -> UserError:
    """The refusal of a checkpoint."""
    return UserError(
        f"--ckpt_path {checkpoint}: it is a checkpoint of another model ({difference}); --ckpt_path only "
        f"resumes the same run. To start from an earlier student use --model.init_from=FOLDER"
    )


@rank_zero_only
def keep_earlier_metrics(root: Path) -> None:
    """Set the metrics of an earlier run in this folder aside; the CSV logger would delete them."""
    metrics = root / "metrics.csv"
    if metrics.exists():
        number = 1 + len(list(root.glob("metrics-*.csv")))
        metrics.rename(root / f"metrics-{number}.csv")


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
        parser_class=OneLineParser,
        args=arguments,
    )
