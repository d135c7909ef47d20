"""Names of categories as noun phrases: `bow_(weapon)` is written, "bow" is said."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from phd.errors import UserError


def noun_and_qualifier(name: str) -> tuple[str, str]:
    """Divide a name as LVIS writes it: `mouse_(animal_rodent)` gives ("mouse", "animal rodent")."""
    noun, _, rest = name.partition("(")
    spoken, qualifier = (" ".join(part.replace("_", " ").split()) for part in (noun, rest.partition(")")[0]))
    return (spoken, qualifier) if spoken else (qualifier, "")


def noun_phrases(names: Mapping[Any, Any], path: Path) -> dict[Any, str]:
    """A noun phrase for each category, different ones for different categories.

    The qualifier in parentheses is kept, after a comma, where the noun alone would name two categories ("bow, weapon"):
    one of them may be a negative of an image that shows the other.

    Args:
        names: Category id -> name.
        path: The file that lists them, for messages.

    Raises:
        UserError: A name is empty or no text, or two categories cannot be told apart.
    """
    divided: dict[Any, tuple[str, str]] = {}
    for number, name in names.items():
        divided[number] = noun_and_qualifier(name) if isinstance(name, str) else ("", "")
        if not divided[number][0]:
            raise UserError(f"{path}: category {number} has the name {name!r}, which is no text; name it")
    count = Counter(noun.casefold() for noun, _ in divided.values())
    phrases: dict[Any, str] = {}
    owners: dict[str, Any] = {}
    for number, (noun, qualifier) in divided.items():
        phrases[number] = f"{noun}, {qualifier}" if qualifier and count[noun.casefold()] > 1 else noun
        owner = owners.setdefault(phrases[number].casefold(), number)
        if owner != number:
            raise UserError(
                f"{path}: categories {owner} and {number} are both called {phrases[number]!r}; "
                f"join them or rename one, or one would be a negative of the other"
            )
    return phrases


def synonyms(listed: Mapping[Any, Iterable[str]], phrases: Mapping[Any, str]) -> dict[Any, list[str]]:
    """Other names for each category, in the order of the source, only those that name no other category.

    Args:
        listed: Category id -> synonyms as the source writes them, the name itself included or not.
        phrases: Category id -> noun phrase, as `noun_phrases` gives.
    """
    spoken = {number: [noun_and_qualifier(name)[0] for name in names] for number, names in listed.items()}
    owners: defaultdict[str, set[Any]] = defaultdict(set)
    for number, phrase in phrases.items():
        for noun in (phrase, phrase.partition(",")[0], *spoken.get(number, ())):
            owners[noun.casefold()].add(number)
    return {
        number: [noun for noun in dict.fromkeys(nouns) if noun != phrases[number] and len(owners[noun.casefold()]) == 1]
        for number, nouns in spoken.items()
    }
