"""The protocols of video in words, for reports: every choice that moves the numbers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from phd.evaluate.video_prompt import WORDS, PromptKind
from phd.evaluate.video_protocol import Protocol

if TYPE_CHECKING:
    from phd.video_predictor import TrackRules

PROTOCOL_VERSION = 1

_NAMES = {
    "davis": "DAVIS 2017, semi-supervised",
    "sav": "SA-V, semi-supervised",
    "lvos": "LVOS, semi-supervised, ranges of objects from the masks",
}
_OBJECTS = {
    "davis": "those of the first annotated frame, 1 to its highest label; another number in a prediction is an error",
    "sav": "those that the truth shows in a frame that counts; what only the prediction shows does not count",
    "lvos": "those that the truth ever shows; what only the prediction shows does not count",
}
_FRAMES = {
    "davis": "annotated frames but the first and the last",
    "sav": "annotated frames, of each object from that in which truth or prediction first shows it",
    "lvos": "annotated frames, of each object from that in which the truth first shows it, included, to the last one; "
    "the LVOS evaluator reads the start and the end of each object from meta.json, counts missing frames as 0 and "
    "reports seen and unseen categories apart",
}
_VOID = {
    "davis": "label 255 is background",
    "sav": "label 255 is an object like any other in a tree of label maps; background where a model is run",
    "lvos": "label 255 is background",
}


def describe(protocol: Protocol, skip_ends: bool) -> dict[str, Any]:
    """What a report says of a protocol.

    Args:
        protocol: Its name.
        skip_ends: `sav`: the first and the last annotated frame do not count.
    """
    ends = "; the first and the last annotated frame " + ("do not count" if skip_ends else "count too")
    return {
        "protocol": protocol,
        "drops_first_and_last_frame": protocol != "lvos" and skip_ends,
        "protocol_details": {
            "name": _NAMES[protocol],
            "version": PROTOCOL_VERSION,
            "frames": _FRAMES[protocol] + (ends if protocol == "sav" else ""),
            "objects": _OBJECTS[protocol],
            "void": _VOID[protocol],
            "j": "intersection over union, at the size of the true masks",
            "f": "boundaries match within 0.008 of the diagonal, rounded up to pixels",
            "empty": "J and F are 1 where truth and prediction are both empty, 0 where one is",
            "average": "over frames for each object, then over all objects of the set; jf is the mean of j and f",
        },
    }


def describe_tracking(protocol: Protocol, prompt: PromptKind, rules: TrackRules) -> dict[str, Any]:
    """What a report says of the tracking, where a model was run."""
    later = "in the first annotated frame" if protocol == "davis" else "in the first annotated frame that shows it"
    overlaps = {
        "sav": "masks of different objects may overlap",
        "davis": "a pixel of several objects is given to that with the largest logit",
    }
    borders = f"; then they follow the borders in the frame (guided filter, {rules.border_cells} cells each way)"
    return {
        "prompt": f"{WORDS[prompt]}; one for each object, {later}",
        "tracking": "frame by frame in the order of time, all stored frames from the first prompt to the last "
        "annotated one, never back; an object has an empty mask before its prompt",
        "resolution": "frames are resized to the model's input; its mask logits are resized bilinearly to the video's "
        "size and thresholded at 0" + (borders if rules.border_cells > 0 else ""),
        "overlap": overlaps["sav" if protocol == "sav" and not rules.exclusive else "davis"],
        "rules": asdict(rules),
    }
