"""Which phrases are near, and what is known to be absent."""

import json

import numpy as np
import pytest
from negative_runs import options
from record_samples import concept_members, concept_record, phrase, write
from test_convert_coco_concepts import CATEGORIES, square
from test_convert_coco_concepts import run as convert_coco
from test_convert_coco_concepts import write as write_coco

from datamodules.concept_record import check_concept, is_negative
from datamodules.negatives import add_negatives
from datamodules.negatives_known import Vocabulary, unsure_keys
from datamodules.negatives_mine import marked
from datamodules.negatives_near import Nearness, Neighbour, head_of, implied, words_of
from datamodules.reader import ShardReader
from phd.errors import UserError


@pytest.mark.parametrize(
    ("text", "words", "head"),
    [
        ("The red rings", ("red", "ring"), "ring"),
        ("a bottle of water", ("bottle", "of", "water"), "bottle"),
        ("people with umbrellas", ("people", "with", "umbrella"), "people"),
        ("buses", ("buse",), "buse"),
        ("Boxes", ("box",), "box"),
        ("wine glass", ("wine", "glass"), "glass"),
        ("wine glasses", ("wine", "glass"), "glass"),
        ("polka-dot ties", ("polka-dot", "tie"), "tie"),
        ("teddies", ("teddy",), "teddy"),
        ("the", ("the",), "the"),
        ("犬", ("犬",), "犬"),
    ],
)
def test_words_and_head_nouns(text, words, head):
    if text != "polka-dot ties":
        assert words_of(text) == words
        assert head_of(words_of(text)) == head
    else:  # a guess that errs the same way every time is good enough
        assert words_of("polka-dot ty") == words_of(text)


def test_what_a_longer_phrase_implies():
    assert implied(words_of("ring"), words_of("red rings"))
    assert implied(words_of("red ring"), words_of("red striped ring"))
    assert implied(words_of("man"), words_of("man with a hat"))
    assert not implied(words_of("hat"), words_of("man with a hat"))
    assert not implied(words_of("dog"), words_of("dog house"))
    assert not implied(words_of("red striped ring"), words_of("red ring"))


RINGS = ["red ring", "a red ring", "blue ring", "ring", "red striped ring", "green striped ring", "the Rings"]
TEXTS = [*RINGS, "red star", "moon"]


def test_neighbours_by_hand():
    near = Nearness(TEXTS)
    assert near.near("red ring") == [
        Neighbour("blue ring", 0, "lexical: one word from 'red ring'"),
        Neighbour("red star", 0, "lexical: one word from 'red ring'"),
        Neighbour("red striped ring", 1, "lexical: the head noun of 'red ring'"),
        Neighbour("green striped ring", 1, "lexical: the head noun of 'red ring'"),
    ]
    assert near.near("moon") == []
    assert [item.text for item in near.near("green striped ring") if item.rank == 0] == ["red striped ring"]
    # What is only longer may be true or not; somebody has to verify it. What is shorter is true.
    assert {item.text for item in near.near("ring")} == set(RINGS) - {"ring", "the Rings"}
    assert {item.text for item in near.near("red striped ring")} == {"green striped ring", "blue ring"}


def test_supercategories_and_vectors():
    texts = ["dog", "cat", "hot dog", "pizza", "kitten"]
    groups = {"dog": "animal", "cat": "animal", "hot dog": "food", "pizza": "food"}
    near = Nearness(texts, groups)
    assert [(item.text, item.rank, item.origin) for item in near.near("dog")] == [
        ("hot dog", 1, "lexical: the head noun of 'dog'"),
        ("cat", 2, "supercategory: animal, as 'dog'"),
    ]
    vectors = np.eye(5, dtype=np.float32)
    vectors[4] = 0.6 * vectors[4] + 0.8 * vectors[1]
    found = Nearness(texts, groups, vectors).near("cat")
    assert found[0] == Neighbour("kitten", 1, "text encoder: 0.80 from 'cat'")
    assert "cat" not in {item.text for item in found}


def test_marks_only_what_is_certain():
    near = {"cat": Neighbour("cat", 1, "lexical: x"), "dog": Neighbour("dog", 1, "lexical: x")}
    absent = phrase("cat", [])
    assert marked({**absent, "origin": "drawn"}, near) == {**absent, "hard": True, "origin": "drawn; lexical: x"}
    assert marked(absent, near)["origin"] == "asked; lexical: x"
    unsure = {**absent, "answers": [{"instances": [], "exhaustive": False}]}
    found_by_one = phrase("dog", [], [4])
    hard = {**absent, "hard": True, "origin": "supercategory"}
    for same in (unsure, found_by_one, hard, phrase("horse", [])):
        assert marked(same, near) == same


