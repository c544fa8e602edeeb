"""The scopes of a graph: the frames that they are drawn as, and where they stand to each other."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tensorgrad.viz.model import Frame
from tensorgrad.viz.steps import step_of

__all__ = ["Scopes"]

_LONGEST_ROLE = 40


class Scopes:
    """The scopes of a graph as nested frames.

    Attributes:
        ids: the id of each scope's frame; that of no scope is empty.
        frames: outer before inner, timesteps in the order of time.
    """

    def __init__(self, scopes: Iterable[str]) -> None:
        self.ids = {"": ""}
        self._counts: dict[tuple[str, str], int] = {}
        self._patterns: dict[str, str] = {}
        children: dict[str, dict[str, None]] = {"": {}}
        given: dict[str, str] = {}
        for scope in dict.fromkeys(scopes):
            parent = ""
            for name in filter(None, scope.split("/")):
                path = f"{parent}/{name}" if parent else name
                children[parent][path] = None
                children.setdefault(path, {})
                parent = path
            given[scope] = parent
        frames = []
        waiting = [""]
        while waiting:
            path = waiting.pop()
            if path:
                frames.append(self._frame(path))
            waiting += reversed(_in_order(children[path]))
        self.frames = tuple(frames)
        # A scope may be named "", and then its path has an end that is no frame.
        self.ids.update({scope: self.ids[path] for scope, path in given.items()})

    def _frame(self, path: str) -> Frame:
        parent, _, title = path.rpartition("/")
        step = step_of(title)
        around = self.ids[parent]
        own = self.new_id(around, title if step is None else f"t{step}")
        self.ids[path] = f"{around}.{own}" if around else own
        return Frame(self.ids[path], title, around, step)

    def new_id(self, frame: str, text: str) -> str:
        """An id within a frame that no other box or frame in it has, near to a text."""
        near = re.sub("[^A-Za-z0-9_]+", "_", text)[:_LONGEST_ROLE] or "_"
        own = near
        while (frame, own) in self._counts:
            self._counts[frame, near] += 1
            own = f"{near}_{self._counts[frame, near]}"
        self._counts[frame, own] = 1
        return own

    def distance(self, a: str, b: str) -> int:
        """How many timesteps apart two scopes lie in one sequence; 0 if not in one sequence."""
        if a == b or not a or not b:
            return 0
        for x, y in zip(a.split("/"), b.split("/"), strict=False):
            if x != y:
                i, j = step_of(x), step_of(y)
                return 0 if i is None or j is None else abs(i - j)
        return 0

    def common(self, a: str, b: str) -> str:
        """The innermost scope that holds both."""
        if a == b:
            return a
        shared = []
        for x, y in zip(filter(None, a.split("/")), filter(None, b.split("/")), strict=False):
            if x != y:
                break
            shared.append(x)
        return "/".join(shared)

    def hands_over(self, a: str, b: str) -> bool:
        """Whether two scopes lie in different timesteps, of one sequence or of two."""
        if a == b or not a or not b:
            return False
        ways = a.split("/"), b.split("/")
        same = next((i for i, (x, y) in enumerate(zip(*ways, strict=False)) if x != y), min(map(len, ways)))
        i, j = (next((step for step in map(step_of, way[same:]) if step is not None), None) for way in ways)
        return i is not None and j is not None and i != j

    def pattern(self, scope: str) -> str:
        """The scope without the numbers of its timesteps: equal for scopes that correspond."""
        if scope not in self._patterns:
            names = ("t=" if step_of(name) is not None else name for name in scope.split("/"))
            self._patterns[scope] = "/".join(names)
        return self._patterns[scope]


def _in_order(paths: Iterable[str]) -> list[str]:
    """Sibling scopes as they were first met, but timesteps together and by number."""
    others: list[str] = []
    steps: list[tuple[int, str]] = []
    at = 0
    for path in paths:
        step = step_of(path.rpartition("/")[2])
        if step is None:
            others.append(path)
        else:
            if not steps:
                at = len(others)
            steps.append((step, path))
    return [*others[:at], *(path for _, path in sorted(steps)), *others[at:]]
