"""What is wrong with one sample, and what it holds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from datamodules.concept_record import concept_problems, is_negative
from datamodules.reader import form_check
from datamodules.record import check_annotation, check_size, decode_rgb, jpeg_size
from datamodules.video_record import frame_extensions, video_problems
from phd.errors import UserError

Read = Callable[[str], bytes]


class SampleCheck:
    """Checks samples of one form.

    Args:
        form: "image", "concept" or "video".
        images: Whether videos come with their frames.
        max_pixels: Of an image, by its header.
    """

    def __init__(self, form: str, images: bool, max_pixels: int) -> None:
        self.form, self.images, self.max_pixels = form, images, max_pixels
        self.check_form = form_check(form)

    def __call__(self, extensions: Sequence[str], read: Read) -> tuple[list[str], Counter[str]]:
        """Problems of a sample, and how many of what it holds.

        Args:
            extensions: Its members in the order of the tar.
            read: Gives the bytes of a member.
        """
        if "json" not in extensions or (self.form != "video" and sorted(extensions) != ["jpg", "json"]):
            return [f"has the members {sorted(extensions)}, not {self._wanted()}"], Counter()
        try:
            record = json.loads(read("json"))
            self.check_form(record, "its JSON")
        except (ValueError, RecursionError) as error:
            return [f"its JSON cannot be parsed ({error})"], Counter()
        except UserError as error:
            return [str(error)], Counter()
        problems = self._video if self.form == "video" else self._image
        return [str(problem) for problem in problems(record, extensions, read)], _counts(record, self.form)

    def _wanted(self) -> str:
        if self.form != "video":
            return "jpg and json"
        return "json and its frames" if self.images else "json"

    def _image(self, record: dict[str, Any], extensions: Sequence[str], read: Read) -> Iterator[UserError]:
        try:
            height, width = self._decoded_size(read("jpg"), "its image")
            check_size(record, height, width, "its image")
        except UserError as error:
            yield error
            return
        if self.form == "concept":
            yield from concept_problems(record, height, width, "its JSON")
            return
        for annotation in record["annotations"]:
            try:
                check_annotation(annotation, height, width, "its JSON")
            except UserError as error:
                yield error

    def _video(self, record: dict[str, Any], extensions: Sequence[str], read: Read) -> Iterator[UserError]:
        yield from video_problems(record, "its JSON")
        stored = [name for name in extensions if name != "json"]
        wanted = frame_extensions(record) if self.images else []
        for name in sorted(set(wanted) - set(stored)):
            yield UserError(f"lacks the frame {name}")
        for name in sorted(set(stored) - set(wanted)):
            yield UserError(f"has the member {name}, which is no frame of its JSON")
        if sorted(stored) == sorted(wanted) and stored != wanted:
            yield UserError("its frames are not in the order of its JSON")
        wanted_height, wanted_width = record["video"]["height"], record["video"]["width"]
        for name in stored:
            try:
                height, width = self._decoded_size(read(name), name)
            except UserError as error:
                yield error
                continue
            if (height, width) != (wanted_height, wanted_width):
                yield UserError(
                    f"{name}: is {height} x {width} pixels (height x width), the video {wanted_height} x {wanted_width}"
                )

    def _decoded_size(self, data: bytes, where: str) -> tuple[int, int]:
        """Height and width of an image, in pixels, after it was decoded."""
        height, width = jpeg_size(data) or (0, 0)
        if height * width > self.max_pixels:
            raise UserError(
                f"{where}: has {width} x {height} pixels, more than {self.max_pixels}; allow more with --max-pixels"
            )
        _, height, width = decode_rgb(data, where).shape
        return height, width


def _counts(record: dict[str, Any], form: str) -> Counter[str]:
    """The same counts as a conversion writes into the manifest."""
    if form == "video":
        masks = sum(mask is not None for item in record["objects"] for mask in item["masks"])
        return Counter(frames=len(record["frames"]), objects=len(record["objects"]), masks=masks)
    crowds = sum(bool(annotation.get("iscrowd")) for annotation in record["annotations"])
    counts = Counter(masks=len(record["annotations"]) - crowds, crowds=crowds)
    if form == "concept":
        counts.update(phrases=len(record["phrases"]), negatives=sum(map(is_negative, record["phrases"])))
    return counts
