"""Images with phrases: a batch of rectangles, scenes of the embedded world as shards, and a stage to train on them."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from raw_samples import annotation
from record_samples import phrase, write

from datamodules.shapes import numbered_scene, render
from datamodules.shapes.textures import PALETTE
from phd.batches import ConceptBatch
from phd.contract import Contract
from phd.stages import ConceptFinetune
from phd.student import Student
from phd.teachers import Teacher

SIDE = 64


def rectangles(contract: Contract, counts: tuple[tuple[int, ...], ...] = ((2, 0), (1, 0))) -> ConceptBatch:
    """Noise in which bright rectangles lie; so many instances of each phrase of each image.

    Phrases recur from image to image; the last one of the batch is not exhaustive.
    """
    side, cells = contract.image_size, contract.mask_size
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 90, (len(counts), 3, side, side), generator=generator).to(torch.uint8)
    flat = [count for image in counts for count in image]
    scale, masks, boxes = side // cells, torch.zeros(sum(flat), cells, cells, dtype=torch.uint8), []
    place = 0
    for number, image in enumerate(counts):
        for kind, count in enumerate(image):
            for item in range(count):
                top, left, height, width = 2 + 9 * item, 3 + 5 * kind + 2 * number, 7, 9 + 2 * number
                masks[place, top : top + height, left : left + width] = 1
                low, high = (left * scale, top * scale), ((left + width) * scale, (top + height) * scale)
                images[number, kind, low[1] : high[1], low[0] : high[0]] = 220
                boxes.append([*low, *high])
                place += 1
    exhaustive = torch.ones(len(flat), dtype=torch.bool)
    exhaustive[-1:] = False
    return ConceptBatch(
        images=images,
        content=torch.full((len(counts), 2), side),
        phrases=[("red ring", "blue star", "green heart")[kind] for image in counts for kind in range(len(image))],
        image_index=torch.repeat_interleave(torch.tensor([len(image) for image in counts], dtype=torch.long)),
        exhaustive=exhaustive,
        hard=torch.zeros(len(flat), dtype=torch.bool),
        phrase_index=torch.repeat_interleave(torch.tensor(flat, dtype=torch.long)),
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        masks=masks,
        keys=[f"image{number}" for number in range(len(counts))],
    )


def images_of(batch: ConceptBatch, first: int, last: int) -> ConceptBatch:
    """Images [first, last) of a batch with their phrases and instances."""
    pairs = (batch.image_index >= first) & (batch.image_index < last)
    instances = pairs[batch.phrase_index]
    number = pairs.cumsum(0) - 1
    return replace(
        batch,
        images=batch.images[first:last],
        content=batch.content[first:last],
        phrases=[text for text, kept in zip(batch.phrases, pairs.tolist(), strict=True) if kept],
        image_index=batch.image_index[pairs] - first,
        exhaustive=batch.exhaustive[pairs],
        hard=batch.hard[pairs],
        phrase_index=number[batch.phrase_index[instances]],
        boxes=batch.boxes[instances],
        masks=batch.masks[instances],
        keys=batch.keys[first:last],
    )


def student_with_text(teacher: Teacher, folder: Path | None = None) -> Student:
    """A student that reads phrases as its teacher does; saved where a folder is given."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student = Student.create("efficientvit_b0", teacher, pretrained=False, text="teacher")
    if folder is not None:
        student.save(folder, stage="none")
    return student


def stage_of(student: Path | str = "", teacher: Path | str = "", seen: int = 0, **settings: Any) -> ConceptFinetune:
    """A stage outside a trainer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stage = ConceptFinetune(init_from=str(student), teacher=str(teacher), **settings)
    loop = SimpleNamespace(total_batch_idx=seen - 1)
    stage.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_step=0, estimated_stepping_batches=10, global_rank=0, fit_loop=loop
    )
    stage.on_train_start()
    return stage


def scene_members(seed: int, index: int, negatives: int = 3) -> dict[str, bytes]:
    """A scene of the embedded world, its things asked at a drawn level of detail, and phrases of none of them."""
    scene, height, width = numbered_scene(seed, index)
    image, masks = render(scene, height, width)
    rng = np.random.default_rng([seed, index, 1])
    true = [thing.phrases() for thing in scene.things]
    names = list(dict.fromkeys(words[int(rng.integers(3))] for words in true))
    phrases = [phrase(name, [n for n, words in enumerate(true) if name in words]) for name in names]
    shown = {name for words in true for name in words}
    others = [f"{colour} {words[0]}" for words in true for colour in PALETTE]
    absent = [name for name in dict.fromkeys(others) if name not in shown]
    phrases += [phrase(absent[i], []) for i in rng.permutation(len(absent))[:negatives]]
    record = {
        "image": {"file_name": f"{index}.jpg", "height": height, "width": width},
        "annotations": [annotation(number, mask) for number, mask in enumerate(masks.astype(np.uint8))],
        "phrases": phrases,
    }
    jpg = io.BytesIO()
    Image.fromarray(image).save(jpg, format="JPEG", quality=92)
    return {"jpg": jpg.getvalue(), "json": json.dumps(record).encode()}


def concept_shards(root: Path, images: int = 8, seed: int = 3, **settings: int) -> Path:
    """Shards of such scenes."""
    return write(root, {f"s{n}": scene_members(seed, n, **settings) for n in range(images)}, form="concept")
