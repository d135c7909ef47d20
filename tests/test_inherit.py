"""What a student takes over from its teacher, and the account of it."""

from __future__ import annotations

import torch
from torch import nn

from phd.student import inherit


def module(**layers: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict(layers)


def test_copies_by_name_and_shape() -> None:
    teacher = module(a=nn.Linear(2, 3), b=nn.Linear(3, 4), norm=nn.BatchNorm1d(2), gone=nn.Linear(1, 1, bias=False))
    student = module(a=nn.Linear(2, 3), b=nn.Linear(5, 4), norm=nn.BatchNorm1d(2), fresh=nn.Linear(2, 2, bias=False))
    teacher["norm"].running_mean.fill_(7.0)  # type: ignore[union-attr, operator]
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    account = inherit(student, teacher)

    assert account.inherited == [
        "a.weight",
        "a.bias",
        "b.bias",
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
    ]
    assert account.new == ["b.weight", "fresh.weight"]
    assert account.missing == ["gone.weight"]
    assert account.mismatched == [("b.weight", (4, 5), (4, 3))]

    after, theirs = student.state_dict(), teacher.state_dict()
    assert all(torch.equal(after[name], theirs[name]) for name in account.inherited)
    assert all(torch.equal(after[name], before[name]) for name in account.new)
    # Copied, not shared: training the student must not move the teacher.
    student["a"].weight.data.zero_()  # type: ignore[union-attr, operator]
    assert teacher["a"].weight.abs().sum() > 0  # type: ignore[operator]


def test_summary_names_what_is_new_and_missing() -> None:
    teacher = module(a=nn.Linear(2, 3), gone=nn.Linear(1, 1))
    student = module(a=nn.Linear(2, 3), fresh=nn.Linear(2, 2, bias=False))
    assert inherit(student, teacher).summary("heads").splitlines() == [
        "heads: 2 inherited (a 2), 1 new, 2 missing",
        "  new: fresh.weight",
        "  missing: gone.weight",
        "  missing: gone.bias",
    ]


def test_summary_counts_where_there_are_many() -> None:
    student = nn.Sequential(*(nn.Linear(1, 1) for _ in range(4)))
    assert inherit(student, nn.Identity()).summary("heads").splitlines() == [
        "heads: 0 inherited, 8 new, 0 missing",
        *(f"  new: {index}.{kind} (1 names)" for index in range(4) for kind in ("weight", "bias")),
    ]


def test_a_shape_that_differs_is_said() -> None:
    summary = inherit(nn.Linear(2, 1, bias=False), nn.Linear(3, 1, bias=False)).summary("scores")
    assert summary.splitlines()[-1] == "  other shape: weight [1, 2] here, [1, 3] in the teacher"
