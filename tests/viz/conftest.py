"""Graphs to draw, and a look at what Graphviz makes of a drawing."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import nn
from tensorgrad.viz.dot import _GAP

CELLS = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}"


@dataclass
class Case:
    """An output to draw, and what goes with it."""

    output: Any
    unrolled: Any = None
    params: Any = None


def char_rnn(T: int, cell: str = "rnn") -> Case:
    """A character model with a loss at every timestep."""
    recurrent, readout = CELLS[cell](5, 3, seed=0), nn.Linear(3, 5, seed=1)
    text = np.arange(T + 1)[:, None] % 5

    def step(x: Any, state: Any) -> Any:
        h, state = recurrent(x, state)
        return tg.label(readout(h), "y"), state

    roll = nn.unroll(step, tg.one_hot(text[:-1], 5))
    losses = []
    for t in range(T):
        with tg.scope(f"t={t}"):
            losses.append(tg.label(tg.cross_entropy(roll.steps[t]["y"], text[t + 1]), "L"))
    loss = tg.label(tg.mean(tg.stack(losses)), "loss")
    return Case(loss, roll, {"cell": recurrent, "output": readout})


def stacked(T: int) -> Case:
    """Two layers in each timestep, each in a scope of its own."""
    lower, upper = nn.LSTMCell(2, 3, seed=0), nn.LSTMCell(3, 3, seed=1)

    def step(x: Any, state: Any) -> Any:
        below, above = state or (None, None)
        with tg.scope("lower"):
            h, below = lower(x, below)
        with tg.scope("upper"):
            h, above = upper(h, above)
        return h, (below, above)

    roll = nn.unroll(step, np.ones((T, 1, 2)))
    return Case(tg.mean(roll.outputs), roll)


def bidirectional(T: int) -> Case:
    """A run forwards and a run backwards, in scopes of their own, put together timestep by timestep."""
    xs = np.ones((T, 1, 2))
    with tg.scope("forwards"):
        there = nn.unroll(nn.RNNCell(2, 3, seed=0), xs)
    with tg.scope("backwards"):
        back = nn.unroll(nn.RNNCell(2, 3, seed=1), xs, reverse=True)
    both = []
    for t in range(T):
        with tg.scope(f"t={t}"):
            both.append(tg.concatenate([there.steps[t]["h"], back.steps[t]["h"]], axis=-1))
    return Case(tg.mean(tg.stack(both)))


def attention(T: int) -> Case:
    """An encoder, and a decoder that goes on from its state and attends to its outputs."""
    with tg.scope("encoder"):
        encoded = nn.unroll(nn.GRUCell(2, 3, seed=0), np.ones((T, 1, 2)))
    memory = tg.label(encoded.outputs, "memory")
    cell = nn.GRUCell(3, 3, seed=1)

    def step(x: Any, h: Any) -> Any:
        with tg.scope("attention"):
            weights = tg.label(tg.softmax(tg.sum(memory * h, -1), axis=0), "weights")
            context = tg.label(tg.sum(memory * tg.expand_dims(weights, -1), 0), "context")
        return cell(context + x, h)

    with tg.scope("decoder"):
        decoded = nn.unroll(step, np.ones((T, 1, 3)), encoded.state)
    return Case(tg.mean(decoded.outputs), decoded)


def running_sum(T: int) -> Case:
    """A loss that is summed up as the timesteps go by, and an input that needs a gradient."""
    xs = tg.tensor(np.ones((T, 1, 2)), requires_grad=True, name="xs")
    cell = nn.RNNCell(2, 3, seed=0)
    h: Any = tg.tensor(np.zeros((1, 3)), name="h0")
    total: Any = 0
    for t in range(T):
        with tg.scope(f"t={t}"):
            h, _ = cell(xs[t], h)
            total = tg.label(total + tg.mean(h * h), "total")
    return Case(total)


class Leaky(nn.Module):
    """A cell whose state is two tensors, and which labels nothing but them."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.w_xh = nn.Parameter(rng.normal(size=(2, 3)))
        self.w_hh = nn.Parameter(rng.normal(size=(3, 3)))
        self.w_xc = nn.Parameter(rng.normal(size=(2, 3)))

    def forward(self, x: Any, state: Any = None) -> Any:
        h, c = state if state is not None else (np.zeros((2, 3)), np.zeros((2, 3)))
        c = tg.label(0.9 * c + tg.tanh(x @ self.w_xc + h @ self.w_hh), "c")
        h = tg.label(tg.tanh(c) * tg.sigmoid(x @ self.w_xh), "h")
        return h, (h, c)


