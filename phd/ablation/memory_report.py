"""The section that `phd ablation memory` writes: protocol, table, plot, and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phd.ablation.plan import Variant
from phd.ablation.plot import Panel, plot_rows
from phd.ablation.run import Outcome
from phd.ablation.table import Spread, markdown, spread
from phd.ablation.words import labelled, left_out, paragraph, standing

MEASURES = {"jf": "J&F", "long_jf": "J&F, long occlusion"}
HEADER = ("memory", "tokens per frame", *MEASURES.values(), "GMACs", "ms", "ms to compress")
# SA-V val of EdgeTAM (arXiv 2501.07256, ablation of the Perceiver), best first.
EDGETAM = {"both_128": 64.4, "dense": 63.5, "spatial_128": 63.1, "flat_128": 62.0, "pool_128": 61.8}


def section(
    variants: Sequence[Variant],
    outcomes: Sequence[Outcome],
    costs: dict[str, dict[str, Any]],
    teacher: dict[str, Any],
    about: dict[str, Any],
    picture: str,
) -> str:
    """The whole section in markdown.

    Args:
        variants: Rows, in order.
        outcomes: Of all runs.
        costs: By variant, see `phd.ablation.memory_cost`.
        teacher: `jf`, `long_jf` and `tokens` of the teacher by the same code.
        about: Words of the protocol, see `protocol`.
        picture: Path of the plot from where the section stands.
    """
    rows = [["the teacher", teacher["tokens"], *(f"{teacher[key]:.3f}" for key in MEASURES), "", "", ""]]
    for each in variants:
        cost = costs[each.name]
        measured = [spread(outcomes, each.name, key) for key in MEASURES]
        milliseconds = [f"{cost[f'{part}_ms']:.1f}" for part in ("read", "write")]
        rows.append([each.facts["label"], cost["tokens"], *measured, f"{cost['read_gmacs']:.3f}", *milliseconds])
    parts = [protocol(about), markdown(HEADER, rows), f"![J&F and cost of the memories]({picture})"]
    return "\n\n".join([*parts, *map(paragraph, findings(variants, outcomes))])


def protocol(about: dict[str, Any]) -> str:
    """How the numbers were made, with the command."""
    recipe, seeds = about["recipe"], ", ".join(map(str, about["seeds"]))
    runs = (
        f"{about['date']}, {about['cpu']}, {about['cores']} cores, torch {about['torch']}; the runs took "
        f"{about['minutes']} minutes together. Each starts from the same student of stage 1 with the teacher's memory "
        f"and a new compressor, and takes {about['steps']} steps of {recipe['batch_size']} clips with "
        f"{recipe['clip_length']} frames and at most {recipe['max_objects']} objects, from {about['train_clips']} "
        f"clips of the world's seed {about['train_seed']}; seeds of the runs: {seeds}. These are short runs: "
        f"the numbers say how well a memory works after so little training, not what it could reach."
    )
    measures = (
        f"J&F is that of `phd evaluate video --protocol sav`, from each object's first mask: on {about['clips']} clips "
        f"of seed {about['test_seed']} ({about['objects'][0]} objects), and on {about['clips']} of seed "
        f"{about['long_seed']} in each of which an object is hidden for at least half of the frames (all "
        f"{about['objects'][1]} objects count). Mean and standard deviation over the seeds. GMACs (by arithmetic) and "
        f"milliseconds (CPU time of one core, median) are those of one object's memory attention in one frame with all "
        f"slots full: {about['slots']}. The map has {about['grid']} x {about['grid']} cells, so 128 tokens are a share "
        f"of {128 / about['grid'] ** 2:.1%} of the dense memory here, and of 2.5% on SAM 3's 72 x 72."
    )
    return "\n\n".join([f"```bash\n{about['command']}\n```", paragraph(runs), paragraph(measures)])


def findings(variants: Sequence[Variant], outcomes: Sequence[Outcome]) -> list[str]:
    """What the numbers say, in sentences that hold whatever they are."""
    said: list[str] = []
    for key, title in MEASURES.items():
        measured = labelled(variants, outcomes, key)
        if len(measured) > 1:
            said.append(standing(title, measured))
    found = {name: spread(outcomes, name, "jf") for name in EDGETAM}
    if all(each.values for each in found.values()):
        here = sorted(found, key=lambda name: -found[name].mean)
        theirs = ", ".join(f"{name.split('_')[0]} {value}" for name, value in EDGETAM.items())
        mine = ", ".join(f"{name.split('_')[0]} {found[name].mean:.3f}" for name in here)
        order = "the same" if here == list(EDGETAM) else "another"
        said.append(
            f"The order of EdgeTAM's ablation (arXiv 2501.07256, SA-V val, 512 tokens) is {theirs}; here it is "
            f"{order}: {mine}."
        )
    return [*said, *left_out(outcomes)]


def plot(
    file: Path, variants: Sequence[Variant], outcomes: Sequence[Outcome], costs: dict[str, dict[str, Any]]
) -> None:
    """J&F with spread, and the milliseconds of the memory attention."""
    rows = [f"{each.facts['label']}\n{each.facts['tokens']} tokens" for each in variants]
    quality = {title: [spread(outcomes, each.name, key) for each in variants] for key, title in MEASURES.items()}
    cost = {"memory attention": [Spread((costs[each.name]["read_ms"],)) for each in variants]}
    plot_rows(file, rows, [Panel("J&F", quality), Panel("ms of memory attention per frame", cost, start=0.0)])
