"""How many hard negatives are asked of each image: an ablation that the paper does not have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from phd.ablation.concept_report import ERRORS, SCORES
from phd.ablation.plan import Variant
from phd.ablation.run import Outcome
from phd.ablation.words import change, labelled, left_out, standing
from phd.errors import UserError

NAME = "negatives"
NAMES = tuple(f"negatives_{number}" for number in (0, 1, 3, 8))
# Of an image of the training data; true phrases of each length, and four false ones for each.
POSITIVES, HARD_NEGATIVES = 3, 12
SAM3 = (
    "SAM 3 (arXiv 2511.16719, table 8) reaches cgF1 28.3, 39.4, 41.8 and 43.0 with 0, 5, 15 and 30 hard negatives for "
    "each image, and IL_MCC 0.44, 0.62, 0.67 and 0.68; its pmF1 stays at about 62.5."
)


def negatives_variant(name: str) -> Variant:
    """A variant by its name, such as `negatives_3`.

    Raises:
        UserError: No such variant, or more negatives than an image of the training data has.
    """
    match = re.fullmatch(r"negatives_(\d+)", name)
    if match is None:
        raise UserError(f"--only {name}: no such variant; give negatives_N with N hard negatives for each image")
    number = int(match[1])
    if number > HARD_NEGATIVES:
        raise UserError(f"--only {name}: an image of the training data has {HARD_NEGATIVES} hard negatives; give fewer")
    facts = {"label": str(number), "row": f"{number} hard negatives", "count": number}
    return Variant(f"negatives_{number}", (f"--data.max_negatives={number}",), facts)


def findings(variants: Sequence[Variant], outcomes: Sequence[Outcome]) -> list[str]:
    """What the numbers say, in sentences that hold whatever they are."""
    ordered = sorted(variants, key=lambda variant: variant.facts["count"])
    said = []
    for key, title in (SCORES | ERRORS).items():
        found = labelled(ordered, outcomes, key)
        if len(found) > 1:
            said.append(standing(f"{title} by hard negatives", found, lowest=key in ERRORS))
    cgf1 = labelled(ordered, outcomes, "cgf1")
    if len(cgf1) > 1:
        (fewest, _), (most, _) = cgf1[0], cgf1[-1]
        titles = SCORES | ERRORS
        by_key = {key: labelled(ordered, outcomes, key) for key in titles}
        changes = "; ".join(f"{titles[key]} {change(each[0][1], each[-1][1])}" for key, each in by_key.items())
        said.append(f"From {fewest} hard negatives to {most}: {changes}.")
        rises = all(after.mean > earlier.mean for (_, earlier), (_, after) in pairwise(cgf1))
        means = ", ".join(f"{each.mean:.3f} with {label}" for label, each in cgf1)
        word = "rises with every step" if rises else "does not rise with every step"
        said.append(f"{SAM3} Here cgF1 {word}: {means}.")
    return [*said, *left_out(outcomes)]
