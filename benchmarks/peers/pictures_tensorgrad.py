"""The network of ``benchmarks.peers.pictures`` recorded by tensorgrad, and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn
from tensorgrad.viz.writers.render import render


class Network(NamedTuple):
    """A recorded graph, and what `tg.viz.draw` likes to know about it."""

    loss: Any
    unrolled: Any
    params: dict[str, Any]

    def draw(self, **options: Any) -> tg.viz.Drawing:
        return tg.viz.draw(self.loss, unrolled=self.unrolled, params=self.params, **options)


def record(T: int, H: int, V: int) -> Network:
    """The graph of the network on a random text of one sequence."""
    recurrent, readout = nn.RNNCell(V, H, seed=0), nn.Linear(H, V, seed=1)
    text = np.random.default_rng(0).integers(V, size=(T + 1, 1))

    def step(x: Any, h: Any) -> tuple[Any, Any]:
        h, _ = recurrent(x, h)
        return tg.label(readout(h), "y"), h

    unrolled = nn.unroll(step, F.one_hot(text[:-1], V))
    losses = []
    for t, labelled in enumerate(unrolled.steps):
        with tg.scope(f"t={t}"):
            losses.append(tg.label(F.cross_entropy(labelled["y"], text[t + 1]), "L"))
    loss = tg.label(tg.mean(tg.stack(losses)), "loss")
    return Network(loss, unrolled, {"cell": recurrent, "output": readout})


def tensorgrad_svg(T: int, H: int, V: int, path: Path) -> None:
    record(T, H, V).draw(steps="all").save(path)


def tensorgrad_dot(T: int, H: int, V: int, path: Path) -> None:
    path.write_bytes(render(record(T, H, V).draw(steps="all").source, "svg"))


def tensorgrad_short(T: int, H: int, V: int, path: Path) -> None:
    record(T, H, V).draw().save(path)


def micrograd_style(T: int, H: int, V: int, path: Path) -> None:
    """As micrograd draws its scalars: a record a value, a circle an operation, and `dot` does the rest."""
    import graphviz

    picture = graphviz.Digraph(graph_attr={"rankdir": "LR"}, node_attr={"shape": "record"})
    loss = record(T, H, V).loss
    seen, waiting = {id(loss)}, [loss]
    while waiting:
        value = waiting.pop()
        name = str(id(value))
        label = getattr(value, "name", None) or ""
        picture.node(name, f"{{ {label} | data {value.shape} | grad {value.shape} }}")
        if getattr(value, "op", None) is None:
            continue
        picture.node(f"{name}op", value.op.name, shape="ellipse")
        picture.edge(f"{name}op", name)
        for operand in value.operands:
            picture.edge(str(id(operand)), f"{name}op")
            if id(operand) not in seen:
                seen.add(id(operand))
                waiting.append(operand)
    picture.render(outfile=path, format="svg")
