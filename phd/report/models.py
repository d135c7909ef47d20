"""What a section compares: two evaluations of the student, and the three models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from phd.loading import load_segmenter
from phd.predict import ImagePredictor


def evaluations(paths: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was measured `before` a stage and `after` it."""
    before, after = (json.loads(Path(paths[name]).read_text()) for name in ("before", "after"))
    return before, after


def predictors(paths: dict[str, str], teacher: str) -> dict[str, ImagePredictor]:
    """The teacher, and the students `untrained` and `student`, by what the report calls them."""
    models = {"teacher": teacher, "student before": paths["untrained"], "student after": paths["student"]}
    return {name: ImagePredictor(load_segmenter(model)) for name, model in models.items()}
