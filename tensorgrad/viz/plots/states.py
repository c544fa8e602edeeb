"""What a run holds at each timestep: its states, its gates, and where attention looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tensorgrad import tree
from tensorgrad.bptt import Saturation
from tensorgrad.bptt.rolls import single_run
from tensorgrad.bptt.saturation import RANGES
from tensorgrad.errors import GraphError, ShapeError, UserError
from tensorgrad.nn.unroll import Unrolled
from tensorgrad.viz.plots import given

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["alignment", "gates", "hidden_states", "saturation"]

_HOW_TO_STATES = 'np.stack([step["h"].numpy()[0] for step in roll.steps]) are those of the first sequence'
# What makes a gate, and what its heat map is called.
_GATES = {"sigmoid": "Gate", "exp": "Gate", "tanh": "Candidate"}


def hidden_states(hs: npt.ArrayLike, tokens: Sequence[Any] | None = None, ax: Axes | None = None) -> Figure:
    """What the state holds while a sequence goes by: units up, time to the right, blue below 0 and red above.

    Args:
        hs: (T, H) numbers, the state at each timestep. What is not finite is grey, with a sign in it.
        tokens: T tokens that were read, to stand below their timesteps.
        ax: where to draw; a new figure by default.

    Raises:
        ShapeError: `hs` is empty or not 2-d, or the number of tokens is not T.
        DtypeError: `hs` are no real numbers.
        UserError: `ax` is something else.
        PlotError: matplotlib is not installed.

    Example:
        >>> figure = hidden_states(np.zeros((5, 3)), tokens="hello")
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['h', 'e', 'l', 'l', 'o']
    """
    what = "hidden_states"
    values = given.numbers(what, hs, ["time", "hidden units"], _HOW_TO_STATES)
    T, H = values.shape
    given.tokens_for(what, tokens, T)
    from tensorgrad.viz.plots import charts, look

    size = _width(T, tokens), min(max(0.09 * H + 2, 2.6), 7.0) + _below(tokens, look.TOKEN)
    (ax,) = look.panels(what, ax, 1, size)
    notes = charts.heat(ax, values.T, "activation", charts.span_of(values, signed=True))
    title = "Hidden states over time"
    look.dress(ax, title, _time(tokens), "hidden unit", notes, counted="xy", grid=False)
    if tokens is not None:
        look.token_ticks(ax, "x", tokens)
    return look.figure_of(ax)


def gates(
    roll: Unrolled,
    names: Sequence[str] | None = None,
    sequence: int = 0,
    tokens: Sequence[Any] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """What each gate does while a sequence goes by: one heat map a gate, units up, time to the right.

    Gates are found by what they are: labelled in every timestep, made by a sigmoid, tanh or exp, and no part
    of the state. Those of an LSTM are i, f, g and o; those of a GRU r, z and n.

    Args:
        roll: what `nn.unroll` returned; of layers one, such as `roll.layers["l0"]`.
        names: the labels to show in place of those found; anything that the cell labelled, such as "c".
        sequence: which one of the batch. After its end the heat maps are blank.
        tokens: T tokens that were read, to stand below their timesteps.
        ax: where to draw, an axes for each gate; a new figure by default, with the gates one above the other.

    Raises:
        GraphError: there are no gates, no such label, several layers, or no timesteps on record
            (checkpoint=...).
        ShapeError: the number of tokens is not T, or a label is not one vector for each sequence.
        UserError: there is no such sequence, or `ax` is something else.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad import nn
        >>> figure = gates(nn.unroll(nn.GRUCell(2, 3, seed=0), np.ones((5, 1, 2))))
        >>> [axes.get_title(loc="left") for axes in figure.axes[:3]]
        ['Gate r', 'Gate z', 'Candidate n']
    """
    what = "gates"
    run = single_run(what, roll)
    T = len(run)
    given.tokens_for(what, tokens, T)
    names = _found_gates(run) if names is None else [names] if isinstance(names, str) else list(names)
    shown = [_of_sequence(what, run, name, sequence) for name in names]
    if not shown:
        raise UserError(f"{what}: names has no label in it; leave it out to see all gates")
    ended = np.zeros(T, bool) if run.alive is None else ~run.alive[:, sequence]
    from tensorgrad.viz.plots import charts, look

    size = _width(T, tokens), 1.5 * len(names) + 0.8 + _below(tokens, look.TOKEN)
    axes = look.panels(f"{what} ({', '.join(names)})", ax, len(names), size, stacked=True)
    for each, name, values in zip(axes, names, shown, strict=True):
        op = _made_by(run, name)
        span = RANGES.get(op, charts.span_of(values[~ended]))
        notes = charts.heat(each, values.T, "", span, np.broadcast_to(ended, values.T.shape))
        last = ax is not None or each is axes[-1]
        title = f"{_GATES.get(op, 'Label')} {look.plain(name)}"
        look.dress(each, title, _time(tokens) if last else "", "unit", notes, counted="xy", grid=False)
        if last and tokens is not None:
            look.token_ticks(each, "x", tokens)
    return look.figure_of(axes[0])


def alignment(
    weights: npt.ArrayLike,
    source: Sequence[Any] | None = None,
    target: Sequence[Any] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Where attention looks: a row for each token written, the source to the right, brighter for more.

    Args:
        weights: (T_out, T_in) numbers from 0 to 1, the share of each source token in what a target token saw.
        source: T_in tokens that were read.
        target: T_out tokens that were written.
        ax: where to draw; a new figure by default.

    Raises:
        ShapeError: `weights` is empty or not 2-d, or the number of tokens is another.
        DtypeError: `weights` are no real numbers.
        UserError: a weight is below 0 or above 1, or `ax` is something else.
        PlotError: matplotlib is not installed.

    Example:
        >>> figure = alignment(np.eye(3)[::-1], "abc", "cba")
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['c', 'b', 'a']
    """
    what = "alignment"
    values = given.numbers(what, weights, ["target", "source"])
    T_out, T_in = values.shape
    given.tokens_for(what, source, T_in, "source timesteps")
    given.tokens_for(what, target, T_out, "target timesteps")
    finite = values[np.isfinite(values)]
    if (finite < -1e-6).any() or (finite > 1 + 1e-6).any():
        raise UserError(
            f"{what}: weights lie between 0 and 1, but these between {finite.min():.3g} and "
            f"{finite.max():.3g}; are they scores, before the softmax?"
        )
    from tensorgrad.viz.plots import charts, look

    (ax,) = look.panels(what, ax, 1, tuple(min(max(0.26 * T + 2, 4.0), 12.0) for T in (T_in, T_out)))
    notes = charts.heat(ax, values, "weight", (0, 1))
    # The first token written stands above the second.
    ax.set_ylim(T_out - 0.5, -0.5)
    x, y = ("source" if source is None else "source token", "target" if target is None else "target token")
    look.dress(ax, "Alignment", x, y, notes, counted="xy", grid=False)
    if source is not None:
        look.token_ticks(ax, "x", source)
    if target is not None:
        look.token_ticks(ax, "y", target)
    return look.figure_of(ax)


