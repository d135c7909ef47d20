"""What an evaluation on video found: means over objects, and a row for each object and each video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from phd.errors import UserError
from phd.evaluate.video_protocol import ObjectScore, statistics
from phd.metrics import JAndF


@dataclass
class VideoReport:
    """Scores of every object, with the protocol that made them.

    Attributes:
        protocol: Its name and every choice that moves the numbers.
        scores: One for each object.
        left_out: Objects that were tracked but not scored, with the reason.
        speed: Frames per second, memory tokens per frame, peak memory, where a model was run.
    """

    protocol: dict[str, Any]
    scores: list[ObjectScore]
    left_out: list[dict[str, str]] = field(default_factory=list)
    speed: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON.

        Raises:
            UserError: No object was scored.
        """
        if not self.scores:
            raise UserError("no object was scored; the truth shows none in the frames that count")
        objects = [_row(score) for score in self.scores]
        videos = list(dict.fromkeys(score.video for score in self.scores))
        of_video = {name: [score for score in self.scores if score.video == name] for name in videos}
        return {
            **self.protocol,
            **_means(self.scores),
            "num_videos": len(videos),
            "num_objects": len(objects),
            **self.speed,
            "left_out": self.left_out,
            "objects": objects,
            "videos": [{"video": name, **_means(scores), "objects": len(scores)} for name, scores in of_video.items()],
        }


def _means(scores: Sequence[ObjectScore]) -> dict[str, float]:
    values: dict[str, float] = {}
    for part in ("j", "f", "jf"):
        metric = JAndF(part)
        for score in scores:
            metric.update(score.j, score.f)
        values[part] = float(metric.total / metric.count)
    return values


def _row(score: ObjectScore) -> dict[str, Any]:
    j, f = statistics(score.j), statistics(score.f)
    return {
        "video": score.video,
        "object": score.object,
        "frames": len(score.j),
        "j": j["mean"],
        "f": f["mean"],
        "jf": (j["mean"] + f["mean"]) / 2,
        "j_recall": j["recall"],
        "j_decay": j["decay"],
        "f_recall": f["recall"],
        "f_decay": f["decay"],
    }
