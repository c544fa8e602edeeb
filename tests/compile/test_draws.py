"""Random draws of compiled functions: the very numbers that eager mode draws, in the same order."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn
from tensorgrad import random as tg_random
from tensorgrad.compile.draws import DrawnLoop
from tensorgrad.errors import GraphError

from .common import assert_same, batch

LAYERS: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def step_of(model: Any, **options: Any) -> Any:
    def loss(model: Any, xs: Any, lengths: Any) -> Any:
        out, _ = model(xs, None, lengths, **options)
        return (out * out).mean()

    return lambda xs, lengths=None: tg.value_and_grad(loss)(model, xs, lengths)


WAYS = list(
    itertools.product(
        sorted(LAYERS),
        [0.0, 0.4],
        [False, True],
        [0.0, 0.3],
        [0.0, 0.5],
        ["forward", "reverse", "bidirectional"],
        [False, True],
    )
)


# Every 23rd of 288: each choice is met in many company.
@pytest.mark.parametrize(
    ("cell", "dropout", "variational", "recurrent", "zoneout", "way", "ragged"), WAYS[::23]
)
def test_layers_draw_what_eager_ones_draw(
    cell: str,
    dropout: float,
    variational: bool,
    recurrent: float,
    zoneout: float,
    way: str,
    ragged: bool,
) -> None:
    def make() -> Any:
        return LAYERS[cell](
            3,
            4,
            num_layers=2,
            bidirectional=way == "bidirectional",
            dropout=dropout,
            variational=variational,
            # Other cells refuse it.
            recurrent_dropout=recurrent if cell == "lstm" else 0.0,
            zoneout=zoneout,
            seed=3,
        )

    eager, compiled = (step_of(make(), reverse=way == "reverse") for _ in range(2))
    step = tg.compile(compiled)
    for T, B in ((4, 2), (5, 3), (4, 2)):
        xs, _, lengths = batch(T, B)
        given_ = (xs, lengths) if ragged else (xs,)
        assert_same(step(*given_), eager(*given_))
    assert step.cache_info().programs == 1


@pytest.mark.parametrize("piece", [2, "sqrt"])
def test_checkpointed_layers(piece: Any) -> None:
    models = [nn.GRU(3, 4, num_layers=2, dropout=0.3, zoneout=0.2, seed=1) for _ in range(3)]
    plain, kept = step_of(models[0]), step_of(models[1], checkpoint=piece)
    step = tg.compile(step_of(models[2], checkpoint=piece))
    for _ in range(2):
        xs = batch(7, 2)[0]
        expected = plain(xs)
        assert_same(kept(xs), expected)
        assert_same(step(xs), expected)


def test_a_checkpointed_function_draws_once() -> None:
    pair = nn.Dropout(0.5, seed=4), nn.Dropout(0.5, seed=4)

    def loss(drop: Any, x: Any) -> Any:
        return tg.value_and_grad(lambda x: (tg.checkpoint(lambda x: drop(x * x), x) * x).sum())(x)

    step = tg.compile(lambda x: loss(pair[1], x))
    for _ in range(2):
        x = batch(3, 2)[0]
        assert_same(step(x), loss(pair[0], x))


def test_the_package_generator_and_numbers_as_seeds() -> None:
    fn = lambda x: (F.dropout(x, 0.5), F.dropout(x, 0.5, seed=7), F.dropout(x, 0.25, seed=None))  # noqa: E731
    step = tg.compile(fn)
    x = batch(6, 3)[0]
    for seed in (0, 1):
        found = []
        for run in (step, fn):
            tg_random.manual_seed(seed)
            found.append([run(x), run(x)])
        assert_same(*found)
        assert not np.array_equal(found[0][0][0], found[0][1][0])
        np.testing.assert_array_equal(found[0][0][1], found[0][1][1])


def test_tracing_draws_nothing() -> None:
    drop = nn.Dropout(0.5, seed=0)
    before = drop.rng.bit_generator.state
    with pytest.raises(GraphError):
        tg.compile(lambda x: float(drop(x).sum()))(np.ones(3))
    assert drop.rng.bit_generator.state == before


def test_loops_within_loops() -> None:
    pair = [np.random.default_rng(2) for _ in range(2)]

    def nested(rng: Any, xs: Any) -> Any:
        def inner(x: Any, h: Any) -> Any:
            h = tg.tanh(F.dropout(h, 0.3, seed=rng) + x)
            return h, h

        def outer(x: Any, h: Any) -> Any:
            h = F.dropout(nn.unroll(inner, x, h, reverse=True).state, 0.2, seed=rng)
            return h, h

        return nn.unroll(outer, xs, np.ones(2)).outputs

    xs = np.random.default_rng(0).standard_normal((3, 4, 2))
    step = tg.compile(lambda xs: nested(pair[1], xs))
    for _ in range(2):
        assert_same(step(xs), nested(pair[0], xs))


def test_a_generator_made_within_is_refused() -> None:
    with pytest.raises(GraphError, match="made within the function"):
        tg.compile(lambda x: F.dropout(x, 0.5, seed=np.random.default_rng(0)))(np.ones(3))


def test_another_order_of_draws_is_found() -> None:
    """The comparison with eager mode sees a loop whose draws come in the other order of time."""
    models = [nn.GRU(3, 4, zoneout=0.5, seed=1) for _ in range(2)]
    eager, step = step_of(models[0]), tg.compile(step_of(models[1]))
    xs = batch(5, 2)[0]
    assert_same(step(xs), eager(xs))
    (loop,) = step._last.draws
    assert isinstance(loop, DrawnLoop)
    loop.reverse = True
    with pytest.raises(AssertionError):
        assert_same(step(xs), eager(xs))


@pytest.mark.usefixtures("numpy_pages")
def test_the_page_is_given_the_masks(tmp_path: Path) -> None:
    model = nn.RNN(3, 4, zoneout=0.5, seed=1)

    def run(xs: Any) -> Any:
        return model(xs)[0]

    step = tg.compile(run)
    xs = batch(5, 2)[0]
    rng = np.random.default_rng()
    rng.bit_generator.state = model.rng.bit_generator.state
    expected = step(xs).numpy()
    step.save(tmp_path / "page.py")
    assert "mask: random numbers, for zoning out, bool (T, B, 4)" in step.source
    mask = np.stack([rng.random((2, 4)) < 0.5 for _ in range(5)])
    np.savez(tmp_path / "given.npz", xs, mask, *[p.numpy() for p in step._last.captured])
    code = (
        "import sys; sys.modules['tensorgrad'] = None\n"
        "import numpy as np, page\n"
        "z = np.load('given.npz')\n"
        "np.save('made.npy', page.run(*[z[f'arr_{k}'] for k in range(len(z))])[0])\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "made.npy"), expected)
