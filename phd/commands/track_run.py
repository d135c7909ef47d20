"""What `phd track` and `phd detect` on a video share: a session over the frames of a source, written into a folder."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from phd.commands.track_output import TrackFolder
from phd.errors import UserError
from phd.video_source import SourceFrame, VideoSource

COORDINATES = (
    "x, y in pixels of the video, a whole number is the centre of a pixel; boxes x0 y0 x1 y1 with x1 and y1 exclusive; "
    "rle is COCO's compressed run-length encoding"
)
FPS = (0.1, 1000.0)
OVERLAP = "masks of objects may overlap here; in masks/ a pixel of several objects belongs to that with the best logit"


class FrameSession(Protocol):
    """Takes frames and writes answers."""

    def run(self, frames: Iterable[SourceFrame], folder: TrackFolder) -> None:
        """All frames; a `UserError` where the source breaks off."""
        ...

    def summary(self) -> dict[str, Any]:
        """What is known when it ends, however it ends."""
        ...


def run_session(
    session: FrameSession,
    frames: Iterable[SourceFrame],
    source: VideoSource,
    out: Path,
    options: argparse.Namespace,
    doing: str,
    about: dict[str, Any],
) -> TrackFolder:
    """Run a session to the end of the source, to a user's interrupt or to an error, and keep what was done.

    Args:
        session: Of the command.
        frames: Those of the source, as far as they are asked for.
        source: Where they come from.
        out: New or empty folder.
        options: The command line, with source, model, max_frames and fps.
        doing: What the progress bar says.
        about: What the JSON says besides.

    Raises:
        UserError: The source breaks off, or not one frame came.
    """
    from rich.console import Console
    from rich.progress import track

    rate = source.rate if options.fps is None else Fraction(options.fps).limit_denominator(1001)
    told = {
        "source": options.source,
        "model": options.model,
        "coordinates": COORDINATES,
        "overlap": OVERLAP,
        "fps": None if rate is None else float(rate),
        **about,
        "stopped": None,
    }
    total = None if source.numbers is None else len(source.numbers[: options.max_frames])
    shown = track(frames, doing, total=total, console=Console(stderr=True), transient=True)
    with TrackFolder(out, told, rate) as folder:
        try:
            session.run(shown, folder)
        except KeyboardInterrupt:  # the usual end of a camera
            folder.about["stopped"] = "by the user"
        except UserError as error:
            kept = f"; the {len(folder.frames)} frames before it are in {out}" if folder.frames else ""
            folder.about["stopped"] = str(error)
            raise UserError(f"{error}{kept}") from error
        finally:
            folder.about |= session.summary()
    if not folder.frames:
        raise UserError(f"{source.name}: was stopped before its first frame; nothing was written")
    return folder


def check_limits(options: argparse.Namespace) -> None:
    """Check max_frames and fps, before anything is loaded.

    Raises:
        UserError: No frame may be read, or a rate is asked for that no video can have.
    """
    if options.max_frames is not None and options.max_frames < 1:
        raise UserError(f"--max-frames is {options.max_frames}; give at least 1")
    if options.fps is not None and not FPS[0] <= options.fps <= FPS[1]:
        raise UserError(f"--fps is {options.fps:g}; give {FPS[0]:g} to {FPS[1]:g}")
