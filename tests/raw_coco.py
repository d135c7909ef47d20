"""Small COCO files with their images, for the tests of the data path."""

import json

import numpy as np
from PIL import Image
from raw_samples import image_bytes, rectangle


def write_coco(folder, images, annotations, categories=None):
    """`images` maps file names to bytes."""
    listed = []
    for number, (name, data) in enumerate(images.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        listed.append({"id": 100 + number, "file_name": name, "height": 40, "width": 60})
    content = {"images": listed, "annotations": annotations}
    if categories is not None:
        content["categories"] = categories
    path = folder / "coco.json"
    path.write_text(json.dumps(content))
    return path


def pixels(seed=0, height=40, width=60):
    small = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width, height)))


def lying(orientation):
    """A photo stored lying on its side, with a note how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return image_bytes(pixels(height=60, width=40), exif=exif)


JPG = image_bytes(pixels())
SQUARE = rectangle(40, 60, 10, 20, 8, 16)
