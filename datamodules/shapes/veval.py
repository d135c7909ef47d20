"""The moving world in the raw format of SA-Co/VEval: YT-VIS-like JSON with noun phrases, beside JPEG frames.

Frames are every fourth of 24 a second, as in the part of VEval that is made of SA-V. Every phrase that the world knows
is a category, with the same number for every seed. Source of the format: the VEval data card of SAM 3,
https://github.com/facebookresearch/sam3, scripts/eval/veval.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules import rle
from datamodules.shapes.clip import SECONDS, Clip, Occlusion, numbered_clip
from datamodules.shapes.phrases import all_texts
from datamodules.shapes.questions import Asking, Question, ask
from datamodules.shapes.sight import sight
from datamodules.shapes.writing import check_order, check_seconds, jpeg, numbered, write_text

ANNOTATIONS = "saco_veval_shapes_test.json"
FRAMES = "JPEGImages_6fps"

_STREAM = 61  # keeps these draws apart from those of clips

# Of one video: its entry, its annotations and its pairs, all still without ids.
Entries = tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]


def write_veval(
    out: Path,
    samples: int,
    seed: int,
    workers: int = 1,
    asking: Asking | None = None,
    seconds: tuple[float, float] = SECONDS,
    occlusion: Occlusion = "any",
) -> None:
    """Write clips 0 to `samples - 1` of the world `seed` with phrases; they are those of SA-V's format.

    Args:
        out: A folder that does not exist or is empty.
        samples: Number of clips.
        seed: Number of the world.
        workers: Processes that render; the files do not depend on it.
        asking: How many phrases are drawn.
        seconds: Shortest and longest duration.
        occlusion: "long" hides one object of each clip for at least half of it.

    Raises:
        UserError: `out` is a file or holds something, or a number is out of range.
    """
    asking = asking or Asking()
    asking.check()
    check_seconds(seconds)
    check_order(out, samples, seed, workers)
    categories = {text: number for number, text in enumerate(all_texts(), 1)}
    info = {"version": "v1", "description": f"The embedded world in motion, seed {seed}"}
    content: dict[str, Any] = {"info": info, "videos": [], "annotations": []}
    content["categories"] = [{"id": number, "name": text} for text, number in categories.items()]
    content["video_np_pairs"] = []
    write = partial(_write_one, out, seed, asking, seconds, occlusion, categories)
    for index, entries in enumerate(numbered(write, samples, workers, "rendering clips", chunksize=1)):
        video, *lists = entries
        content["videos"].append({"id": index, **video})
        for name, items in zip(("annotations", "video_np_pairs"), lists, strict=True):
            first = len(content[name]) + 1
            content[name] += [{"id": first + place, **item, "video_id": index} for place, item in enumerate(items)]
    write_text(out / ANNOTATIONS, json.dumps(content))


def video_questions(rng: np.random.Generator, clip: Clip, masks: NDArray[np.bool_], asking: Asking) -> list[Question]:
    """Draw the phrases that are asked about a clip; numbers in their answers are places in `clip.objects`.

    An object is annotated if it is clear in one frame. There is no word here for a phrase that is not exhaustive, so
    that what is true of an object that is seen but never clear is not asked.

    Args:
        rng: The only source of randomness.
        clip: What there is.
        masks: The visible pixels of each object in each annotated frame `(annotated, objects, height, width)`.
        asking: How many are drawn.
    """
    identities = [clip.scene.things[number].identity for number in clip.objects]
    clear, seen = np.zeros((2, len(identities)), dtype=bool)
    for frame, shown in zip(clip.annotated, masks, strict=True):
        poses = [clip.poses[frame][number] for number in clip.objects]
        now_clear, now_seen = sight(identities, poses, shown)
        clear, seen = clear | now_clear, seen | now_seen
    return [question for question in ask(rng, identities, clear.tolist(), seen.tolist(), asking) if question.exhaustive]


def veval_entries(
    name: str, clip: Clip, masks: NDArray[np.bool_], questions: list[Question], categories: dict[str, int]
) -> Entries:
    """Describe a video as VEval does, but for the ids; boxes are (x, y, width, height) in pixels.

    Args:
        name: Of the video.
        clip: What there is.
        masks: As for `video_questions`.
        questions: What is asked.
        categories: Phrase -> number.
    """
    files = [f"{name}/{number:05d}.jpg" for number in clip.annotated]
    sides = {"height": clip.height, "width": clip.width}
    video = {"video_name": name, "file_names": files, **sides, "length": len(files)}
    annotations: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    masklets = {number: _masklet(masks[:, number]) for question in questions for number in question.things}
    for question in questions:
        asked = {"category_id": categories[question.text], "noun_phrase": question.text}
        annotations += [{**masklets[number], "iscrowd": 0, **sides, **asked} for number in question.things]
        pairs.append({**asked, "num_masklets": len(question.things)})
    return video, annotations, pairs


def _masklet(masks: NDArray[np.bool_]) -> dict[str, Any]:
    """An object through a video; null in frames in which it cannot be seen."""
    codes = [rle.encode(mask) if mask.any() else None for mask in masks]
    return {
        "segmentations": codes,
        "bboxes": [code and [float(value) for value in rle.bounding_box(code)] for code in codes],
        "areas": [float(mask.sum()) if code else None for mask, code in zip(masks, codes, strict=True)],
    }


def _write_one(
    out: Path,
    seed: int,
    asking: Asking,
    seconds: tuple[float, float],
    occlusion: Occlusion,
    categories: dict[str, int],
    index: int,
) -> Entries:
    """Write the frames of a clip; its entries are for the file that holds those of all clips."""
    clip = numbered_clip(seed, index, seconds, occlusion)
    name = f"shapes_{index + 1:06d}"
    folder = out / FRAMES / name
    folder.mkdir(parents=True)
    masks: list[NDArray[np.bool_]] = []
    for frame, (image, shown) in zip(clip.annotated, clip.pictures(clip.stride), strict=True):
        (folder / f"{frame:05d}.jpg").write_bytes(jpeg(image))
        masks.append(shown)
    shown = np.stack(masks)
    questions = video_questions(np.random.default_rng([seed, index, _STREAM]), clip, shown, asking)
    return veval_entries(name, clip, shown, questions, categories)
