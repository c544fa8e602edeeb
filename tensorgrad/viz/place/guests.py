"""What was computed outside of all timesteps, but timestep by timestep: it stands in the columns of those.

Such are the losses of timesteps computed after the run, or their inputs before it, where nobody gave them a
scope. Each becomes part of a sequence of its own beside that of the timesteps, one without frames.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tensorgrad.viz.place.scene import Scene, Step

__all__ = ["seat"]

_NONE, _MANY = -1, -2


def seat(scene: Scene) -> None:
    """Give what belongs to one timestep alone a place in its column, where that is so for most timesteps."""
    if not scene.steps:
        return
    for from_timesteps in (True, False):
        alone = _alone(scene, from_timesteps)
        families: dict[tuple[int, int], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for i, step in enumerate(alone):
            if step >= 0 and scene.boxes[i].op and not scene.steps[step].block:
                families[scene.steps[step].track, scene.region[i]][step].append(i)
        for (track, region), found in families.items():
            if len(found) > 1 and 2 * len(found) >= len(scene.tracks[track].steps):
                _make_track(scene, region, found)
    _follow(scene)


def _alone(scene: Scene, from_timesteps: bool) -> list[int]:
    """By box outside, the only timestep that it is made from, or that uses it."""
    home = scene.home
    found = [_NONE] * len(scene.boxes)
    came = _alone(scene, True) if not from_timesteps else found
    pairs: Iterable[tuple[int, int]] = zip(scene.tails, scene.heads, strict=True)
    if not from_timesteps:
        pairs = ((j, i) for i, j in reversed(list(pairs)))
    for one, other in pairs:
        if home[other] >= 0:
            continue
        step = home[one] if home[one] >= 0 else found[one]
        if step != _NONE:
            found[other] = step if found[other] in (_NONE, step) else _MANY
    if not from_timesteps:
        # What is made from timesteps comes after them, whoever uses it.
        return [_MANY if came[i] != _NONE else step for i, step in enumerate(found)]
    return found


def _make_track(scene: Scene, region: int, found: dict[int, list[int]]) -> None:
    steps: list[Step] = []
    for at in sorted(found):
        step = Step(None, len(scene.tracks), scene.steps[at].span)
        for i in found[at]:
            scene.home[i] = len(scene.steps) + len(steps)
            scene.region[i] = -1
            step.boxes.append(i)
        steps.append(step)
    scene.new_track(region, steps)


def _follow(scene: Scene) -> None:
    """Leaves that guests alone use, and those of one timestep, go with them."""
    home, seated = scene.home, {n for n, step in enumerate(scene.steps) if step.frame is None}
    users: dict[int, set[int]] = defaultdict(set)
    for i, j in zip(scene.tails, scene.heads, strict=True):
        if home[i] < 0 and not scene.boxes[i].op:
            users[i].add(home[j])
    for i, steps in users.items():
        if len(steps) == 1 and steps <= seated:
            (step,) = steps
            if scene.region[i] == scene.tracks[scene.steps[step].track].region:
                home[i] = step
                scene.region[i] = -1
                scene.steps[step].boxes.append(i)
