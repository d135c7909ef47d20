"""The account of what students cost, at SAM 3's full size."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from test_backbones import PAPER_PARAMETERS
from transformers import Sam3ImageProcessor, Sam3VideoConfig

from phd.student.account import TEXTS, StudentRow, print_table, students_table
from phd.teachers.sam3 import sam3_contract

PYRAMID = [[256, 288, 288], [256, 144, 144], [256, 72, 72]]


def measure(names: list[str] | None) -> list[StudentRow]:
    config = Sam3VideoConfig()
    return students_table(sam3_contract(config, Sam3ImageProcessor()), config.to_dict(), names)


def test_a_row() -> None:
    (row,) = measure(["efficientvit_b0"])
    assert row["name"] == "efficientvit_b0"
    assert row["trunk_params"] == 682_608
    assert row["total_params"] == row["trunk_params"] + row["neck_params"] + row["heads_params"]
    # The tracker has 11.7 M parameters, the detector's parts 32.6 M.
    assert row["heads_params"] == pytest.approx(44.4e6, rel=0.01)
    assert row["trunk_gmacs"] == pytest.approx(1.86, abs=0.01)
    assert 0 < row["neck_gmacs"] <= 15
    assert 0 < row["heads_gmacs"] < 10
    # Of EfficientSAM3's list, beside the teacher's 353.2 M; a projection to 256 channels comes on top of each.
    published = {"teacher": 353.2, "mobileclip_s0": 42.4, "mobileclip_s1": 63.4, "mobileclip2_l": 123.6}
    assert set(TEXTS) == set(published)
    for kind, millions in published.items():
        assert row["text_params"][kind] == pytest.approx(1e6 * millions, abs=0.25e6)
        assert row["full_params"][kind] == row["total_params"] + row["text_params"][kind]
    assert row["levels"] == {"tracker": PYRAMID, "detector": PYRAMID}


@pytest.mark.slow
def test_the_nine() -> None:
    rows = measure(None)
    assert {row["name"]: round(row["trunk_params"] / 1e6, 2) for row in rows} == PAPER_PARAMETERS
    assert all(row["neck_gmacs"] <= 15 for row in rows)
    assert all(isinstance(row["total_params"], int) for row in rows)
    assert len({size for row in rows for size in row["full_params"].values()}) == 9 * 4


def test_printed_in_millions() -> None:
    row = StudentRow(
        name="efficientvit_b0",
        trunk_params=682_608,
        neck_params=1_588_864,
        heads_params=44_356_280,
        total_params=46_627_752,
        text_params={"teacher": 353_200_384, "mobileclip_s0": 42_549_504},
        full_params={"teacher": 399_828_136, "mobileclip_s0": 89_177_256},
        trunk_gmacs=1.8637,
        neck_gmacs=10.0255,
        heads_gmacs=3.3266,
        levels={},
    )
    screen = io.StringIO()
    print_table([row], Console(file=screen, width=100))
    lines = [line for line in screen.getvalue().splitlines() if "efficientvit_b0" in line]
    cells, full = ([cell.strip() for cell in line.split("│")[2:-1]] for line in lines)
    assert cells == ["0.68", "1.59", "44.36", "46.63", "1.86", "10.03", "3.33"]
    assert full == ["399.83", "89.18"]
    assert "Without a text encoder, which joins in stage 3" in screen.getvalue()
    assert "353.20" in screen.getvalue()
