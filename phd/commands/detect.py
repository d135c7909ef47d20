"""`phd detect`: every instance of noun phrases in one photograph."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

from phd.commands.device import checked_device
from phd.errors import UserError

CORNERS = ("X0", "Y0", "X1", "Y1")


def run(arguments: list[str]) -> None:
    """Parse, detect, and write an overlay and a JSON."""
    parser = argparse.ArgumentParser(
        prog="phd detect",
        description=(
            "Find every instance of noun phrases in a photograph. Writes PHOTO_detect.png, with names and scores, and "
            "PHOTO_detect.json, in COCO's results format."
        ),
    )
    parser.add_argument("photo", type=Path, help="image file")
    parser.add_argument("phrases", nargs="*", help='noun phrases, such as "red car"; none with --exemplar alone')
    parser.add_argument("--model", required=True, help="student or teacher: a folder, a hub id, or toy-teacher")
    for option, meaning in (
        ("--exemplar", "box of an instance"),
        ("--negative-exemplar", "box of what is no instance"),
    ):
        parser.add_argument(
            option, type=float, nargs=4, action="append", default=[], metavar=CORNERS, help=f"{meaning}, in pixels"
        )
    parser.add_argument("--threshold", type=float, default=0.5, help="keep scores above it (%(default)s)")
    parser.add_argument("--nms", type=float, default=None, help="suppress masks that overlap a better one by this IoU")
    parser.add_argument("--image-id", type=int, default=1, help="image_id in the JSON (%(default)s)")
    parser.add_argument("--out", type=Path, default=None, help="where to write, without suffix")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_intermixed_args(arguments)  # phrases may follow an option
    if not options.phrases and not options.exemplar:
        raise UserError('no phrase: give one, such as "red car", or --exemplar X0 Y0 X1 Y1')

    from phd.draw import save_png
    from phd.draw_detections import overlay_detections
    from phd.loading import load_segmenter
    from phd.predict import ImagePredictor
    from phd.predict_concepts import coco_result
    from phd.preprocess import read_image

    device = checked_device(options.device)
    image = read_image(options.photo)
    predictor = ImagePredictor(load_segmenter(options.model), device)
    boxes = [*options.exemplar, *options.negative_exemplar]
    labels = [1] * len(options.exemplar) + [0] * len(options.negative_exemplar)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        predictor.set_image(image)
        found = predictor.detect(options.phrases, boxes, labels, options.threshold, options.nms)
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            print(f"warning: {warning.message}", file=sys.stderr)
    out = options.out or options.photo.with_name(f"{options.photo.stem}_detect")
    picture, record = Path(f"{out}.png"), Path(f"{out}.json")
    names = [f"{detection.phrase} {detection.score:.2f}" for detection in found]
    drawn = overlay_detections(image, [d.mask for d in found], [d.box for d in found], names)
    save_png(drawn, picture)
    order = {phrase: number + 1 for number, phrase in enumerate(dict.fromkeys(options.phrases))}
    results = [coco_result(d, options.image_id, order.get(d.phrase, 1)) for d in found]
    record.write_text(json.dumps(results, indent=1) + "\n")
    for phrase in order or {found[0].phrase if found else "exemplar": 1}:
        scores = [detection.score for detection in found if detection.phrase == phrase]
        print(f"{phrase}: {len(scores)} found" + (f", scores {scores[0]:.2f} to {scores[-1]:.2f}" if scores else ""))
    print(f"{picture} and {record}")