def saturation(found: Saturation, ax: Sequence[Axes] | None = None) -> Figure:
    """Saturation of every sigmoid and tanh: over all timesteps, and timestep by timestep.

    To the left the shares of units near the lower end (to the left of 0) and the upper end of their range, to
    the right the sum of both in each timestep.

    Args:
        found: what `tg.bptt.saturation` returned.
        ax: where to draw, a pair of axes; a new figure by default.

    Raises:
        DtypeError: `found` is something else.
        UserError: `ax` is something else.
        PlotError: matplotlib is not installed.

    Example:
        >>> from tensorgrad.bptt import Saturation
        >>> figure = saturation(Saturation({"f": np.zeros((4, 3))}, {"f": np.ones((4, 3))}, 0.1))
        >>> figure.axes[1].images[0].get_array().tolist()
        [[1.0, 1.0, 1.0, 1.0]]
    """
    what = "saturation"
    given.one(what, found, Saturation)
    if not found.low:
        raise UserError(f"{what}: there is no sigmoid and no tanh in it")
    from tensorgrad.viz.plots import charts, look

    names = list(found.low)
    left, right = look.panels(what, ax, 2, (11, max(4.0, 1.5 + 0.3 * len(names))))
    at = np.arange(len(names))
    colors = look.palette(left)
    # A bar that is alone is not to be a wall.
    height = min(0.8, 0.25 * len(names))
    low = left.barh(at, [-np.nanmean(found.low[name]) for name in names], height, color=colors[0])
    high = left.barh(at, [np.nanmean(found.high[name]) for name in names], height, color=colors[1])
    left.axvline(0, **look.RULE)
    left.set_xlim(-1, 1)
    ends = {"lower end": low[0], "upper end": high[0]}
    look.dress(left, "Saturation", f"share within {found.tail:g} of an end", "", legend=ends, counted="")
    ticks = np.linspace(-1, 1, 5)
    left.set_xticks(ticks, labels=[f"{abs(tick):g}" for tick in ticks])
    over_time = np.stack([found.over_time[name] for name in names])
    # At a timestep at which every sequence has ended there is no share.
    notes = charts.heat(right, over_time, "share saturated", (0, 1), np.isnan(over_time))
    look.dress(right, "Over time, both ends", "timestep $t$", "", notes, grid=False)
    for each in (left, right):
        each.set_yticks(at, labels=[look.plain(name, 20) for name in names], parse_math=False)
        each.set_ylim(len(names) - 0.5, -0.5)
    return look.figure_of(left)


