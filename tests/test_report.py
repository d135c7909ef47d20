"""The report's tables and film strips hold the numbers and pictures that they are given."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from moving_videos import HEIGHT, WIDTH, square
from PIL import Image

from datamodules import rle
from phd.outputs import LabelledVideo
from phd.report import write_report
from phd.report.images import image_table
from phd.report.page import share
from phd.report.videos import COLUMNS, TILE, video_section, video_table


def evaluation(j: float, f: float, fps: float | None, tokens: int = 32) -> dict:
    return {
        **{"j": j, "f": f, "jf": (j + f) / 2, "fps": fps, "memory_tokens": tokens},
        **{
            "num_videos": 2,
            "num_objects": 5,
            "protocol": "sav",
            "protocol_details": {"j": "<overlap>"},
            "prompt": "mask",
        },
    }


def cells(table: str) -> list[list[str]]:
    return [re.split("<t[dh]>", row)[1:] for row in re.findall("<tr>(.*?)</tr>", table)]


def test_the_teacher_is_the_whole() -> None:
    after = {**evaluation(0.4, 0.5, 20.0), "teacher": evaluation(0.8, 0.7, 8.0, tokens=256)}
    text = video_table(evaluation(0.2, 0.1, 10.0, tokens=256), evaluation(0.0, 0.0, None), after)
    rows = cells(text)
    assert rows[0][4:] == ["of the teacher&#x27;s", "memory tokens per frame", "frames/s, of the teacher&#x27;s"]
    assert rows[1][1:] == ["0.800", "0.700", "0.750", "100%", "256", "100%"]
    assert rows[2][1:] == ["0.200", "0.100", "0.150", "20%", "256", "125%"]
    assert rows[3][1:] == ["0.000", "0.000", "0.000", "0%", "32", "-"]
    assert rows[4][1:] == ["0.400", "0.500", "0.450", "60%", "32", "250%"]
    assert "2 clips" in text
    assert "8.0 frames a second" in text
    assert "&lt;overlap&gt;" in text  # what stands in a file is text, not HTML


def test_a_share_of_nothing_is_not_known() -> None:
    assert [share(1.0, 0.0), share(None, 1.0), share(0.5, None), share(0.0, 2.0)] == ["-", "-", "-", "0%"]


def test_images_beside_the_teacher() -> None:
    def found(value: float) -> dict:
        rows = dict.fromkeys(("box_miou", "click1_miou", "click3_miou", "click5_miou"), value)
        return {**rows, "num_images": 3, "num_instances": 9, "protocol": {}}

    rows = cells(image_table(found(0.1), {**found(0.6), "teacher": found(0.8)}))
    assert rows[1] == ["from a box", "0.800", "0.100", "0.600", "75.0%"]
    assert len(rows) == 5


def test_the_page_holds_the_sections_in_order(tmp_path: Path) -> None:
    page = write_report(tmp_path, ["<p>first", "<p>second"])
    assert page == tmp_path / "report.html"
    assert re.search("<h1>.*<p>first\n<p>second", page.read_text(), re.DOTALL)


@pytest.mark.slow
def test_a_film_strip_of_teacher_and_student(tmp_path: Path, toy_folder: Path, student_folder: Path) -> None:
    """Ten frames; the square is gone in 4 to 6, so the strip shows one of these."""
    masks = [None if 4 <= place <= 6 else rle.encode(square(place)) for place in range(10)]
    grey = np.full((HEIGHT, WIDTH, 3), 120, dtype=np.uint8)
    names = [f"{4 * place:05d}" for place in range(10)]
    video = LabelledVideo("clip", HEIGHT, WIDTH, names, list(range(10)), [1], [masks], [None] * 10, lambda place: grey)
    paths = {"student": str(student_folder)}
    for name in ("dense", "before", "after"):
        paths[name] = str(tmp_path / f"{name}.json")
        Path(paths[name]).write_text(json.dumps({**evaluation(0.1, 0.2, 5.0), "teacher": evaluation(0.3, 0.4, 2.0)}))
    section = video_section(paths, [video], str(toy_folder))
    assert "clip; objects: 1, times that one is hidden or leaves and comes back: 1" in section
    (data,) = re.findall('src="data:image/png;base64,([^"]+)"', section)
    strip = Image.open(io.BytesIO(base64.b64decode(data)))
    # A row for the truth, the teacher and the student; captions and gaps are less than a quarter of a tile.
    assert (strip.size[0] // TILE, strip.size[1] // TILE) == (COLUMNS, 3)
    columns = [np.asarray(strip)[4 : 4 + TILE, 4 + (TILE + 4) * place :][:, :TILE] for place in range(COLUMNS)]
    coloured = [bool((tile.max(axis=2).astype(int) - tile.min(axis=2) > 60).any()) for tile in columns]
    assert [place for place, colour in enumerate(coloured) if not colour] == [3, 4, 5]  # of frames 0 1 3 4 5 6 8 9
