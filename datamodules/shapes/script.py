"""The script of a clip: what it is to show, and the things that show it."""

from dataclasses import dataclass

import numpy as np

from datamodules.shapes import acts
from datamodules.shapes.camera import Take
from datamodules.shapes.world import MAX_THINGS, MIN_THINGS, similar_identity

_CHANCES = {"occlusion": 0.65, "exit": 0.6, "late": 0.4, "crossing": 0.5}
_LOOKALIKE = 0.6
_BAR = 0.6


@dataclass(frozen=True)
class Plan:
    """What a clip is to show.

    Attributes:
        count: number of objects.
        acts: names from `_CHANCES`, as far as there are things for them.
        bar: whether a bar hides things, not another thing.
        lookalike: whether one thing looks like another one.
        long: whether one thing is hidden for half of the clip.
    """

    count: int
    acts: tuple[str, ...]
    bar: bool
    lookalike: bool
    long: bool


def random_plan(rng: np.random.Generator, long: bool) -> Plan:
    """Draw what a clip is to show; the first acts get their things first."""
    wishes = [name for name, chance in _CHANCES.items() if rng.random() < chance]
    rng.shuffle(wishes)
    if long:
        wishes = ["occlusion", *(name for name in wishes if name != "occlusion")]
    count = int(rng.integers(MIN_THINGS, MAX_THINGS + 1))
    return Plan(count, tuple(wishes), bool(rng.random() < _BAR), bool(rng.random() < _LOOKALIKE), long)


def cast(rng: np.random.Generator, take: Take, plan: Plan) -> list[acts.Track]:
    """Draw the things from back to front and what each of them does, and a bar if one is needed."""
    tracks = [acts.random_track(rng, take) for _ in range(plan.count)]
    free = [tracks[index] for index in rng.permutation(len(tracks))]
    bar: acts.Track | None = None
    behind: list[int] = []
    covers: list[acts.Track] = []
    for name in plan.acts:
        if name == "occlusion" and free:
            if len(free) > 1 and not plan.bar:
                track, cover = sorted((free.pop(), free.pop()), key=tracks.index)
                acts.hide_behind_thing(rng, take, track, cover, plan.long)
                covers.append(cover)
            else:
                bar = acts.random_bar(rng, take)
                track = free.pop()
                acts.hide_behind_bar(rng, take, track, bar, plan.long)
                behind.append(tracks.index(track))
        elif name == "exit" and free:
            acts.leave(rng, take, free.pop())
        elif name == "late" and free and len(tracks) > MIN_THINGS:
            track = free.pop()
            hidden = bar is not None and rng.random() < 0.5
            acts.arrive(rng, take, track, bar if hidden else None)
            behind += [tracks.index(track)] * hidden
        elif name == "crossing" and len(free) > 1:
            acts.cross(rng, take, free.pop(), free.pop())
    if plan.lookalike:
        _disguise(rng, tracks, covers)
    if bar is not None:
        tracks.insert(int(rng.integers(max(behind) + 1, len(tracks) + 1)), bar)
    return tracks


def _disguise(rng: np.random.Generator, tracks: list[acts.Track], covers: list[acts.Track]) -> None:
    """Make one thing a look-alike of another one, which does something if any does."""
    busy = [track for track in tracks if track.promises] or tracks
    model = busy[int(rng.integers(len(busy)))]
    others = [track for track in tracks if track is not model and track not in covers]
    if others:
        double = others[int(rng.integers(len(others)))]
        double.identity = similar_identity(rng, model.identity)
