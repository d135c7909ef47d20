"""Phrases of the embedded world: words, meanings, and which are asked about a scene."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from asked_scenes import NAME_OF, TABLES, clear_and_seen, meaning, missing
from shape_scenes import thing

from datamodules.shapes.asked import asked_scene
from datamodules.shapes.phrases import Concept, all_concepts, all_texts, concept_at
from datamodules.shapes.questions import Asking, ask
from datamodules.shapes.vocabulary import SYNONYMS, WORDS
from phd.errors import UserError
from phd.text.words import IDS

SCENES = 60


@pytest.fixture(scope="module")
def scenes():
    return [asked_scene(11, index, crowd=0.5) for index in range(SCENES)]


def test_every_word_has_one_meaning_and_an_id_of_its_own():
    assert list(WORDS) == sorted(set(WORDS))
    assert set(SYNONYMS) == {name for table in TABLES.values() for name in table}
    assert len(NAME_OF) == len(WORDS) == sum(1 + len(words) for words in SYNONYMS.values())
    assert set(WORDS) <= set(IDS)
    assert len({IDS[word] for word in WORDS}) == len(WORDS)


def test_concepts_by_hand():
    ring = thing("ring", "red", "striped")
    assert tuple(concept_at(ring.identity, level).text() for level in (1, 2, 3)) == ring.phrases()
    assert Concept("ring", "blue", "striped").differences(ring.identity) == 1
    assert Concept("star", "blue").differences(ring.identity) == 2
    assert Concept("ring").fits(thing("ring", "blue").identity)
    neighbours = Concept("ring", "red", "plain").neighbours()
    assert {name: len(found) for name, found in neighbours.items()} == {"colour": 9, "texture": 3, "shape": 9}
    assert Concept("ring", "red", "dotted") in neighbours["texture"]
    assert [len(list(all_concepts(level))) for level in (1, 2, 3)] == [10, 100, 400]


def test_wordings():
    concept, rng = Concept("disk", "red", "striped"), np.random.default_rng(0)
    assert concept.say(rng, 0.0) == "red striped disk"
    words = product(("scarlet", "crimson"), ("stripy", "banded"), ("disc", "circle"))
    assert {concept.say(rng, 1.0) for _ in range(100)} == set(map(" ".join, words))
    assert len({concept.say(rng, 0.5) for _ in range(300)}) == 3**3
    texts = list(all_texts())
    shapes, colours, textures = (sum(1 + len(SYNONYMS[name]) for name in table) for table in TABLES.values())
    assert len(texts) == len(set(texts)) == shapes * (1 + colours * (1 + textures))


def test_answers_are_true_and_exhaustive(scenes):
    """Brute force over the words: nothing that is false is called true, and nothing true is called false."""
    partial = 0
    for asked in scenes:
        identities = [item.identity for item in asked.scene.things]
        clear, seen = clear_and_seen(asked.scene, asked.masks)
        for question in asked.questions:
            wrong = [missing(question.text, identity) for identity in identities]
            true = {number for number, count in enumerate(wrong) if seen[number] and not count}
            assert set(question.things) == {number for number in true if clear[number]}
            if question.things:
                assert question.exhaustive == all(clear[number] for number in true)
                assert not question.hard
            else:
                assert not true
                words = len(meaning(question.text))
                near = any(count == 1 and shown for count, shown in zip(wrong, clear, strict=True))
                assert question.hard == (words > 1 and near)
            partial += not question.exhaustive
    assert partial >= 10


def test_synonyms_are_asked_of_both_kinds(scenes):
    for positive in (True, False):
        texts = [q.text for asked in scenes for q in asked.questions if bool(q.things) == positive]
        words = [word for text in texts for word in text.split()]
        assert 0.2 < np.mean([NAME_OF[word] != word for word in words]) < 0.3
        assert len(texts) > 300


def test_true_and_false_phrases_are_balanced(scenes):
    lengths, attributes = {True: Counter(), False: Counter()}, Counter()
    for asked in scenes:
        true = [question for question in asked.questions if question.things]
        false = [question for question in asked.questions if not question.things]
        assert 3 <= len(true) == len(false) <= 6
        assert sum(question.hard for question in false) == round(len(false) / 2)
        assert len({question.concept for question in asked.questions}) == len(asked.questions)
        for question in asked.questions:
            lengths[bool(question.things)][len(question.text.split())] += 1
        for question in (question for question in false if question.hard):
            off = [item.identity for item in asked.scene.things if question.concept.differences(item.identity) == 1]
            attributes.update(
                name for name in question.concept.attributes if getattr(off[0], name) != getattr(question.concept, name)
            )
    for length in (1, 2, 3):
        assert lengths[True][length] == pytest.approx(lengths[False][length], rel=0.06)
    assert min(attributes[name] for name in TABLES) > 15


@pytest.mark.parametrize(
    ("asking", "counts"),
    [
        (Asking(positives=2, negatives=3.0, hard=1.0), (2, 6, 6)),
        (Asking(positives=4, negatives=0.5, hard=0.0), (4, 2, 0)),
        (Asking(positives=3, negatives=0.0), (3, 0, 0)),
        (Asking(positives=4, negatives=25.0, hard=0.25), (4, 100, 25)),
        (Asking(positives=50, negatives=1.0, hard=0.5), (8, 8, 4)),
    ],
)
def test_how_many(asking, counts):
    things = [thing("ring", "red", "striped"), thing("star", "red", "plain"), thing("ring", "blue", "striped")]
    identities = [item.identity for item in things]
    found = ask(np.random.default_rng(1), identities, [True] * 3, [True] * 3, asking)
    false = [question for question in found if not question.things]
    assert (len(found) - len(false), len(false), sum(question.hard for question in false)) == counts


def test_what_is_hidden_is_no_one_s_negative():
    things = [thing("ring", "red").identity, thing("star", "blue").identity]
    asking = Asking(negatives=16.0, synonyms=0.0)
    for seed in range(20):
        found = ask(np.random.default_rng(seed), things, [True, False], [True, True], asking)
        texts = {question.text for question in found}
        assert not texts & {"star", "blue star", "blue plain star"}
    found = ask(np.random.default_rng(0), things, [True, False], [True, False], Asking(negatives=30.0, synonyms=0.0))
    assert "star" in {question.text for question in found}  # without a visible pixel it is absent


def test_what_is_out_of_sight_leaves_a_phrase_exhaustive():
    things = [thing("ring", "red").identity, thing("ring", "blue").identity]
    for seen, exhaustive in ((True, False), (False, True)):
        found = ask(np.random.default_rng(0), things, [True, False], [True, seen], Asking(negatives=0.0, synonyms=0.0))
        answers = {question.text: (question.things, question.exhaustive) for question in found}
        assert answers["ring"] == ((0,), exhaustive)
        assert answers["red ring"] == ((0,), True)


@pytest.mark.parametrize(
    "wrong", [{"positives": 0}, {"negatives": -1.0}, {"negatives": 99.0}, {"hard": 1.5}, {"synonyms": float("nan")}]
)
def test_settings_out_of_range(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Asking(**wrong).check()
