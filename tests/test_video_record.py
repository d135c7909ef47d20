import numpy as np
import pytest
from record_samples import changed, code, video_record

from datamodules import rle
from datamodules.video_record import (
    check_form,
    check_video,
    frame_extension,
    frame_extensions,
    video_problems,
    visible,
)
from phd.errors import UserError

GOOD = video_record()


def test_a_good_record_passes():
    check_video(GOOD, "here")
    without = {name: value for name, value in GOOD.items() if name not in ("void", "phrases")}
    check_video(without, "here")
    check_video({**without, "objects": [], "labelled": []}, "here")


def test_members_are_named_by_the_frame_in_the_source():
    assert frame_extension(12) == "000012.jpg"
    assert frame_extensions(GOOD) == ["000000.jpg", "000004.jpg", "000008.jpg"]


def test_visible():
    np.testing.assert_array_equal(visible(GOOD), [[True, True, False], [False, True, False]])
    assert visible({**GOOD, "objects": []}).shape == (0, 3)
    assert visible(GOOD).dtype == bool


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (None, 'has no "video"'),
        ({"image": {}, "annotations": []}, 'has no "video"'),
        (changed(GOOD, "video", "width", to=30.0), "no height and width"),
        (changed(GOOD, "video", "height", to=0), "no height and width"),
        (changed(GOOD, "frames", to=None), 'no list of "frames"'),
        (changed(GOOD, "labelled", to=[True]), "not whole numbers"),
        (changed(GOOD, "frames", 1, to=4.0), "not whole numbers"),
        (changed(GOOD, "objects", 0, "masks", to=None), 'an object has no list of "masks"'),
        (changed(GOOD, "objects", 0, "id", to=None), "an object has no id"),
        (changed(GOOD, "void", to=None), '"void" is no list'),
        (changed(GOOD, "phrases", 0, to="dog"), 'a phrase has no list of "objects"'),
        (changed(GOOD, "phrases", to=None), 'a phrase has no list of "objects"'),
    ],
)
def test_another_form(record, message):
    with pytest.raises(UserError, match=r"^here: ") as error:
        check_form(record, "here")
    assert message in str(error.value)


LARGER = rle.encode(np.ones((21, 30), dtype=np.uint8))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (changed(GOOD, "frames", to=[4, 4, 8]), '"frames" goes from 4 to 4'),
        (changed(GOOD, "frames", 0, to=-4), "a frame with the number -4"),
        (changed(GOOD, "labelled", to=[1, 0]), '"labelled" goes from 1 to 0'),
        (changed(GOOD, "labelled", to=[0, 1, 3]), '"labelled" names place 3 but there are 3 frames'),
        (changed(GOOD, "objects", 1, "id", to=7), "two objects have the id 7"),
        (
            changed(GOOD, "objects", 0, "masks", to=[code(0, 0), code(0, 0), None, code(0, 0)]),
            "object 7 has masks for 4 frames but the video has 3",
        ),
        (changed(GOOD, "objects", 0, "masks", to=[None]), "object 7 has masks for 1 frames but the video has 3"),
        (changed(GOOD, "objects", 1, "masks", 2, to=code(0, 0)), "object 9: frame 8 has a mask but is not labelled"),
        (changed(GOOD, "objects", 1, "masks", 1, to=LARGER), "object 9: frame 4: the RLE has size [21, 30]"),
        (changed(GOOD, "objects", 1, "masks", 1, to=code(0, 0, 0, 0)), "object 9: frame 4: its mask has no pixel"),
        (changed(GOOD, "void", 0, to=LARGER), "void: frame 0: the RLE has size [21, 30]"),
        (changed(GOOD, "void", to=[None]), "void has masks for 1 frames but the video has 3"),
        (changed(GOOD, "phrases", 1, "text", to=""), "phrase 2 has no text"),
        (changed(GOOD, "phrases", 0, "objects", to=[8]), "phrase 'dog' names object 8, which does not exist"),
        ({**GOOD, "frames": [], "labelled": [], "objects": [], "void": [], "phrases": []}, "has no frame"),
    ],
)
def test_one_thing_is_wrong(record, message):
    check_form(record, "here")
    problems = [str(problem) for problem in video_problems(record, "here")]
    assert len(problems) == 1
    assert message in problems[0]
    with pytest.raises(UserError) as error:
        check_video(record, "here")
    assert str(error.value) == problems[0]
