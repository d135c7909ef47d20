"""Around the reading of every converter: a limit of pixels, errors of the disk, a smaller size."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from datamodules.convert.kind import Converted, Form, Source
from datamodules.convert.raw import TooManyPixels, check_pixels, too_many_pixels
from datamodules.convert.resize import resized
from phd.errors import UserError


def guarded(
    read: Callable[[Source], Converted], form: Form, options: argparse.Namespace, name: Callable[[Source], str]
) -> Callable[[Source], Converted]:
    """Read a source so that whatever is wrong with it is a UserError about it.

    Converters check the pixels of an image before they decode it; whichever does not is caught here, afterwards.
    """

    def read_one(source: Source) -> Converted:
        try:
            sample = read(source)
            for data in sample.members.values():
                check_pixels(data, name(source), options.max_pixels)
        except TooManyPixels as error:
            raise too_many_pixels(name(source), options.max_pixels) from error
        except OSError as error:
            where = error.filename or name(source)
            raise UserError(f"{where}: cannot be read ({error.strerror or error}); check the file") from error
        return resized(sample, form, options.resize) if options.resize else sample

    return read_one
