"""Models and layers, compiled: the gradients of eager mode, by one program for all T and B."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn, tree
from tensorgrad.data import Vocabulary
from tensorgrad.data.pairs import Pairs, reversal
from tensorgrad.models.attention import AttentiveSeq2Seq
from tensorgrad.models.char_lm import CharLM
from tensorgrad.models.embedding import WordEmbedding, batches
from tensorgrad.models.seq2seq import Seq2Seq
from tensorgrad.models.transformer import TransformerLM
from tensorgrad.models.words import WordVocabulary

from .common import assert_same

FLOATS = pytest.mark.parametrize("dtype", ["float32", "float64"])
SIZES = ((6, 2), (9, 4), (13, 3))
V = Vocabulary("hello world")


def agrees(loss: Callable[..., Any], model: Any, calls: list[tuple[Any, ...]], programs: int = 1) -> None:
    """The gradients for all calls equal eager ones, by so many programs, which stand alone."""
    eager = tg.value_and_grad(loss)
    step = tg.compile(eager)
    for args in calls:
        assert_same(step(model, *args), eager(model, *args))
    assert step.cache_info().programs == programs, step.explain()
    assert not step._ran().page.names


def texts(sizes: Any = SIZES) -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(0)
    return [tuple(rng.integers(len(V), size=(2, T, B))) for T, B in sizes]


def sequences(D: int, dtype: Any = float, extra: int = 0) -> list[tuple[Any, ...]]:
    """xs (T, B, D) with lengths; before them `extra` other sequences of another T."""
    rng = np.random.default_rng(1)
    return [
        (
            *(rng.standard_normal((T + 3, B, D)).astype(dtype) for _ in range(extra)),
            rng.standard_normal((T, B, D)).astype(dtype),
            rng.integers(1, T + 1, size=B),
        )
        for T, B in SIZES
    ]


CHAR_LMS: dict[str, dict[str, Any]] = {
    "rnn": {"cell": "rnn"},
    "lstm, two layers, tied": {"cell": "lstm", "layers": 2, "tied": True},
    "gru, embedding": {"cell": "gru", "embedding": 3},
    "layer norm": {"cell": "lnlstm"},
}


@FLOATS
@pytest.mark.parametrize("options", CHAR_LMS.values(), ids=CHAR_LMS)
def test_char_lm(options: dict[str, Any], dtype: str) -> None:
    model = CharLM(V, hidden=5, seed=0, dtype=dtype, **options)
    agrees(lambda model, xs, ys: model.loss(xs, ys).loss, model, texts())


@FLOATS
def test_transformer(dtype: str) -> None:
    """In how many pieces a text is read depends on T: a program for each."""
    model = TransformerLM(V, 8, layers=2, heads=2, context=10, seed=0, dtype=dtype)
    agrees(lambda model, xs, ys: model.loss(xs, ys).loss, model, texts(), programs=3)


@FLOATS
@pytest.mark.parametrize("kind", [Seq2Seq, AttentiveSeq2Seq])
def test_seq2seq_with_teacher_forcing(kind: Any, dtype: str) -> None:
    model = kind(10, 10, 8, 4, bidirectional=True, seed=0, dtype=dtype)
    pairs = [(reversal(B, (2, T), 6, seed=T),) for T, B in SIZES[:2]]
    if dtype == "float64":
        agrees(lambda model, pairs: model.loss(pairs), model, pairs)
    agrees(lambda model, *arrays: model.loss(Pairs(*arrays)), model, [tuple(p) for (p,) in pairs])


def test_word_embedding() -> None:
    text = "to be or not to be that is the question " * 5
    model = WordEmbedding(WordVocabulary(text, min_count=1), seed=0)
    batch = next(batches(model.vocabulary.encode(text), sample=1, seed=0))
    agrees(lambda model, batch: model.loss(batch), model, [(batch,)])


# --- attention ---------------------------------------------------------------------------------------------
@FLOATS
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"lengths": 1}, {"causal": True, "lengths": 1}])
def test_self_attention(options: dict[str, Any], dtype: str) -> None:
    model = nn.MultiHeadAttention(8, 2, seed=0, dtype=dtype)

    def loss(model: Any, xs: Any, lengths: Any) -> Any:
        given = {**options, "lengths": lengths} if "lengths" in options else options
        return (model(xs, **given)[0] ** 2).sum()

    agrees(loss, model, sequences(8, dtype))


ATTENTIONS = {
    "additive": nn.AdditiveAttention(8, 8, 5, seed=0),
    "general": nn.DotProductAttention(8, 8, general=True, seed=0),
    "heads": nn.MultiHeadAttention(8, 2, seed=0),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_to_a_memory_of_another_length(name: str) -> None:
    def loss(model: Any, queries: Any, memory: Any, lengths: Any) -> Any:
        context, alpha = model(queries, memory, lengths=lengths)
        return (context**2).sum() + (alpha * alpha).sum()

    agrees(loss, ATTENTIONS[name], sequences(8, extra=1))


def test_a_decoder_that_attends_at_every_step() -> None:
    """One query a step, the memory ready before the loop."""
    model = {"cell": nn.GRUCell(16, 8, seed=0), "attention": nn.AdditiveAttention(8, 8, 5, seed=1)}

    def loss(model: Any, xs: Any, memory: Any, lengths: Any) -> Any:
        ready = model["attention"].prepare(memory, lengths)

        def cell(x: Any, h: Any) -> Any:
            context, _ = model["attention"](h, ready)
            h = model["cell"](tg.concatenate([x, context], -1), h)[1]
            return h, h

        return (nn.unroll(cell, xs, np.zeros((xs.shape[1], 8))).outputs ** 2).sum()

    cell, attention = model["cell"], model["attention"]
    both = nn.Module()
    both.cell, both.attention = cell, attention
    agrees(lambda m, *a: loss({"cell": m.cell, "attention": m.attention}, *a), both, sequences(8, extra=1))


def test_masks_and_places_made_of_lengths() -> None:
    """Triangles, diagonals, ramps and zeros as long as the sequence are part of the program."""

    def loss(p: Any, xs: Any, lengths: Any) -> Any:
        T = xs.shape[0]
        x = tg.swapaxes(xs * p, 0, 1)
        scores = x @ tg.swapaxes(x, 1, 2) + np.triu(np.full((T, T), -np.inf), 1)
        places = np.arange(T)[:, None] * xs[..., 0] + np.zeros((T, 1))
        weights = F.softmax(scores)
        masked = weights * np.tri(T, k=-2) + weights * np.eye(T) * 3
        masked = masked + tg.where(~np.tri(T, k=1, dtype=bool), x[..., :1], 2)
        return masked.sum() + places.sum() * p.sum() + (np.ones(T) * p[0]).sum()

    agrees(loss, np.ones(5), sequences(5))


# --- recurrent layers --------------------------------------------------------------------------------------
CELLS = {
    "lnlstm": lambda D: nn.LayerNormLSTMCell(D, 6, seed=3),
    "lstm": lambda D: nn.LSTMCell(D, 4, seed=0),
}


@pytest.mark.parametrize("name", CELLS)
def test_recurrent_layers_with_lengths(name: str) -> None:
    model = nn.Recurrent(CELLS[name], 3, 2, bidirectional=True)

    def loss(model: Any, xs: Any, lengths: Any) -> Any:
        outputs, states = model(xs, lengths=lengths)
        return (outputs**2).sum() + sum((abs(part) ** 2).sum() for part in tree.leaves(states))

    agrees(loss, model, sequences(3))


def test_sorted_sequences_end_one_after_the_other() -> None:
    """Rows put in the order of their lengths before the layers and back after them."""
    model = nn.GRU(3, 4, num_layers=2, seed=0)

    def loss(model: Any, xs: Any, lengths: Any, order: Any, back: Any) -> Any:
        outputs, _ = model(xs[:, order], lengths=lengths[order])
        return (outputs[:, back] * np.arange(4.0)).sum()

    calls = [(xs, n, np.argsort(-n), np.argsort(np.argsort(-n))) for xs, n in sequences(3)]
    agrees(loss, model, calls)


def test_a_tree_of_states_of_several_levels() -> None:
    """A slow level that is fed what a fast one leaves, each with a state of its own form."""
    fast, slow = nn.LSTMCell(3, 4, seed=0), nn.GRUCell(4, 5, seed=1)
    both = nn.Module()
    both.fast, both.slow = fast, slow

    def loss(model: Any, xs: Any, lengths: Any) -> Any:
        def cell(x: Any, state: Any) -> Any:
            h, inner = model.fast(x, state["fast"])
            ticks = state["ticks"] + 1
            due = tg.equal(ticks, 3)
            top = tg.where(due[:, None], model.slow(h, state["slow"]["h"])[1], state["slow"]["h"])
            return (h, top), {"fast": inner, "slow": {"h": top}, "ticks": tg.where(due, 0, ticks)}

        B = xs.shape[1]
        start = {
            "fast": (np.zeros((B, 4)), np.zeros((B, 4))),
            "slow": {"h": np.zeros((B, 5))},
            "ticks": np.zeros(B),
        }
        roll = nn.unroll(cell, xs, start, lengths=lengths)
        return (roll.outputs[0] ** 2).sum() + (roll.outputs[1] ** 3).sum() + roll.state["slow"]["h"].sum()

    agrees(loss, both, sequences(3))


def test_truncated_windows_within_one_step() -> None:
    """How many windows there are depends on T: a program for each."""
    model = nn.GRUCell(3, 4, seed=0)

    def loss(model: Any, xs: Any, lengths: Any) -> Any:
        return sum((roll.outputs**2).sum() for roll in nn.truncated(model, xs, 4, lengths=lengths))

    agrees(loss, model, sequences(3), programs=3)


@pytest.mark.parametrize("pairs", [False, True])
def test_linear_scans(pairs: bool) -> None:
    def loss(p: Any, xs: Any, lengths: Any) -> Any:
        a, b = tg.sigmoid(xs * p), tg.tanh(xs)
        if not pairs:
            return (nn.linear_scan(a, b, p) ** 2).sum()
        re, im = nn.linear_scan((a, b * 0.3), (b, a), (p, p * 0.5))
        return (re * re).sum() + im.sum()

    agrees(loss, np.linspace(0.5, 1, 5), sequences(5))
