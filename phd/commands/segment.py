"""`phd segment`: one photograph, one object."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from phd.commands.device import checked_device
from phd.commands.image_size import add_image_size
from phd.errors import UserError


def run(arguments: list[str]) -> None:
    """Parse, predict, and write an overlay and a JSON."""
    parser = argparse.ArgumentParser(
        prog="phd segment",
        description="Segment one object of a photograph. Writes PHOTO_segment.png and PHOTO_segment.json.",
    )
    parser.add_argument("photo", type=Path, help="image file")
    parser.add_argument("--model", required=True, help="student or teacher: a folder, a hub id, or toy-teacher")
    parser.add_argument("--box", type=float, nargs=4, metavar=("X0", "Y0", "X1", "Y1"), help="in pixels of the photo")
    for option, meaning in (("--point", "a point on the object"), ("--negative", "a point that is not on it")):
        parser.add_argument(option, type=float, nargs=2, action="append", default=[], metavar=("X", "Y"), help=meaning)
    parser.add_argument("--out", type=Path, default=None, help="where to write, without suffix")
    add_image_size(parser)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args(arguments)
    if options.box is None and not options.point:
        raise UserError("no prompt: give --box X0 Y0 X1 Y1 or --point X Y")

    from phd.draw import overlay, save_png
    from phd.loading import load_segmenter
    from phd.predict import ImagePredictor, to_json
    from phd.preprocess import read_image

    device = checked_device(options.device)
    image = read_image(options.photo)
    points = [*options.point, *options.negative]
    labels = [1] * len(options.point) + [0] * len(options.negative)
    predictor = ImagePredictor(load_segmenter(options.model, options.image_size), device)
    predictor.set_image(image)
    prediction = predictor.segment(options.box, points or None, labels or None)
    out = options.out or options.photo.with_name(f"{options.photo.stem}_segment")
    picture, record = Path(f"{out}.png"), Path(f"{out}.json")
    save_png(overlay(image, prediction.mask, options.box, points or None, labels or None), picture)
    context = {"image": str(options.photo), "model": options.model, "box_prompt": options.box}
    answer = to_json(prediction, **context, points=points, labels=labels)
    record.write_text(json.dumps(answer, indent=1) + "\n")
    print(f"score {prediction.score:.3f}, {prediction.area} pixels, box {prediction.box}: {picture} and {record}")
