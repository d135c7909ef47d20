"""Names of categories as noun phrases."""

from pathlib import Path

import pytest

from datamodules.convert.text import noun_and_qualifier, noun_phrases, synonyms
from phd.errors import UserError

PATH = Path("names.json")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("stop_sign", ("stop sign", "")),
        ("bow_(decorative_ribbons)", ("bow", "decorative ribbons")),
        ("monitor_(computer_equipment) computer_monitor", ("monitor", "computer equipment")),
        ("  hot-air__balloon ", ("hot-air balloon", "")),
        ("(unnamed)", ("unnamed", "")),
    ],
)
def test_noun_and_qualifier(name, parts):
    assert noun_and_qualifier(name) == parts


def test_the_qualifier_stays_where_it_tells_categories_apart():
    names = {1: "fish", 2: "fish_(food)", 3: "bat_(animal)"}
    assert noun_phrases(names, PATH) == {1: "fish", 2: "fish, food", 3: "bat"}


@pytest.mark.parametrize("names", [{1: "stop_sign", 2: "Stop sign"}, {1: "bow_(x)", 2: "bow_(x)"}])
def test_two_categories_of_one_name(names):
    with pytest.raises(UserError, match=r"names\.json: categories 1 and 2 are both called"):
        noun_phrases(names, PATH)


def test_synonyms_name_one_category():
    listed = {1: ["mouse_(rodent)"], 2: ["mouse_(device)", "pointer"], 3: ["arrow", "pointer", "shaft", "shaft"]}
    phrases = {1: "mouse, rodent", 2: "mouse, device", 3: "arrow"}
    assert synonyms(listed, phrases) == {1: [], 2: [], 3: ["shaft"]}
