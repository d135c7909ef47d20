"""What `phd track` writes: an overlay video, label maps and a JSON file, complete up to the last frame at any time."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from PIL import Image

from phd.errors import UserError
from phd.evaluate.video_folders import davis_palette
from phd.predict import Prediction, mask_box, to_json
from phd.video_predictor import TrackedImage
from phd.video_source import SourceFrame

# Where the source does not say how many frames it has a second.
USUAL_RATE = Fraction(24)


class OverlayVideo:
    """Writes an mp4: H.264 where PyAV's FFmpeg has it, else MPEG-4.

    The file has another name until it is closed, since an mp4 without its end cannot be played.

    Args:
        path: Of the mp4.
        rate: Frames a second.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.path, self._part = path, path.with_suffix(".partial.mp4")
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        # MPEG-4 has no more than 16 bits for the time base.
        self._rate = rate.limit_denominator(1001)
        self._container = av.open(str(self._part), "w")
        self._stream: Any = self._container.add_stream(codec, rate=self._rate)
        self._stream.pix_fmt = "yuv420p"
        self._count = 0

    def write(self, picture: np.ndarray) -> None:
        """Add a frame (H, W, 3) uint8 RGB; odd sides get a row or column more, since the format has none."""
        height, width = picture.shape[:2]
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if not self._count:
            self._stream.height, self._stream.width = even.shape[:2]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        frame.pts, frame.time_base = self._count, 1 / self._rate
        self._container.mux(self._stream.encode(frame))
        self._count += 1

    def close(self) -> None:
        """Finish the file."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._part.replace(self.path)


def require_new(folder: Path) -> None:
    """Check that nothing would be mixed with earlier results.

    Raises:
        UserError: The folder holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: --out needs a new or an empty folder; name another one, or remove it")


class TrackFolder:
    """The folder of results; it is made with the first frame, and complete when the block ends, however it ends.

    Args:
        folder: New or empty.
        about: What the JSON says first; read when the block ends.
        rate: Frames a second of the overlay; None for the usual.
    """

    def __init__(self, folder: Path, about: dict[str, Any], rate: Fraction | None) -> None:
        self.folder, self.about = folder, about
        self.frames: list[dict[str, Any]] = []
        self._rate = rate or USUAL_RATE
        self._overlay: OverlayVideo | None = None
        self._palette = davis_palette()

    def __enter__(self) -> Self:
        return self

    def write(self, frame: SourceFrame, tracked: TrackedImage, labels: np.ndarray, picture: np.ndarray) -> None:
        """Add a frame.

        Args:
            frame: Of the source.
            tracked: What was found in it.
            labels: (H, W) uint8, the object of each pixel.
            picture: (H, W, 3) uint8 RGB for the overlay.

        Raises:
            UserError: The disk is full, or the folder cannot be written.
        """
        try:
            if self._overlay is None:
                (self.folder / "masks").mkdir(parents=True)
                self._overlay = OverlayVideo(self.folder / "overlay.mp4", self._rate)
            image = Image.fromarray(labels)
            image.putpalette(self._palette)
            image.save(self.folder / "masks" / f"{frame.name}.png")
            self._overlay.write(picture)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        self.frames.append({"frame": frame.number, "name": frame.name, "objects": _rows(tracked)})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._overlay is None:
            return
        record = {**self.about, "num_frames": len(self.frames), "frames": self.frames}
        part = self.folder / "tracks.json.partial"
        try:
            part.write_text(json.dumps(record, indent=1) + "\n")
            part.replace(self.folder / "tracks.json")
            self._overlay.close()
        except OSError as problem:
            raise _unwritable(self.folder, problem) from problem


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(f"{folder}: cannot be written ({error.strerror}); give another --out")


def _rows(tracked: TrackedImage) -> list[dict[str, Any]]:
    rows = []
    for place, number in enumerate(tracked.ids):
        mask = tracked.masks[place]
        found = Prediction(mask, tracked.scores[place], tracked.logits[place], mask_box(mask), int(mask.sum()))
        rows.append({**to_json(found, id=number), "presence": tracked.present[place]})
    return rows
