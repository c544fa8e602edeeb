"""What stands where in time: which sequences go side by side, and what stands before, between and after.

Tracks whose timesteps go side by side, layer over layer, share a *phase*; one that needs the end of another
stands in a later phase. Phases alternate with *stations*, where the boxes of no timestep stand: station 0,
phase 0, station 1, phase 1, ...
"""

from __future__ import annotations

from collections import Counter, defaultdict

from tensorgrad.viz.model import Box
from tensorgrad.viz.place.layers import staged
from tensorgrad.viz.place.scene import INTEGER, Scene

__all__ = ["Phases", "Unit"]

Unit = tuple[str, int]
"""What a region holds: ("track", its number) or ("region", its number)."""


class Phases:
    """The phases of a scene.

    Attributes:
        tracks: by phase, from below upwards.
        station: by box, that of its station; -1 within a timestep.
        units: by region, what it holds, from below upwards.
        of_region: by region, the phases of what it holds.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._find_sources()
        beside = self._find_phases()
        self._find_stations()
        self.of_region: list[set[int]] = [set() for _ in scene.regions]
        for track in scene.tracks:
            for region in self.around(track.region):
                self.of_region[region].add(track.phase)
        self._stack(beside)

    def around(self, region: int) -> list[int]:
        """A region and those around it, from the inside outwards."""
        found = []
        while region >= 0:
            found.append(region)
            region = self.scene.regions[region].parent
        return found

    def _find_sources(self) -> None:
        """Of each box outside, the tracks it is made from, and how many arrows lead to it from each."""
        scene = self.scene
        self.sources: dict[int, Counter[int]] = defaultdict(Counter)
        for j, arrows in scene.gathers.items():
            for k in arrows:
                self.sources[j][scene.steps[scene.home[scene.tails[k]]].track] += 1
        # In the order of results, whose operands come before them.
        for k in sorted(scene.outside, key=lambda k: scene.heads[k]):
            i, j = scene.tails[k], scene.heads[k]
            for track, count in self.sources.get(i, {}).items():
                self.sources[j][track] = max(self.sources[j][track], count)

    def _find_phases(self) -> list[tuple[int, int]]:
        """Find the phase of each track.

        Returns:
            the pairs of tracks of which the first feeds the second beside it, timestep by timestep.
        """
        scene, steps = self.scene, self.scene.steps
        votes: dict[tuple[int, int], set[str]] = defaultdict(set)
        for k in scene.across:
            one, other = steps[scene.home[scene.tails[k]]], steps[scene.home[scene.heads[k]]]
            aligned = one.span[0] == other.span[0] or one.block or other.block
            # Where both have one timestep, that says nothing.
            single = len(scene.tracks[one.track].steps) == len(scene.tracks[other.track].steps) == 1
            vote = ("perhaps" if single else "beside") if aligned else "after"
            votes[one.track, other.track].add(vote)
        for i, found in self.sources.items():
            for k in scene.taps.get(i, ()):
                head = scene.heads[k]
                track = steps[scene.home[head]].track
                for source, count in found.items():
                    if source != track:
                        votes[source, track].add(_vote(scene.boxes[head], count))
        beside: list[tuple[int, int]] = []
        after: list[tuple[int, int]] = []
        for (a, b), told in votes.items():
            spans = [[steps[s].span for s in scene.tracks[t].steps] for t in (a, b)]
            together = "beside" in told or ("after" not in told and spans[0] == spans[1])
            (beside if together else after).append((a, b))
        mutual = {pair for pair in after if pair[::-1] in votes}
        phase = [0] * len(scene.tracks)
        for _ in scene.tracks:
            for a, b in beside:
                phase[b] = max(phase[b], phase[a])
            for a, b in after:
                if (a, b) not in mutual:
                    phase[b] = max(phase[b], phase[a] + 1)
        # What goes round in a circle may have left phases empty.
        used = {number: i for i, number in enumerate(sorted(set(phase)))}
        for one_track, number in zip(scene.tracks, phase, strict=True):
            one_track.phase = used[number]
        self.count = len(used)
        return beside

    def _find_stations(self) -> None:
        """Boxes of no timestep stand after what they are made of; else just before what they feed."""
        scene = self.scene
        self.station = [-1] * len(scene.boxes)
        users: dict[int, list[int]] = defaultdict(list)
        for k in scene.outside:
            users[scene.tails[k]].append(scene.heads[k])
        for i in range(len(scene.boxes) - 1, -1, -1):
            if scene.home[i] >= 0:
                continue
            if i in self.sources:
                self.station[i] = 1 + max(scene.tracks[t].phase for t in self.sources[i])
                continue
            ends = [self.station[j] for j in users[i] if self.station[j] >= 0]
            ends += [
                scene.tracks[scene.steps[scene.home[scene.heads[k]]].track].phase
                for k in scene.taps.get(i, ())
            ]
            self.station[i] = min(ends, default=0)

    def _stack(self, beside: list[tuple[int, int]]) -> None:
        """From below upwards, with the tracks of one region together, and what is fed above what feeds it."""
        scene = self.scene
        self.tracks: list[list[int]] = [[] for _ in range(self.count)]
        self.units: dict[int, list[Unit]] = {}
        around = [self.around(track.region) for track in scene.tracks]
        waiting: list[Unit] = [("region", 0)]
        while waiting:
            what, number = waiting.pop()
            if what == "track":
                self.tracks[scene.tracks[number].phase].append(number)
                continue
            region = scene.regions[number]
            units: list[Unit] = [("region", child) for child in region.children if self.of_region[child]]
            units += [("track", track) for track in region.tracks]
            place = {unit: i for i, unit in enumerate(units)}
            edges = []
            for a, b in beside:
                ends = [place.get(_unit(track, number, around[track])) for track in (a, b)]
                if ends[0] is not None and ends[1] is not None:
                    edges.append((ends[0], ends[1]))
            level, _ = staged(len(units), edges)
            self.units[number] = [units[i] for i in sorted(range(len(units)), key=level.__getitem__)]
            waiting += reversed(self.units[number])


def _vote(head: Box, arrows: int) -> str:
    """What it tells of two tracks that a box of the one uses what so many arrows from the other lead to."""
    if head.kind in ("cell", "block"):
        return "perhaps" if arrows > 1 else "after"
    return "beside" if head.op.startswith("getitem[") and INTEGER.search(head.op) else "after"


def _unit(track: int, region: int, around: list[int]) -> Unit:
    """What of a region's own holds a track; nothing that it has, if none does."""
    if region not in around:
        return "", -1
    at = around.index(region)
    return ("region", around[at - 1]) if at else ("track", track)
