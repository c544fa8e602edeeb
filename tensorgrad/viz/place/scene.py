"""A drawing model in numbers: boxes, arrows, timesteps, tracks and regions, by their places in lists.

A *track* is a sequence of sibling timesteps. A *region* is a scope outside of all timesteps; region 0 is the
whole picture.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tensorgrad.viz.model import Frame, Model
from tensorgrad.viz.picture import Line
from tensorgrad.viz.style.text import lines_of, size_of

__all__ = ["INTEGER", "Region", "Scene", "Step", "Track"]

INTEGER = re.compile(r"(?<=[\[ ])[0-9]+(?=[,\]])")
"""A whole number among the indices of an operation such as "getitem[:, 3]"."""


@dataclass(slots=True)
class Step:
    """A timestep, or several as one block.

    Attributes:
        frame: None for what stands beside the timesteps of a track although it was made outside of them.
        span: the first and the last timestep.
        boxes: their numbers in the model.
        arrows: the numbers of those that lead into it, or that begin and end in it.
        block: whether it is one box that stands for many timesteps.
        columns: the first and the last column of its phase that it takes.
    """

    frame: Frame | None
    track: int
    span: tuple[int, int]
    boxes: list[int] = field(default_factory=list)
    arrows: list[int] = field(default_factory=list)
    block: bool = False
    columns: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class Track:
    """Sibling timesteps in the order of time: `steps` are their numbers, one after the other."""

    region: int
    steps: range
    phase: int = 0


@dataclass(slots=True)
class Region:
    """A scope outside of all timesteps.

    Attributes:
        frame: None for the whole picture.
        parent: the region around it, -1 for none.
        children: the regions directly in it.
        tracks: those whose timesteps are directly in it.
    """

    frame: Frame | None
    parent: int
    children: list[int] = field(default_factory=list)
    tracks: list[int] = field(default_factory=list)


class Scene:
    """A model in numbers.

    Attributes:
        home: by box, the number of its timestep; -1 for none.
        region: by box, that of its region; -1 within a timestep.
        lines, size: of each box; the size along the time axis and across it.
        token: by box, a number that boxes of one name and operation share, whichever timestep they index.
        tails, heads: by arrow.
        taps: by box outside of all timesteps, the arrows from it into timesteps.
        gathers: by box outside of all timesteps, the arrows to it out of timesteps.
        outside: the arrows between boxes outside of all timesteps.
        across: the arrows between timesteps of different tracks.
    """

    def __init__(self, model: Model, extra: Mapping[str, Iterable[str]], vertical: bool) -> None:
        self.model = model
        self.vertical = vertical
        self.boxes = model.boxes
        self.arrows = model.arrows
        self._frames()
        self._boxes(extra)
        index = {box.id: i for i, box in enumerate(self.boxes)}
        self.tails = [index[arrow.tail] for arrow in self.arrows]
        self.heads = [index[arrow.head] for arrow in self.arrows]

    def _frames(self) -> None:
        self.regions = [Region(None, -1)]
        self.steps: list[Step] = []
        self.tracks: list[Track] = []
        self.step_of: dict[str, int] = {}
        self.region_of = {"": 0}
        siblings: dict[int, list[Frame]] = defaultdict(list)
        for frame in self.model.frames:
            parent = self.region_of.get(frame.parent, -1)
            if parent < 0:
                continue
            if frame.step is None:
                self.region_of[frame.id] = len(self.regions)
                self.regions[parent].children.append(len(self.regions))
                self.regions.append(Region(frame, parent))
            else:
                siblings[parent].append(frame)
        for parent, frames in siblings.items():
            steps: list[Step] = []
            for frame in sorted(frames, key=lambda frame: frame.step or 0):
                first = frame.step or 0
                self.step_of[frame.id] = len(self.steps) + len(steps)
                steps.append(
                    Step(frame, len(self.tracks), (first, first if frame.last is None else frame.last))
                )
            self.new_track(parent, steps)
        for frame in self.model.frames:
            if frame.parent in self.step_of:
                self.step_of[frame.id] = self.step_of[frame.parent]

    def new_track(self, region: int, steps: list[Step]) -> None:
        """Add a sequence of timesteps."""
        self.regions[region].tracks.append(len(self.tracks))
        self.tracks.append(Track(region, range(len(self.steps), len(self.steps) + len(steps))))
        self.steps += steps

    def _boxes(self, extra: Mapping[str, Iterable[str]]) -> None:
        self.home: list[int] = []
        self.region: list[int] = []
        self.lines: list[tuple[Line, ...]] = []
        self.size: list[tuple[float, float]] = []
        self.token: list[int] = []
        known: dict[tuple[str, ...], tuple[int, tuple[Line, ...], tuple[float, float]]] = {}
        tokens: dict[tuple[str, ...], int] = {}
        for i, box in enumerate(self.boxes):
            key = box.name, box.op, box.shape, box.dtype, box.kind
            found = known.get(key)
            if found is None:
                lines = lines_of(box)
                token = tokens.setdefault((box.name, INTEGER.sub("·", box.op), box.kind), len(tokens))
                found = known[key] = token, lines, self._size(lines)
            token, lines, size = found
            if extra and extra.get(box.id):
                lines = lines_of(box, extra[box.id])
                size = self._size(lines)
            self.token.append(token)
            self.lines.append(lines)
            self.size.append(size)
            home = self.step_of.get(box.frame, -1)
            self.home.append(home)
            if home >= 0:
                self.region.append(-1)
                self.steps[home].boxes.append(i)
            else:
                self.region.append(self.region_of.get(box.frame, 0))
        for step in self.steps:
            step.block = len(step.boxes) == 1 and self.boxes[step.boxes[0]].kind == "block"

    def _size(self, lines: Iterable[Line]) -> tuple[float, float]:
        width, height = size_of(lines)
        return (height, width) if self.vertical else (width, height)

    def sort_arrows(self) -> None:
        """Tell arrows apart by where they begin and end, once it is known what belongs to which timestep."""
        home, steps = self.home, self.steps
        self.taps: dict[int, list[int]] = defaultdict(list)
        self.gathers: dict[int, list[int]] = defaultdict(list)
        self.outside: list[int] = []
        self.across: list[int] = []
        for k, (i, j) in enumerate(zip(self.tails, self.heads, strict=True)):
            before, after = home[i], home[j]
            if after >= 0:
                steps[after].arrows.append(k)
                if before < 0:
                    self.taps[i].append(k)
                elif before != after and steps[before].track != steps[after].track:
                    self.across.append(k)
            elif before >= 0:
                self.gathers[j].append(k)
            else:
                self.outside.append(k)
