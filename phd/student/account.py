"""What each student costs, part by part: the table of `phd students`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypedDict

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from phd.contract import Contract, ImageFeatures, Prompts
from phd.heads import InteractiveHeads, build_heads
from phd.student.backbones import PAPER_TRUNKS, build_trunk
from phd.student.neck import NeckKind, new_neck
from phd.student.text import build_text
from phd.text import MOBILECLIP

META = torch.device("meta")
TEXTS = ("teacher", *MOBILECLIP)


class StudentRow(TypedDict):
    """One student: parameters as counts, GMACs in billions of multiply-accumulates.

    `total_params` is without a text encoder, as in stages 1 and 2. `text_params` has those of each text encoder that
    the student may get, and `full_params` the whole student with it; both are empty where the teacher reads no phrases.
    `levels` has, by branch and finest first, [channels, height, width] of what the neck writes.
    """

    name: str
    trunk_params: int
    neck_params: int
    heads_params: int
    total_params: int
    text_params: dict[str, int]
    full_params: dict[str, int]
    trunk_gmacs: float
    neck_gmacs: float
    heads_gmacs: float
    levels: dict[str, list[list[int]]]


def students_table(
    contract: Contract,
    teacher_config: dict[str, Any],
    names: Iterable[str] | None = None,
    neck: NeckKind = "light",
) -> list[StudentRow]:
    """Measure students on the meta device: shapes only, no weights, no download.

    GMACs count convolutions, matrix products and attention of one image. Those of the heads are one call of `segment`
    with one box; the heads' parameters are all that a student holds in stage 1, also where that call does not use
    them (memory, detector). A text encoder reads the teacher's context.

    Args:
        contract: Of the teacher.
        teacher_config: Its `transformers` configuration as a dictionary.
        names: Backbones; the paper's nine by default.
        neck: Which neck the students have.
    """
    with META:
        # The counter looks for gradients of whatever still asks for them, `no_grad` or not.
        heads = build_heads(contract.family, teacher_config).eval().requires_grad_(False)
    head_parameters, texts = count_parameters(heads), text_parameters(contract, teacher_config)
    rows: list[StudentRow] = []
    head_gmacs: float | None = None
    backbones = list(names or PAPER_TRUNKS)
    for name in track(backbones, "measuring", console=Console(stderr=True), transient=True):
        trunk = build_trunk(name, pretrained=False).to(META).eval()
        with META:
            student_neck = new_neck(neck, trunk.channels, contract, teacher_config).eval()
        images = torch.empty(1, 3, contract.image_size, contract.image_size, device=META)
        maps, trunk_gmacs = gmacs(lambda: trunk(images))  # noqa: B023 - called at once
        branches, neck_gmacs = gmacs(lambda: student_neck(maps))  # noqa: B023 - called at once
        if head_gmacs is None:
            head_gmacs = box_gmacs(heads, ImageFeatures(branches))
        trunk_parameters, neck_parameters = count_parameters(trunk), count_parameters(student_neck)
        total = trunk_parameters + neck_parameters + head_parameters
        rows.append(
            StudentRow(
                name=name,
                trunk_params=trunk_parameters,
                neck_params=neck_parameters,
                heads_params=head_parameters,
                total_params=total,
                text_params=texts,
                full_params={kind: total + count for kind, count in texts.items()},
                trunk_gmacs=trunk_gmacs,
                neck_gmacs=neck_gmacs,
                heads_gmacs=head_gmacs,
                levels={branch: [list(level.shape[1:]) for level in levels] for branch, levels in branches.items()},
            )
        )
    return rows


def text_parameters(contract: Contract, teacher_config: dict[str, Any]) -> dict[str, int]:
    """Parameters of each text encoder, the projection to the detector's width included; none but for SAM 3."""
    if contract.family != "sam3":
        return {}
    with META:
        encoders = {kind: build_text(kind, None, teacher_config) for kind in TEXTS}
    return {kind: count_parameters(encoder) for kind, encoder in encoders.items() if encoder is not None}


def box_gmacs(heads: InteractiveHeads, features: ImageFeatures) -> float:
    """GMACs of the answer to one box."""
    prompts = Prompts(
        torch.zeros(1, dtype=torch.long, device=META),
        boxes=torch.empty(1, 4, device=META),
    )
    return gmacs(lambda: heads.segment(features, prompts, multimask=False))[1]


def gmacs(call: Callable[[], Any]) -> tuple[Any, float]:
    """Result of a call, and its cost; one multiply-accumulate is two of PyTorch's operations."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        result = call()
    return result, counter.get_total_flops() / 2e9


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, each once."""
    return sum(parameter.numel() for parameter in module.parameters())


def print_table(rows: Sequence[StudentRow], console: Console | None = None) -> None:
    """Print the rows, parameters in millions; then the whole students, by text encoder."""
    console = console or Console()
    table = Table(title="Students", caption="Without a text encoder, which joins in stage 3. Heads: GMACs of one box.")
    table.add_column("name", no_wrap=True)
    for column in ("trunk", "neck", "heads", "total"):
        table.add_column(f"{column}\nM", justify="right")
    for column in ("trunk", "neck", "heads"):
        table.add_column(f"{column}\nGMACs", justify="right")
    for row in rows:
        params = (row["trunk_params"], row["neck_params"], row["heads_params"], row["total_params"])
        costs = (row["trunk_gmacs"], row["neck_gmacs"], row["heads_gmacs"])
        table.add_row(row["name"], *(f"{count / 1e6:.2f}" for count in params), *(f"{cost:.2f}" for cost in costs))
    console.print(table)
    if rows and rows[0]["full_params"]:
        console.print(full_table(rows))


def full_table(rows: Sequence[StudentRow]) -> Table:
    """Trunk, neck, heads and text encoder together, in millions."""
    table = Table(title="With a text encoder, M", caption="Below each encoder's name: its own parameters.")
    table.add_column("name", no_wrap=True)
    for kind, count in rows[0]["text_params"].items():
        table.add_column(f"{kind}\n{count / 1e6:.2f}", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row["name"], *(f"{count / 1e6:.2f}" for count in row["full_params"].values()))
    return table
