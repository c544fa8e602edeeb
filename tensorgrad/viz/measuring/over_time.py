"""What fares how through time: the strips under the columns of a drawing, and the triangle beside them.

All of it comes from the one backward walk of the drawing, but for two studies that walk again and again:
the Jacobians of the steps, and the triangle. They are made for as many timesteps as take a moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tensorgrad.backward import backpropagate
from tensorgrad.bptt.jacobians import batch_of, jacobian_rows
from tensorgrad.bptt.partition import entries
from tensorgrad.bptt.rolls import Part, layers_of, state_parts, timestep_finder
from tensorgrad.bptt.saturation import saturation
from tensorgrad.context import configure
from tensorgrad.errors import GraphError
from tensorgrad.graph import Node
from tensorgrad.nn.unroll import Unrolled
from tensorgrad.tensor import Tensor
from tensorgrad.viz.measuring.digest import norms_of
from tensorgrad.viz.measuring.flows import Group
from tensorgrad.viz.measuring.measures import Strip, Triangle
from tensorgrad.viz.model import Frame, Model

__all__ = ["OverTime", "Walked", "Weight", "over_time", "run_around", "weights_of"]

# How many weights have a strip each; of several layers, how many in all.
_WEIGHTS = 6
# The rows and columns of the triangle: all of so many, or of more as many as can still be told apart.
_ALL, _SIDE = 64, 48
# What a study may take, in seconds on a machine of 2020: for so many timesteps it is made, evenly spaced.
_MOMENT = 0.8
_FEWEST = 6
_PER_NODE = 6e-6
_PER_FLOP = 5e-11


class Walked(NamedTuple):
    """A graph and its gradients.

    Attributes:
        model: the drawing of every operation.
        nodes: by creation number.
        total: the number whose gradients they are.
        found: the gradients by creation number.
    """

    model: Model
    nodes: Mapping[int, Node]
    total: Tensor
    found: Mapping[int, np.ndarray]


class Weight(NamedTuple):
    """What many timesteps use.

    Attributes:
        name: what it is called.
        steps: by timestep the arrows through which the timestep adds to its gradient.
        frame: the id of the frame around these timesteps; empty for none.
    """

    name: str
    steps: dict[int, Group]
    frame: str = ""


class OverTime(NamedTuple):
    """What `over_time` found; notes are sentences on what it left out."""

    strips: tuple[Strip, ...]
    triangle: Triangle | None
    notes: tuple[str, ...]


def over_time(graph: Walked, roll: Any, weights: Iterable[Weight], norms: Mapping[Group, float]) -> OverTime:
    """The strips and the triangle of a run.

    Args:
        graph: every operation, and its gradients.
        roll: what `nn.unroll` or the `unroll` of layers returned.
        weights: of `weights_of`.
        norms: of what flows along groups of arrows, those of the weights among them.

    Example:
        >>> import tensorgrad as tg
        >>> from tensorgrad.viz.build import build
        >>> from tensorgrad.viz.measuring.flows import cotangents
        >>> roll = tg.nn.unroll(tg.nn.RNNCell(2, 3, seed=0), np.ones((4, 1, 2)))
        >>> states = {step["h"].index: step["h"] for step in roll.steps}
        >>> loss = tg.sum(roll.outputs)
        >>> graph = Walked(build(loss), states, loss, cotangents(loss, states.values()))
        >>> [strip.title for strip in over_time(graph, roll, [], {}).strips][:2]
        ['norm of dL/dh', 'norm of dh_t/dh_t-1']
    """
    what = "strips"
    try:
        runs = layers_of(what, roll)
        parts = {name: state_parts(what, run) for name, run in runs.items()}
    except GraphError as error:
        return OverTime((), None, (f"No {error}.",))
    reached = {x.index for line in parts.values() for part in line for x in part.after if _flows(x)}
    if reached.isdisjoint(graph.found):
        return OverTime((), None, ("No strips: the output does not depend on the run given as unrolled=.",))
    if not all(x.size for line in parts.values() for part in line for x in part.after):
        return OverTime((), None, ("No strips: the batch is empty.",))
    frames = {name: frame_of(graph.model, run.scope) for name, run in runs.items()}
    strips = [
        _norm_of_gradient(_named(name, part.name), part, graph.found, runs[name].alive, frames[name])
        for name, line in parts.items()
        for part in line
    ]
    strips += [_contribution(weight, len(roll), norms) for weight in weights]
    notes: list[str] = []
    hooked = any(node.hooks for node in graph.nodes.values())
    if hooked:
        notes.append(
            "Without the norms of dh_t/dh_t-1 and of dL_i/dh_j: tensors of this graph have hooks, "
            "which would be called at every step of these studies."
        )
    with configure(anomaly=False), np.errstate(all="ignore"):
        if not hooked:
            for name, run in runs.items():
                strips += _jacobians(name, run, parts[name], graph, frames[name], notes)
        strips += _saturation(roll, runs, frames)
        triangle = None if hooked else _triangle(graph, roll, parts, notes)
    return OverTime(tuple(strips), triangle, tuple(notes))


def frame_of(model: Model, scope: str) -> str:
    """The id of the frame of a scope; empty for none.

    Example:
        >>> frames = Frame("encoder", "encoder", "", None), Frame("encoder.l0", "l0", "encoder", None)
        >>> frame_of(Model((), (), frames), "encoder/l0")
        'encoder.l0'
    """
    frames = {frame.id: frame for frame in model.frames}

    def path(frame: Frame) -> str:
        names = [frame.title]
        while frame.parent:
            frame = frames[frame.parent]
            names.append(frame.title)
        return "/".join(reversed(names))

    return next((f.id for f in model.frames if f.step is None and path(f) == scope), "") if scope else ""


def run_around(model: Model, ids: Iterable[str]) -> str | None:
    """The id of the frame around the timesteps in the first of which one of these boxes stands.

    Empty where nothing is around them, None where no box stands in a timestep.

    Example:
        >>> from tensorgrad.viz.model import Box
        >>> frames = Frame("encoder", "encoder", "", None), Frame("encoder.t0", "t=0", "encoder", 0)
        >>> box = Box("encoder.t0.h", "state", "h", "tanh", "(1, 3)", "float64", "encoder.t0", "h")
        >>> run_around(Model((box,), (), frames), ["encoder.t0.h"])
        'encoder'
    """
    frames = {frame.id: frame for frame in model.frames}
    wanted = set(ids)
    for box in model.boxes:
        frame = frames.get(box.frame) if box.id in wanted else None
        while frame is not None:
            if frame.step is not None:
                return frame.parent
            frame = frames.get(frame.parent)
    return None


def _named(layer: str, name: str) -> str:
    return f"{layer}.{name}" if layer else name


def _flows(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _strip(title: str, T: int, by_step: Mapping[int, float], kind: Any, frame: str) -> Strip:
    values = np.zeros(T)
    known = np.zeros(T, bool)
    for t, value in by_step.items():
        values[t], known[t] = value, True
    return Strip(title, values, known, kind, frame)


# --- from the one walk -----------------------------------------------------------------------------------
def _norm_of_gradient(
    name: str, part: Part, found: Mapping[int, np.ndarray], alive: np.ndarray | None, frame: str
) -> Strip:
    line = {t: found[x.index] for t, x in enumerate(part.after) if _flows(x) and x.index in found}
    # Under a mask there are two of one name: what the cell computed, and what is handed on.
    which = "" if alive is None else ", as handed on"
    return _strip(f"norm of dL/d{name}{which}", len(part.after), norms_of(line), "gradient", frame)


def _contribution(weight: Weight, T: int, norms: Mapping[Group, float]) -> Strip:
    known = {t: norms[group] for t, group in weight.steps.items() if group in norms}
    return _strip(f"each step's share in the gradient of {weight.name}", T, known, "gradient", weight.frame)


def weights_of(
    model: Model, nodes: Mapping[int, Node], roll: Any, every: bool = False
) -> tuple[list[Weight], list[str]]:
    """The weights whose gradient is split by timestep, the recurrent ones first, and the names of the others.

    Args:
        model: of every operation.
        nodes: by creation number.
        roll: what `nn.unroll` or the `unroll` of layers returned.
        every: whether to take all of them, not only as many as a picture has room for.

    Example:
        >>> import tensorgrad as tg
        >>> from tensorgrad.viz.build import build, computed_from
        >>> roll = tg.nn.unroll(cell := tg.nn.RNNCell(2, 3, seed=0), np.ones((4, 1, 2)))
        >>> loss = tg.sum(roll.outputs)
        >>> nodes = {node.index: node for node in computed_from([loss])}
        >>> weights, _ = weights_of(build(loss, roll, cell), nodes, roll)
        >>> [weight.name for weight in weights], sorted(weights[0].steps)
        (['weight_hh', 'weight_ih', 'bias_ih', 'bias_hh'], [0, 1, 2, 3])
    """
    if not isinstance(roll, Unrolled):
        return [], []
    timestep = timestep_finder(roll)
    boxes = {box.id: box for box in model.boxes}
    # Which operand of an operation is a state from the timestep before.
    states = {arrow.head: arrow.argnum for arrow in model.arrows if arrow.carried}
    users: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    recurrent: set[str] = set()
    for number, arrow in enumerate(model.arrows):
        tail, head = boxes[arrow.tail].number, boxes[arrow.head].number
        if tail is None or head is None or not _is_weight(nodes[tail], timestep):
            continue
        t = timestep(nodes[head])
        if t is not None:
            users[arrow.tail][t].append(number)
            # h @ W, linear(h, W), affine(x, W, h, U), w * h: what the state is multiplied by.
            after = states.get(arrow.head, -1) + 1
            last = len(nodes[head].operands) - 1
            if arrow.head in states and arrow.argnum == (after if after <= last else after - 2):
                recurrent.add(arrow.tail)
    shared = [name for name, steps in users.items() if len(steps) > 1 or len(roll) == 1]
    order = {name: k for k, name in enumerate(users)}
    shared.sort(key=lambda x: (x not in recurrent, -_ndim(nodes, boxes[x].number), order[x]))
    most = len(shared) if every else _WEIGHTS
    if not every and len(getattr(roll, "layers", ())) > 1:
        most = min(most, max(1, sum(name in recurrent for name in shared)))
    weights = []
    for name in shared[:most]:
        steps = {t: tuple(numbers) for t, numbers in users[name].items()}
        heads = (model.arrows[n].head for numbers in steps.values() for n in numbers)
        weights.append(Weight(boxes[name].name or name, steps, run_around(model, heads) or ""))
    return weights, [boxes[name].name or name for name in shared[most:]]


def _ndim(nodes: Mapping[int, Node], number: int | None) -> int:
    return 0 if number is None else nodes[number]._value.ndim


def _is_weight(node: Node, timestep: Any) -> bool:
    """Whether a node is a leaf, or made of one outside of all timesteps, such as a transpose."""
    if not node.requires_grad or node._value.ndim > 2:
        return False
    while node.op is not None:
        if timestep(node) is not None or len(node.live) != 1 or node.op.expand is not None:
            return False
        node = node.operands[node.live[0]]
    return True


def _saturation(roll: Any, runs: Mapping[str, Unrolled], frames: Mapping[str, str]) -> list[Strip]:
    try:
        found = saturation(roll).over_time
    except GraphError:
        # No sigmoid and no tanh: nothing that could saturate.
        return []
    if len(runs) == 1:
        frame = next(iter(frames.values()))
        return [_share(f"share of {name} that is saturated", line, frame) for name, line in found.items()]
    strips = []
    for name in runs:
        lines = [line for key, line in found.items() if key.startswith(f"{name}.")]
        if lines:
            strips.append(_share(f"share of {name} that is saturated", np.mean(lines, axis=0), frames[name]))
    return strips


def _share(title: str, line: np.ndarray, frame: str) -> Strip:
    known = ~np.isnan(line)
    return Strip(title, np.where(known, line, 0.0), known, "share", frame)


# --- walk after walk -------------------------------------------------------------------------------------
def _spread(items: Sequence[int], count: int) -> list[int]:
    """So many of some, evenly spaced, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    places = np.linspace(0, len(items) - 1, max(count, 2)).round().astype(int)
    return [items[k] for k in dict.fromkeys(places.tolist())]


