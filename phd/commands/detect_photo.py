"""`phd detect` on one photograph."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from phd.commands.device import checked_device
from phd.commands.json_file import write_json
from phd.errors import UserError


def run_photo(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Detect, write an overlay and a JSON, and say what was found of each phrase; returns the JSON."""
    positive, negative = options.exemplar or [], options.negative_exemplar or []
    if not options.phrases and not positive:
        raise UserError('no phrase: give one, such as "red car", or --exemplar X0 Y0 X1 Y1')

    from phd.draw import save_png
    from phd.draw_detections import overlay_detections
    from phd.loading import load_segmenter
    from phd.predict import ImagePredictor
    from phd.predict_concepts import coco_result
    from phd.preprocess import read_image

    device, photo = checked_device(options.device), Path(options.source)
    image = read_image(photo)
    predictor = ImagePredictor(load_segmenter(options.model, options.image_size), device)
    predictor.set_image(image)
    phrases, labels = list(dict.fromkeys(options.phrases)), [1] * len(positive) + [0] * len(negative)
    answers = predictor.answer(phrases, [*positive, *negative], labels, options.threshold, options.nms)
    found = [detection for answer in answers for detection in answer.detections]
    out = options.out or photo.with_name(f"{photo.stem}_detect")
    picture, record = Path(f"{out}.png"), Path(f"{out}.json")
    names = [f"{detection.phrase} {detection.score:.2f}" for detection in found]
    save_png(overlay_detections(image, [d.mask for d in found], [d.box for d in found], names), picture)
    order = {answer.phrase: number for number, answer in enumerate(answers, 1)}
    image_id = 1 if options.image_id is None else options.image_id
    results = [coco_result(detection, image_id, order[detection.phrase]) for detection in found]
    write_json(record, results)
    for answer in answers:
        scores = [detection.score for detection in answer.detections]
        told = f", scores {scores[0]:.2f} to {scores[-1]:.2f}" if scores else ""
        print(f"{answer.phrase}: {len(scores)} found{told}; presence {answer.presence:.2f}")
    print(f"{picture} and {record}")
    return results
