"""A stage of a few hundred parameters, for the tests of the callbacks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger
from safetensors.torch import save_model
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from phd.batches import ImageBatch
from phd.contract import Contract, ImageFeatures, Level, Prompts
from phd.outputs import MaskPrediction, StepOutput

CONTRACT = Contract(
    family="sam2",
    image_size=16,
    resize="pad",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    tracker=(Level(4, 8), Level(4, 4)),
    detector=(),
    trunk=(),
    mask_size=8,
)


class TinyLearner(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.trunk = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
            self.heads = nn.ModuleDict({"decoder": nn.Conv2d(4, 1, 1), "scale": nn.BatchNorm2d(1)})

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.trunk(images.float() / 255)
        return fine, nn.functional.avg_pool2d(fine, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.heads["scale"](self.heads["decoder"](self.encode(images)[0]))[:, 0]

    def save(self, folder: Path, **provenance: object) -> None:
        folder.mkdir()
        save_model(self, str(folder / "model.safetensors"))
        (folder / "config.json").write_text(json.dumps(provenance))


class TinyStage(L.LightningModule):
    """One prompt per image; the prompt kind and its masks are settings of the test."""

    def __init__(self, teacher: bool = True, seed: int = 0) -> None:
        super().__init__()
        self.learner = TinyLearner(seed)
        self.contract = CONTRACT
        self.teachers = [TinyLearner(seed + 1).eval()] if teacher else []

    def step(self, batch: ImageBatch) -> StepOutput:
        logits = self.learner(batch.images)
        prompts = Prompts(
            image_index=torch.arange(len(batch)), boxes=torch.tensor([[2.0, 2.0, 10.0, 8.0]] * len(batch))
        )
        target = batch.masks[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, target.float())
        output = StepOutput(loss, {"mask": loss}, len(batch), content=batch.content)
        output.student_features = ImageFeatures({"tracker": self.learner.encode(batch.images)})
        teacher = None
        if self.teachers:
            with torch.no_grad():
                teacher = self.teachers[0](batch.images)
                output.teacher_features = ImageFeatures({"tracker": self.teachers[0].encode(batch.images)})
        output.masks = {"box": MaskPrediction(prompts, logits.detach(), teacher, target)}
        return output

    def training_step(self, batch: ImageBatch, batch_idx: int) -> dict:
        output = self.step(batch)
        self.log("train/loss", output.loss, batch_size=len(batch))
        return {"loss": output.loss, "output": replace(output, loss=output.loss.detach())}

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> dict:
        output = self.step(batch)
        return {"loss": output.loss, "output": output}

    def test_step(self, batch: ImageBatch, batch_idx: int) -> dict:
        return self.validation_step(batch, batch_idx)

    def configure_optimizers(self) -> dict:
        parameters = [p for p in self.learner.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=0.05)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step / 4))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class TinyBatches(Dataset):
    """Batches of two images with one instance each; the second image fills the upper half of its canvas."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> ImageBatch:
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=generator)
        masks = (images[:, :1, ::2, ::2] > 127).to(torch.uint8)
        content = torch.tensor([[16, 16], [8, 16]])
        return ImageBatch(images, content, masks, torch.ones(2, 1, dtype=torch.bool), [f"a{index}", f"b{index}"])


def loader(count: int, seed: int = 0) -> DataLoader:
    return DataLoader(TinyBatches(count, seed), batch_size=None)


def trainer(folder: Path, *callbacks: L.Callback, **settings: object) -> L.Trainer:
    defaults = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "logger": CSVLogger(folder, name="", version=""),
        "callbacks": list(callbacks),
        "enable_checkpointing": any(isinstance(c, L.pytorch.callbacks.ModelCheckpoint) for c in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }
    return L.Trainer(**{**defaults, **settings})