def lengths(T: int, cell: Callable[..., Any]) -> Case:
    """Two sequences, one of which ends two timesteps before the other."""
    roll = nn.unroll(cell, np.ones((T, 2, 2)), lengths=[T, max(T - 2, 1)])
    return Case(tg.sum(roll.outputs), roll)


GRAPHS: dict[str, Callable[[int], Case]] = {
    "rnn": char_rnn,
    "lstm": lambda T: char_rnn(T, "lstm"),
    "gru": lambda T: char_rnn(T, "gru"),
    "stacked": stacked,
    "bidirectional": bidirectional,
    "attention": attention,
    "running sum": running_sum,
    "lengths": lambda T: lengths(T, nn.LSTMCell(2, 3, seed=0)),
    "lengths, own cell": lambda T: lengths(T, Leaky()),
}


@dataclass
class Seen:
    """What a rendered drawing shows.

    texts: the lines of text in each box, by its id. tooltips: those of the boxes. arrows: how many there are.
    boxes, frames: where boxes and frames are, as (left, bottom, right, top).
    """

    texts: dict[str, list[str]]
    tooltips: dict[str, str]
    arrows: int
    boxes: dict[str, tuple[float, float, float, float]]
    frames: dict[str, tuple[float, float, float, float]]


@pytest.fixture(scope="session")
def look() -> Callable[[str], Seen]:
    """Lay out a DOT text with Graphviz and look at it; the test is skipped without pygraphviz."""
    pygraphviz = pytest.importorskip("pygraphviz")

    def see(source: str) -> Seen:
        graph = pygraphviz.AGraph(string=source)
        svg = ET.fromstring(graph.draw(format="svg", prog="dot"))
        texts, tooltips = {}, {}
        groups = list(svg.iter(f"{_SVG}g"))
        for group in groups:
            if group.get("class") == "node":
                name = group.findtext(f"{_SVG}title") or ""
                texts[name] = [
                    text.text or ""
                    for text in group.iter(f"{_SVG}text")
                    if float(text.get("font-size") or 0) != _GAP
                ]
                tooltips[name] = "".join(a.get(f"{_LINK}title") or "" for a in group.iter(f"{_SVG}a"))
        arrows = sum(group.get("class") == "edge" for group in groups)
        boxes, frames = {}, {}
        # In JSON, Graphviz cuts some texts with backslashes short, and may cut a letter in two.
        layout = graph.draw(format="json", prog="dot").decode(errors="replace")
        for item in json.loads(layout)["objects"]:
            if item["name"].startswith("cluster_"):
                left, bottom, right, top = map(float, item["bb"].split(","))
                frames[item["name"].removeprefix("cluster_")] = left, bottom, right, top
            elif "pos" in item and item.get("style") != "invis":
                x, y = map(float, item["pos"].split(","))
                w, h = 36 * float(item["width"]), 36 * float(item["height"])
                boxes[item["name"]] = x - w, y - h, x + w, y + h
        return Seen(texts, tooltips, arrows, boxes, frames)

    return see


def visible_arrows(source: str) -> int:
    """How many arrows a DOT text has, those left out that only guide the layout."""
    statements = [line for line in source.splitlines() if " -> " in line]
    return sum(not re.search("style=invis", line) for line in statements)
