import numpy as np
import pytest
from PIL import Image

from phd import draw
from phd.errors import UserError

GREY = 100


def grey(height=40, width=60):
    return np.full((height, width, 3), GREY, dtype=np.uint8)


def block():
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:20, 30:50] = True
    return mask


def test_mask_is_blended_inside_its_contour():
    picture = np.array(draw.overlay(grey(), block(), colour=(200, 0, 0), opacity=0.5))
    assert picture[15, 40].tolist() == [150, 50, 50]
    for y, x in ((10, 40), (19, 40), (15, 30), (15, 49)):
        assert picture[y, x].tolist() == [200, 0, 0]
    assert (picture[~block()] == GREY).all()


def test_the_image_itself_is_left_alone():
    image = grey()
    draw.overlay(image, block(), box=(1, 1, 5, 5), points=[(3, 3)])
    assert (image == GREY).all()
    assert (np.array(draw.overlay(image)) == GREY).all()


def test_a_mask_at_the_edge_has_its_contour_there():
    picture = np.array(draw.overlay(grey(), np.ones((40, 60), dtype=bool), colour=(9, 9, 9)))
    assert (picture[[0, -1]] == 9).all()
    assert (picture[:, [0, -1]] == 9).all()


def test_box_is_drawn_on_its_last_pixels():
    picture = np.array(draw.overlay(grey(), box=(30, 10, 50, 20)))
    drawn = (picture == draw.BOX_COLOUR).all(axis=2)
    rows, columns = np.nonzero(drawn)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 19, 30, 49)
    assert not drawn[15, 40]
    draw.overlay(grey(), box=(5.2, 5.2, 5.6, 5.6))  # thinner than a pixel is still drawn


def test_points_by_label():
    picture = np.array(draw.overlay(grey(), points=[(10, 5), (50, 30)], labels=[1, 0]))
    assert picture[5, 10].tolist() == list(draw.POSITIVE_COLOUR)
    assert picture[30, 50].tolist() == list(draw.NEGATIVE_COLOUR)
    with pytest.raises(ValueError, match="argument"):
        draw.overlay(grey(), points=[(10, 5), (50, 30)], labels=[1])


def test_panel_places_tiles_by_row_and_column():
    red, green, blue = (np.full((10, 20, 3), colour, dtype=np.uint8) for colour in np.eye(3) * 255)
    sheet = np.array(draw.panel([[(red, "a"), (Image.fromarray(green), "b")], [(blue, "c")]], tile_size=40, gap=4))
    assert sheet.shape[1] == 2 * 44 + 4
    step = (sheet.shape[0] - 4) // 2
    assert sheet[24, 24].tolist() == [255, 0, 0]
    assert sheet[24, 24 + 44].tolist() == [0, 255, 0]
    assert sheet[24 + step, 24].tolist() == [0, 0, 255]
    assert sheet[24 + step, 24 + 44].tolist() == [255, 255, 255]
    # Twice as wide as high: grey above and below, and the caption in black below the tile.
    assert sheet[6, 24].tolist() == [235, 235, 235]
    assert sheet[44 : 4 + step, 4:44].min() < 100


def test_long_captions_stay_within_their_tile():
    tile = (np.zeros((8, 8, 3), dtype=np.uint8), "a very long caption that does not fit " * 3)
    alone, beside = draw.panel([[tile]], tile_size=60), draw.panel([[tile, (tile[0], "")]], tile_size=60)
    gap_and_next = np.array(beside)[68:, 70:]
    assert (gap_and_next == 255).all()
    assert alone.size[0] == 60 + 16


def test_an_empty_panel_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        draw.panel([])


def test_save_png_makes_the_folder(tmp_path):
    path = tmp_path / "new" / "mask.png"
    draw.save_png(grey(), path)
    np.testing.assert_array_equal(np.array(Image.open(path)), grey())
    with pytest.raises(UserError, match=r"mask\.png"):
        draw.save_png(grey(), path / "below_a_file.png")
