import numpy as np
import pytest
from PIL import Image
from raw_samples import annotation, image_bytes
from record_samples import (
    HEIGHT,
    WIDTH,
    changed,
    code,
    concept_members,
    concept_record,
    mask,
    phrase,
    video_members,
    video_record,
    write,
)

from datamodules import rle
from datamodules.shards import to_json
from phd import draw
from phd.commands.shards_preview import COLOURS, FRAMES, GAP, LINES, TILE, phrase_lines, preview, spread, with_masks
from phd.errors import UserError

STEP = TILE + 2 * GAP  # width of a cell


def pixels(path):
    return np.array(Image.open(path)).astype(int)


def shows(picture, colour, tolerance=40):
    return bool((np.abs(picture - np.array(colour)).max(axis=-1) <= tolerance).any())


def first_colours(picture):
    """Which of the first colours of masks a part of the sheet shows."""
    return {number for number in range(4) if shows(picture, COLOURS[number])}


def image_members(*annotations, colour=(90, 90, 90)):
    jpg = image_bytes(np.full((HEIGHT, WIDTH, 3), colour, dtype=np.uint8))
    record = {"image": {"height": HEIGHT, "width": WIDTH}, "annotations": list(annotations)}
    return {"jpg": jpg, "json": to_json(record)}


def test_masks_lie_where_they_belong():
    image = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    picture = with_masks(image, [(code(2, 3), (200, 0, 0)), (code(10, 20), (0, 200, 0))], HEIGHT, WIDTH, "here")
    painted = mask(2, 3).astype(bool), mask(10, 20).astype(bool)
    assert (picture[painted[0]][:, 0] > 0).all()
    assert (picture[painted[1]][:, 1] > 0).all()
    assert (picture[~painted[0] & ~painted[1]] == 0).all()


def test_large_pictures_are_made_small_and_small_masks_stay_on_top():
    image = np.zeros((1000, 2 * TILE, 3), dtype=np.uint8)
    small, large = np.zeros((2, 1000, 2 * TILE), dtype=np.uint8)
    large[:], small[100:300, 100:300] = 1, 1

    picture = with_masks(
        image, [(rle.encode(small), (0, 0, 250)), (rle.encode(large), (250, 0, 0))], 1000, 2 * TILE, ""
    )
    assert picture.shape == (TILE, round(2 * TILE * TILE / 1000), 3)
    row, column = round(200 * TILE / 1000), round(200 * TILE / 1000)
    assert picture[row, column].tolist() == [62, 0, 125]  # half blue over half red
    with pytest.raises(UserError, match="here: the RLE has size"):
        with_masks(image, [(code(0, 0), (0, 0, 0))], 1000, 2 * TILE, "here")


def test_images(tmp_path):
    two = image_members(annotation(1, mask(0, 0)), annotation(2, mask(10, 10)))
    root = write(tmp_path / "shards", {f"s{number}": two for number in range(7)})
    assert preview(root, tmp_path / "sheet.png", samples=5, seed=0) == 5
    sheet = pixels(tmp_path / "sheet.png")
    assert sheet.shape[1] == 4 * STEP
    rows = np.split(sheet, 2)
    for cell in (rows[0][:, :STEP], rows[0][:, 3 * STEP :], rows[1][:, :STEP]):
        assert first_colours(cell) == {0, 1}
    assert (rows[1][:, STEP:] == 255).all()  # the fifth stands alone in its row
    assert preview(root, tmp_path / "all.png", samples=100, seed=0) == 7


def test_the_seed_chooses(tmp_path):
    colours = [(250 * (number % 2), 120 * (number % 3), 60 * (number % 5)) for number in range(30)]
    root = write(tmp_path / "shards", {f"s{n}": image_members(colour=colour) for n, colour in enumerate(colours)})
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        preview(root, tmp_path / f"{name}.png", samples=3, seed=seed)
    a, b, c = (pixels(tmp_path / f"{name}.png") for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    for samples, seed, setting in ((0, 0, "--samples is 0"), (1, -1, "--seed is -1")):
        with pytest.raises(UserError, match=setting):
            preview(root, tmp_path / "no.png", samples, seed)
    assert not (tmp_path / "no.png").exists()


def test_phrases_with_their_colours():
    record = changed(concept_record(), "phrases", 1, "answers", 0, "exhaustive", to=False)
    record["phrases"].insert(0, phrase("cow", [], []))
    assert phrase_lines(record) == [
        ("dog (3 / 1)", draw.POSITIVE_COLOUR),
        ("cat (0 / 1, perhaps more)", draw.POSITIVE_COLOUR),
        ("horse (hard negative)", draw.NEGATIVE_COLOUR),
        ("cow (negative)", draw.NEGATIVE_COLOUR),
    ]
    many = {"phrases": [phrase(str(number), []) for number in range(LINES + 4)]}
    lines = phrase_lines(many)
    assert len(lines) == LINES
    assert lines[-1][0] == "and 5 more"
    assert len(phrase_lines({"phrases": many["phrases"][:LINES]})) == LINES


def test_concepts(tmp_path):
    root = write(tmp_path / "shards", {"a": concept_members(concept_record())}, form="concept")
    preview(root, tmp_path / "sheet.png", samples=4, seed=0)
    below = pixels(tmp_path / "sheet.png")[TILE + 3 * GAP :]
    assert shows(below, draw.POSITIVE_COLOUR, 60)
    assert shows(below, draw.NEGATIVE_COLOUR, 60)


def test_spread_over_time():
    assert spread([3, 7, 9], 5) == [3, 7, 9]
    assert spread(list(range(0, 100, 10)), 4) == [0, 30, 60, 90]
    assert spread([4], 5) == [4]


@pytest.mark.parametrize("images", [True, False])
def test_videos(tmp_path, images):
    members = video_members(video_record())
    if not images:
        members = {"json": members["json"]}
    samples = dict.fromkeys(("v", "w"), members)
    root = write(tmp_path / "shards", samples, form="video", images=images)
    preview(root, tmp_path / "sheet.png", samples=4, seed=0)
    sheet = pixels(tmp_path / "sheet.png")
    assert FRAMES > 2  # the two labelled frames of each
    assert sheet.shape[1] == 2 * (TILE + GAP) + GAP
    first, second = sheet[:, : TILE + GAP], sheet[:, TILE + GAP :]
    assert first_colours(first) == {0}
    assert first_colours(second) == {0, 1}
    assert [first_colours(row) for row in np.split(sheet, 2)] == [{0, 1}, {0, 1}]