def _jacobians(
    name: str, run: Unrolled, parts: list[Part], graph: Walked, frame: str, notes: list[str]
) -> list[Strip]:
    """By how much each step of a run stretches a state at most."""
    T = len(run)
    steps = [t for t in range(T) if all(_flows(part.before[t]) for part in parts)]
    if not steps:
        return []
    states = ", ".join(part.name for part in parts)
    whole = f"({states})" if len(parts) > 1 else states
    title = f"norm of d{whole}_t/d{whole}_t{'+' if run.reverse else '-'}1"
    title = f"{name}: {title}" if name else title
    after = [part.after[steps[0]] for part in parts]
    B = batch_of(after)
    S = sum(x.size // B for x in after)
    finder = timestep_finder(run)
    inside = [node for node in graph.nodes.values() if finder(node) is not None]
    seconds = S * sum(map(_seconds, inside)) / T + 20 * _PER_FLOP * B * S**3
    count = int(_MOMENT / seconds)
    if count < min(_FEWEST, len(steps)):
        notes.append(f"Without the {title}: a state of {S:,} numbers has too large Jacobians.")
        return []
    some = _spread(steps, count)
    if len(some) < len(steps):
        notes.append(f"The {title} was taken at {len(some)} of {T:,} timesteps.")
    found = {t: _spectral_norm([p.after[t] for p in parts], [p.before[t] for p in parts]) for t in some}
    return [_strip(title, T, found, "factor", frame)]


def _spectral_norm(after: Sequence[Any], before: Sequence[Any]) -> float:
    """The greatest singular value, of that sequence of the batch where it is greatest."""
    matrices = jacobian_rows(after, before)
    if not np.isfinite(matrices).all():
        return float(np.abs(matrices).sum())
    return float(np.linalg.norm(matrices, ord=2, axis=(1, 2)).max())


def _seconds(node: Node) -> float:
    """About what the backward of an operation takes."""
    size = node._value.size
    factors = (arg for arg in node.args if arg.ndim == 2 and arg.shape != node._value.shape)
    inner = max((arg.shape[-1] for arg in factors), default=1)
    return _PER_NODE + _PER_FLOP * 4 * size * inner


def _triangle(
    graph: Walked, roll: Any, parts: Mapping[str, Sequence[Part]], notes: list[str]
) -> Triangle | None:
    """The norms of dL_i/dh_j for the first part of the state of the last layer."""
    feeds = entries("strips", graph.total, roll)
    if len(feeds) < 2:
        return None
    layer = [name for name in parts if not name.endswith("_reverse")][-1:] or list(parts)[-1:]
    part = parts[layer[0]][0]
    name = _named(layer[0], part.name)
    title = f"norm of dL_i/d{name}_j"
    # Half of it, for a walk from the middle of the run goes through half of the graph.
    count = int(_MOMENT / (sum(map(_seconds, graph.nodes.values())) / 2))
    if count < min(_FEWEST, len(feeds)):
        notes.append(f"Without the {title}: it takes a backward for every timestep.")
        return None
    side = len(part.after) if len(part.after) <= _ALL else _SIDE
    rows = _spread(list(feeds), min(count, side))
    columns = _spread([t for t, x in enumerate(part.after) if _flows(x)], side)
    if len(rows) < len(feeds):
        notes.append(f"The {title} was taken for {len(rows)} of {len(feeds):,} timesteps i.")
    norms = np.zeros((len(rows), len(columns)))
    known = np.zeros(norms.shape, bool)
    nodes = [part.after[t] for t in columns]
    for i, row in enumerate(rows):
        found = backpropagate(feeds[row], nodes)
        line = {j: found[x.index] for j, x in enumerate(nodes) if x.index in found}
        for j, norm in norms_of(line).items():
            norms[i, j], known[i, j] = norm, True
    return Triangle(title, np.array(rows), np.array(columns), norms, known)
