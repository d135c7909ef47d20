import pytest
from converted import SHARED
from PIL import Image
from record_samples import HEIGHT, WIDTH, changed, concept_record, phrase

from datamodules.concept_record import (
    check_concept,
    check_form,
    concept_problems,
    negatives,
    num_annotators,
    phrase_instances,
    positives,
)
from datamodules.record import MOST_PIXELS, decode_rgb, instances, jpeg_size
from phd.errors import UserError

GOOD = concept_record()


def texts(phrases):
    return [item["text"] for item in phrases]


def ids(annotations):
    return [item["id"] for item in annotations]


def test_a_good_record_passes():
    check_form(GOOD, "here")
    check_concept(GOOD, HEIGHT, WIDTH, "here")
    no_phrases = {**GOOD, "phrases": []}
    check_concept(no_phrases, HEIGHT, WIDTH, "here")
    assert num_annotators(no_phrases) == 1


def test_who_says_what():
    assert num_annotators(GOOD) == 2
    assert texts(positives(GOOD)) == ["dog"]
    assert texts(positives(GOOD, annotator=1)) == ["dog", "cat"]
    assert texts(negatives(GOOD)) == ["horse"]  # one annotator sees a cat


def test_instances_of_a_phrase_are_in_the_order_of_the_answer_without_crowds():
    dog = phrase("dog", [2, 3, 1], [4])
    assert ids(phrase_instances(GOOD, dog)) == [2, 1]
    assert ids(phrase_instances(GOOD, dog, annotator=1)) == [4]
    assert phrase_instances(GOOD, phrase("horse", [])) == []


def test_stage_1_reads_single_objects_of_the_first_annotator():
    assert ids(instances(GOOD)) == [1, 2]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], 'has no "image" and "annotations"'),
        ({"image": {}, "annotations": []}, 'has no list of "phrases"'),
        (changed(GOOD, "phrases", to={}), 'has no list of "phrases"'),
        (changed(GOOD, "phrases", 0, to="dog"), 'a phrase has no "text"'),
        (changed(GOOD, "phrases", 0, "text", to=None), 'a phrase has no "text"'),
        (changed(GOOD, "phrases", 0, "answers", to=[]), 'no "answers"'),
        (changed(GOOD, "phrases", 0, "answers", 1, to=[4]), "phrase 'dog': an answer has no list of \"instances\""),
        (changed(GOOD, "phrases", 0, "answers", 1, "instances", to=[[4]]), "phrase 'dog': an answer has no list"),
        (changed(GOOD, "annotations", 0, "id", to=[1]), "an annotation has no id"),
    ],
)
def test_another_form(record, message):
    with pytest.raises(UserError, match=r"^here: ") as error:
        check_form(record, "here")
    assert message in str(error.value)
    with pytest.raises(UserError, match=r"^here: "):
        check_concept(record, HEIGHT, WIDTH, "here")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (changed(GOOD, "image", "width", to=31), "the image is 20 x 30"),
        (changed(GOOD, "annotations", 1, "segmentation", "size", to=[30, 20]), "annotation 2: the RLE has size"),
        (changed(GOOD, "annotations", 1, "id", to=1), "two annotations have the id 1"),
        (changed(GOOD, "annotations", 1, "id", to=12), "phrase 'dog': answer 0 names annotation 2, which does not"),
        (changed(GOOD, "annotations", 3, "annotator", to=0), "'dog': answer 1 names annotation 4 of annotator 0"),
        (changed(GOOD, "phrases", 2, "text", to=" "), "phrase horse has no text"),
        (changed(GOOD, "phrases", 2, to={"text": "horse", "answers": [{"instances": [], "exhaustive": True}] * 2}),
         "phrase 'horse' has no id"),
        (changed(GOOD, "phrases", 2, to=phrase("horse", [])), "phrase 'horse' has 1 answers but others have 2"),
        (changed(GOOD, "phrases", 1, "answers", 0, "exhaustive", to=1), "phrase 'cat': answer 0 does not say whether"),
        (changed(GOOD, "phrases", 1, "answers", 1, "instances", to=[5, 5]), "phrase 'cat': answer 1 names an annot"),
    ],
)  # fmt: skip
def test_one_thing_is_wrong(record, message):
    check_form(record, "here")
    problems = [str(problem) for problem in concept_problems(record, HEIGHT, WIDTH, "here")]
    assert message in problems[0]
    with pytest.raises(UserError) as error:
        check_concept(record, HEIGHT, WIDTH, "here")
    assert str(error.value) == problems[0]


def test_all_problems_are_listed():
    record = changed(changed(GOOD, "phrases", 0, "text", to=""), "annotations", 4, "segmentation", to=None)
    problems = [str(problem) for problem in concept_problems(record, HEIGHT, WIDTH, "here")]
    assert [problem.split(": ")[1][:12] for problem in problems] == ["annotation 5", "phrase dog h"]


def jpeg_header(height: int, width: int, marker: int = 0xC0) -> bytes:
    """Start of image, an application segment, a quantisation table as filler, start of frame."""
    sizes = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    app, filler = b"\xff\xe0\x00\x04ab", b"\xff\xff\xdb\x00\x03\x00"
    return b"\xff\xd8" + app + filler + bytes([0xFF, marker]) + b"\x00\x11\x08" + sizes + b"\x03" + bytes(9)


def test_size_from_the_header():
    assert jpeg_size(jpeg_header(20, 3000)) == (20, 3000)
    assert jpeg_size(jpeg_header(20, 3000, marker=0xC2)) == (20, 3000)  # progressive
    assert jpeg_size(jpeg_header(20, 3000, marker=0xC4)) is None  # a Huffman table
    for data in (b"", b"\xff\xd8", b"\x89PNG\r\n", jpeg_header(20, 3000)[:18]):
        assert jpeg_size(data) is None


def test_size_from_the_header_of_photographs():
    paths = sorted((SHARED / "images").glob("*.jpg"))
    if not paths:
        pytest.skip("no real photographs; set PHD_SHARED to the folder that holds data/images")
    for path in paths:
        with Image.open(path) as image:
            assert jpeg_size(path.read_bytes()) == (image.height, image.width)


def test_a_bomb_is_not_decoded():
    assert MOST_PIXELS < 65000 * 65000
    with pytest.raises(UserError, match="here: the image claims to have 65000 x 65000 pixels"):
        decode_rgb(jpeg_header(65000, 65000), "here")