def vocabulary_of(records, keys=(), **manifest):
    vocabulary = Vocabulary({"kind": "coco-concepts", "exhaustive": "all", **manifest}, keys)
    for record in records:
        vocabulary.add(record)
    return vocabulary


def record_with(present, absent=(), crowds=(), **image):
    annotations = [{"id": n, "category_id": number, "iscrowd": n in crowds} for n, number in enumerate(present)]
    answers = [(number, [n]) for n, number in enumerate(present) if n not in crowds]
    answers += [(number, []) for number in absent]
    phrases = [{**phrase(f"thing {number}", found), "id": number} for number, found in answers]
    return {"image": image, "annotations": annotations, "phrases": phrases}


def test_labels_of_coco():
    first, second = record_with([1, 2], crowds=[1]), record_with([2, 3], absent=[4])
    vocabulary = vocabulary_of([first, second])
    assert list(vocabulary.texts) == ["thing 1", "thing 2", "thing 3", "thing 4"]
    lacking = [text for text in vocabulary.texts if vocabulary.lacks(first, "a", text)]
    assert lacking == ["thing 3", "thing 4"]  # of category 2 there is a crowd
    assert not vocabulary_of([first, second], ["a"]).lacks(first, "a", "thing 3")  # something was left out
    smaller = {**first, "image": {"original_height": 99}}
    assert vocabulary.lacks(smaller, "a", "thing 3")
    assert not vocabulary_of([first, second], vanished=1).lacks(smaller, "a", "thing 3")
    assert not vocabulary_of([first, second], kind="lvis").lacks(first, "a", "thing 3")


def test_labels_of_a_mixed_file():
    coco, other = record_with([1], absent=[2], coco80_exhaustive=True), record_with([3], coco80_exhaustive=False)
    vocabulary = vocabulary_of([coco, other])
    assert not vocabulary.lacks(other, "o", "thing 1")  # nobody looked for it
    assert not vocabulary.lacks(coco, "c", "thing 3")  # known only from the other source
    assert vocabulary_of([coco, other, record_with([2], coco80_exhaustive=True)]).lacks(
        record_with([1], coco80_exhaustive=True), "d", "thing 2"
    )
    unsaid = record_with([1])
    assert vocabulary_of([coco, unsaid]).lacks(unsaid, "u", "thing 2")
    assert not vocabulary_of([coco, unsaid], exhaustive="listed").lacks(unsaid, "u", "thing 2")


def test_what_was_skipped_must_be_listed(tmp_path):
    assert unsure_keys(tmp_path, {"skipped": 0}) == set()
    with pytest.raises(UserError, match=r"skipped\.jsonl: cannot be read .* left 2 things out"):
        unsure_keys(tmp_path, {"skipped": 2})
    (tmp_path / "skipped.jsonl").write_text('{"key": "a", "problem": "x"}\n{"key": null, "problem": "y"}\n')
    assert unsure_keys(tmp_path, {"skipped": 2}) == {"a"}


NAMES = ["dog", "cat", "cow", "horse", "sheep", "pizza", "cake", "apple", "donut", "salad"]
NAMED = [{**category, "name": name} for category, name in zip(CATEGORIES, NAMES, strict=False)]


@pytest.mark.parametrize("named", [True, False], ids=["--categories", "the manifest"])
def test_coco_gets_absent_categories_of_the_same_supercategory(tmp_path, named):
    images = {f"{number}.jpg": {} for number in range(9)}
    annotations = [square(number, number, number) for number in range(1, 10)]
    annotations.append(square(10, 1, 2, iscrowd=1, segmentation={"size": [40, 60], "counts": [0, 100, 2300]}))
    raw = write_coco(tmp_path / "raw", images, annotations, NAMED)
    convert_coco(raw, tmp_path / "shards", negatives=0)
    categories = raw / "coco.json" if named else None  # the converter writes them into the manifest, too
    mined = add_negatives(options(tmp_path / "shards", tmp_path / "out", categories=categories, count=3))
    before, after = ShardReader(tmp_path / "shards"), ShardReader(tmp_path / "out")
    groups = {category["id"]: category.get("supercategory") for category in CATEGORIES}
    for number in range(9):
        old, new = before.record(number), after.record(number)
        assert new["phrases"][: len(old["phrases"])] == old["phrases"]
        assert after.member(number, "jpg") == before.member(number, "jpg")
        check_concept(new, 40, 60, "record")
        added = new["phrases"][len(old["phrases"]) :]
        shown = {item["category_id"] for item in old["annotations"]}
        assert not {item["id"] for item in added} & shown
        group = groups[number + 1]
        # Five animals and four kinds of food are in use; the first image has a crowd of another animal.
        assert len(added) == 3
        assert all(groups[item["id"]] == group and item["hard"] and is_negative(item) for item in added)
        assert all(item["origin"] == f"supercategory: {group}, as {NAMES[number]!r}" for item in added)
    # Of the crowd's category the image has no phrase, but it is there.
    assert (mined.added, mined.marked, mined.without, mined.unknown) == ({"supercategory": 27}, {}, 0, 1)
    assert mined.summary.negatives == after.manifest["negatives"] == 27
    assert after.manifest["kind"] == "coco-concepts"


