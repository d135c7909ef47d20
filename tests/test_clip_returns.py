"""Clips that are chosen for objects that come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fake_segmenter import make_contract
from moving_videos import moving, reading

from datamodules.clip_frames import returns
from datamodules.clip_transform import ClipChoice, ClipExample, ClipTransform
from phd.errors import UserError

FRAMES, AWAY = 24, range(8, 12)


@pytest.mark.parametrize(
    ("areas", "expected"),
    [
        ([1, 1, 0, 0, 1, 1], 1.0),  # away, and back in the second half
        ([1, 0, 1, 1, 1, 1], 0.0),  # back too early
        ([1, 1, 0, 1, 1, 1], 1.0),  # back in frame 3, the first of the second half
        ([1, 1, 1, 0.2, 0.9, 1], 0.5),  # mostly hidden
        ([1, 1, 1, 0.3, 0.9, 1], 0.0),  # not hidden enough
        ([1, 1, 1, 0, 0.3, 0.3], 0.0),  # too little comes back
        ([0.1, 1, 1, 0, 1, 1], 0.0),  # hardly seen where it is prompted
        ([1, 1, 0, 1, 0, 1], 1.5),  # twice: no more than 1.5
        ([1, 1, 1, 1, 1, 0], 0.0),
    ],
)
def test_returns_by_hand(areas: list[float], expected: float) -> None:
    assert returns(np.array([areas, np.ones(6)])).tolist() == [expected, 0.0]


def leaving() -> tuple[dict[str, Any], dict[str, bytes]]:
    """Two objects, of which the second is away for four frames."""
    record, members = moving(FRAMES)
    for frame in AWAY:
        record["objects"][1]["masks"][frame] = None
    return record, members


def clips(**choice: Any) -> list[ClipExample]:
    record, members = leaving()
    transform = ClipTransform(make_contract(), None, ClipChoice(max_objects=1, min_area_cells=1, **choice))
    return [transform(record, reading(members), "v", epoch, 8) for epoch in range(40)]


def comes_back(clip: ClipExample) -> bool:
    areas = clip.masks[:, 0].flatten(1).sum(1).numpy().astype(float)
    return bool(returns((areas / max(areas.max(), 1))[None])[0] > 0)


def test_objects_come_back_more_often_where_that_is_asked() -> None:
    """Of one object each: by chance in a third of the clips (0.35), in half of the others too (0.68), in all (1.0)."""
    shares = {share: np.mean([comes_back(clip) for clip in clips(returning=share)]) for share in (0.0, 0.5, 1.0)}
    assert shares[0.0] < 0.5
    assert shares[0.0] + 0.2 < shares[0.5] < 0.8
    assert shares[1.0] > 0.9


def test_nothing_else_changes_without_it() -> None:
    for one, other in zip(clips(), clips(returning=0.0), strict=True):
        assert one.numbers.tolist() == other.numbers.tolist()
        assert one.masks.equal(other.masks)


def test_a_video_without_objects_and_a_wrong_share() -> None:
    record, members = leaving()
    record["objects"] = []
    transform = ClipTransform(make_contract(), None, ClipChoice(returning=1.0))
    assert not transform(record, reading(members), "v", 0, 8).valid.any()
    with pytest.raises(UserError, match=r"data.returning is 1.5"):
        ClipTransform(make_contract(), None, ClipChoice(returning=1.5))


def test_damage_is_named() -> None:
    record, members = leaving()
    record["objects"][0]["masks"][5]["counts"] = "0"
    transform = ClipTransform(make_contract(), None, ClipChoice(returning=1.0))
    with pytest.raises(UserError, match=r"clip 3: object 1: frame 20: "):
        transform(record, reading(members), "v", 0, 8, where="clip 3")