def _found_gates(run: Unrolled) -> list[str]:
    """The labels of all timesteps under which gates stand, in the order of their computation."""
    labels = [name for name in run.steps[0] if all(name in step for step in run.steps)]
    no_gates = {id(leaf) for state in run.states for leaf in tree.leaves(state)}
    no_gates |= {id(step.get("output")) for step in run.steps}
    found = [
        name for name in labels if _made_by(run, name) in _GATES and id(run.steps[0][name]) not in no_gates
    ]
    if not found:
        raise GraphError(
            "gates: no label stands for a sigmoid, tanh or exp beside the state in every timestep (under "
            f"no_grad nothing is known of that); name those to show, names=[...], out of {', '.join(labels)}"
        )
    return found


def _made_by(run: Unrolled, name: str) -> str:
    op = run.steps[0][name].op
    return op.name if op is not None else ""


def _of_sequence(what: str, run: Unrolled, name: str, sequence: int) -> np.ndarray:
    """What is labelled so, of one sequence, (T, units)."""
    lost = next((t for t, step in enumerate(run.steps) if name not in step), None)
    if lost is not None:
        labels = ", ".join(run.steps[lost])
        raise GraphError(
            f"{what}: nothing is labelled {name!r} at timestep {lost}; labels there are {labels}"
        )
    values = np.stack([step[name].numpy() for step in run.steps]).astype(np.float64)
    values = values[:, None] if values.ndim == 2 else values
    if values.ndim != 3:
        raise ShapeError(
            f"{what}: {name!r} is to be (B, units) or (units,) at each timestep, but its shape is "
            f"{values.shape[1:]}"
        )
    B = values.shape[1]
    if not isinstance(sequence, int | np.integer) or not 0 <= sequence < B:
        raise UserError(f"{what}: sequence is one of 0..{B - 1}, the batch of this run, not {sequence!r}")
    return values[:, sequence]


def _time(tokens: Sequence[Any] | None) -> str:
    return "timestep $t$" if tokens is None else "token"


def _below(tokens: Sequence[Any] | None, most: int) -> float:
    """Inches for tokens that stand upright below a plot, of at most so many letters."""
    longest = max((len(str(token)) for token in tokens), default=0) if tokens is not None else 0
    return 0.1 * min(longest, most) if longest > 2 else 0.0


def _width(T: int, tokens: Sequence[Any] | None) -> float:
    """Inches for a heat map over time: with tokens enough to read them."""
    return min(max(0.17 * T + 2.5, 6.0), 8.0 if tokens is None else 16.0)
