"""The model card of a student."""

from __future__ import annotations

import json
from collections.abc import Mapping

from phd.contract import Contract, Level
from phd.student.config import StudentConfig


def model_card(config: StudentConfig, contract: Contract, parameters: Mapping[str, int]) -> str:
    """What it is, where it comes from, what it costs and how to load it, as Markdown."""
    provenance = dict(config.provenance or {})
    metrics = provenance.pop("metrics", None) or {}
    side = contract.image_size
    counts = {**parameters, "total": sum(parameters.values())}
    branches = "\n".join(f"| levels of the {name} | {_levels(levels)} |" for name, levels in contract.branches.items())
    return f"""---
library_name: phd-distill
pipeline_tag: mask-generation
tags: [segment-anything, distillation, {contract.family}]
---
# {config.backbone}, a student of {config.teacher}

Promptable segmentation distilled from `{config.teacher}` by `phd` (Progressive Hierarchical Distillation, after
EfficientSAM3, arXiv 2511.15833): a `{config.backbone}` trunk, the {config.neck} neck, and the teacher's heads.

```python
from phd.student import Student
student = Student.from_pretrained("THIS_FOLDER")
features = student.encode(student.contract.normalise(canvas))  # canvas: uint8 RGB (B, 3, {side}, {side})
masks = student.segment(features, prompts)  # prompts: phd.contract.Prompts
```

| | parameters |
|---|---|
{_rows({name: f"{count / 1e6:.2f} M" for name, count in counts.items()})}

| contract | |
|---|---|
| image | {side} x {side}, {contract.resize} |
| mean, std | {list(contract.mean)}, {list(contract.std)} |
{branches}
| mask logits | {contract.mask_size} x {contract.mask_size} |

## Metrics

{_table(metrics) or "None recorded."}

## Provenance

{_table(provenance) or "None recorded."}

The heads are the teacher's work: its licence applies to them.
"""


def _levels(levels: tuple[Level, ...]) -> str:
    return ", ".join(f"{level.channels} x {level.size} x {level.size}" for level in levels)


def _rows(values: Mapping[str, object]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in values.items())


def _table(values: Mapping[str, object]) -> str:
    if not values:
        return ""
    shown = {name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in values.items()}
    return f"| | |\n|---|---|\n{_rows(shown)}"
