"""Stage 3's data: images with noun phrases, positive and negative, and the instances of each."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from datamodules.augmentation import Augmentation
from datamodules.base import ShardDataModule
from datamodules.concept_transform import ConceptExample, ConceptTransform
from datamodules.convert.summary import NO_NEGATIVE
from datamodules.phrase_choice import Annotator, PhraseChoice
from phd.batches import ConceptBatch
from phd.contract import Contract


def collate(examples: list[ConceptExample]) -> ConceptBatch:
    """Join examples: the phrases of the first image first, the instances in the order of their phrases."""
    counts = torch.tensor([count for example in examples for count in example.counts], dtype=torch.int64)
    phrases = torch.tensor([len(example.phrases) for example in examples])
    return ConceptBatch(
        images=torch.stack([example.image for example in examples]),
        content=torch.stack([example.content for example in examples]),
        phrases=[text for example in examples for text in example.phrases],
        image_index=torch.repeat_interleave(torch.arange(len(examples)), phrases),
        exhaustive=torch.tensor([value for example in examples for value in example.exhaustive], dtype=torch.bool),
        hard=torch.tensor([value for example in examples for value in example.hard], dtype=torch.bool),
        phrase_index=torch.repeat_interleave(torch.arange(len(counts)), counts),
        boxes=torch.cat([example.boxes for example in examples]),
        masks=torch.cat([example.masks for example in examples]),
        keys=[example.key for example in examples],
    )


class Concepts(ShardDataModule):
    """Batches of images, each asked several noun phrases.

    See `datamodules.concept_transform.ConceptTransform` for what a crop does to phrases.

    Args:
        root: See `ShardDataModule`, as for every setting that is not explained here.
        val_root: See there.
        val_samples: See there.
        batch_size: Images in a batch of one process.
        num_workers: See there.
        max_positives: Phrases with instances per image; chosen at random for training, the first ones for validation.
        max_negatives: Phrases without instances per image, chosen likewise.
        hard_negative_share: Share of the negatives that are mined hard ones, as far as there are any of either kind.
        max_instances: Instances of a phrase; one that has more is no longer exhaustive.
        annotator: Whose answer counts in training where there are several, as in SA-Co/Gold: the "first" one's, or one
            "drawn" for each phrase and epoch. In validation it is the first one's.
        augmentation: What to vary in training, or None.
        zoom: Show a square around one instance in training, its side between these two, in longest sides of the
            instance; None for the crops of `augmentation`. What is small is learnt sooner when it is seen large.
        mask_scale: How many times finer than the contract's the grid of the masks is in training; the model's logits
            are enlarged to it before they are compared.
        max_shards: See there.
        max_samples: See there.
        samples: See there.
        seed: See there.
        contract: See there.
    """

    forms = ("concept",)
    needs = "images with noun phrases (a category alone does not say what the image lacks)"
    least: ClassVar = {
        **ShardDataModule.least,
        "max_positives": 1,
        "max_negatives": 0,
        "max_instances": 1,
        "mask_scale": 1,
    }

    def __init__(
        self,
        root: str,
        val_root: str | None = None,
        val_samples: int = 64,
        batch_size: int = 4,
        num_workers: int = 0,
        max_positives: int = 8,
        max_negatives: int = 16,
        hard_negative_share: float = 0.5,
        max_instances: int = 64,
        annotator: Annotator = "first",
        augmentation: Augmentation | None = None,
        zoom: tuple[float, float] | None = None,
        mask_scale: int = 1,
        max_shards: int | None = None,
        max_samples: int | None = None,
        samples: int | None = None,
        seed: int = 0,
        contract: Contract | None = None,
    ) -> None:
        super().__init__(
            root, val_root, val_samples, batch_size, num_workers, max_shards, max_samples, samples, seed, contract
        )
        self.max_positives, self.max_negatives = max_positives, max_negatives
        self.hard_negative_share, self.max_instances = hard_negative_share, max_instances
        self.annotator: Annotator = annotator
        self.augmentation, self.zoom, self.mask_scale = augmentation, zoom, mask_scale

    def transform(self, contract: Contract, train: bool) -> ConceptTransform:
        """Varied in training only."""
        choice = PhraseChoice(
            self.max_positives, self.max_negatives, self.hard_negative_share, self.max_instances, self.annotator
        )
        settings = {"seed": self.seed, "train": train, "zoom": self.zoom}
        if train:  # metrics compare masks on the contract's grid
            settings |= {"augmentation": self.augmentation, "mask_scale": self.mask_scale}
        return ConceptTransform(contract, choice=choice, **settings)

    def doubts(self, manifest: dict[str, Any]) -> list[str]:
        """Whether there is any negative, by the counts of the conversion."""
        return [NO_NEGATIVE] if manifest.get("negatives") == 0 else []

    def collate(self, train: bool) -> Any:
        """Joins."""
        return collate