def test_lvis_and_saco_get_marks_only(tmp_path):
    record = concept_record()
    record["phrases"] = [
        {**phrase("hot dog", [1, 2], [4])},
        {**phrase("corn dog", [], []), "origin": "neg_category_ids"},
        {**phrase("horse", [], [])},
    ]
    other = {**concept_record(), "phrases": [phrase("dog", [1, 2], [4]), phrase("prairie dog", [], [5])]}
    shards = write(tmp_path / "shards", {"a": concept_members(record), "b": concept_members(other)}, form="concept")
    mined = add_negatives(options(shards, tmp_path / "out"))
    first, second = (ShardReader(tmp_path / "out").record(number)["phrases"] for number in (0, 1))
    assert first[1]["hard"]
    assert first[1]["origin"] == "neg_category_ids; lexical: one word from 'hot dog'"
    assert first[2] == record["phrases"][2]
    assert second == other["phrases"]
    assert (mined.added, mined.marked, mined.without) == ({}, {"lexical": 1}, 1)
    # Of "prairie dog" in the first and of "hot dog" and "corn dog" in the second nobody knows; "dog" is implied.
    assert mined.unknown == 3


def test_what_another_true_phrase_implies_is_never_asked(tmp_path):
    first = {**concept_record(), "phrases": [phrase("striped star", [1], [4]), phrase("red striped ring", [2], [5])]}
    second = {**concept_record(), "phrases": [phrase("striped ring", [1], [4]), phrase("plain star", [2], [5])]}
    shards = write(tmp_path / "shards", {"a": concept_members(first), "b": concept_members(second)}, form="concept")
    asked = []

    def verify(_, true, candidates):
        asked.append((true, candidates))
        return [True] * len(candidates)

    add_negatives(options(shards, tmp_path / "out", verify="all"), verify=verify)
    # "striped ring" is one word from "striped star", but a "red striped ring" is one.
    assert asked[0] == (["striped star", "red striped ring"], ["plain star"])
    new = ShardReader(tmp_path / "out").record(0)["phrases"][-1]
    assert new == {
        "text": "plain star",
        "id": "plain star",
        "answers": 2 * [{"instances": [], "exhaustive": True}],
        "hard": True,
        "origin": "lexical: one word from 'striped star' (verified by all)",
    }


def test_supercategories_of_the_manifest(tmp_path):
    record = {**concept_record(), "phrases": [phrase("dog", [1], [4]), phrase("cat", [], []), phrase("bus", [], [])]}
    shards = write(
        tmp_path / "shards",
        {"a": concept_members(record)},
        form="concept",
        supercategories={"dog": "animal", "cat": "animal", "bus": "vehicle"},
    )
    add_negatives(options(shards, tmp_path / "out"))
    _, cat, bus = ShardReader(tmp_path / "out").record(0)["phrases"]
    assert (cat["hard"], cat["origin"]) == (True, "asked; supercategory: animal, as 'dog'")
    assert "hard" not in bus


def test_refusals(tmp_path):
    shards = write(tmp_path / "shards", {"a": concept_members(concept_record())}, form="concept")
    for wrong, message in (({"count": 0}, "--count is 0"), ({"threshold": 1.0}, "--threshold is 1.0")):
        with pytest.raises(UserError, match=message):
            add_negatives(options(shards, tmp_path / "out", **wrong))
    add_negatives(options(shards, tmp_path / "out"))
    with pytest.raises(UserError, match="has such negatives already"):
        add_negatives(options(tmp_path / "out", tmp_path / "again"))
    with pytest.raises(UserError, match="not an empty folder"):
        add_negatives(options(shards, tmp_path / "out"))
    images = write(tmp_path / "images", {"a": concept_members(concept_record())}, form="image")
    with pytest.raises(UserError, match="are of the form image; name shards of images with phrases"):
        add_negatives(options(images, tmp_path / "x"))
    (tmp_path / "bare.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    with pytest.raises(UserError, match=r"bare\.json"):
        add_negatives(options(shards, tmp_path / "x", categories=tmp_path / "bare.json"))
    assert not (tmp_path / "x").exists()
