"""Plots of what a run holds: states, gates, saturation, alignment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import tensorgrad as tg
from tensorgrad import bptt, nn
from tensorgrad.errors import DtypeError, GraphError, ShapeError, UserError
from tensorgrad.viz import plots

from .reading import drawn, misplaced, notes


def xs(T: int, B: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(T, B, 2))


def unrolled(cell: str, T: int = 6, H: int = 3, **given: Any) -> Any:
    return nn.unroll(nn.make_cell(cell, 2, H, seed=0), xs(T), **given)


def panels(figure: Any) -> list[Any]:
    return [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]


def titles(figure: Any) -> list[str]:
    return [ax.get_title(loc="left") for ax in panels(figure)]


def test_hidden_states() -> None:
    hs = np.tanh(np.linspace(-2, 1, 12)).reshape(4, 3)
    figure = plots.hidden_states(hs, tokens=["a", " ", "\n", "$x$"])
    ax, bar = figure.axes
    (image,) = ax.images
    np.testing.assert_allclose(image.get_array(), hs.T)
    assert image.norm.vmin == -image.norm.vmax == hs.min()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "␣", "⏎", "$x$"]
    assert bar.get_ylabel() == "activation"
    drawn(figure)


@pytest.mark.parametrize("token", ["漢", "\x00", "\u202e", "\ud800"])
def test_tokens_that_the_font_lacks(token: str) -> None:
    figure = plots.hidden_states(np.zeros((2, 2)), tokens=["a", token])
    drawn(figure)
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["a", f"U+{ord(token):04X}"]


@pytest.mark.parametrize("T", [20, 62, 80])
def test_a_sentence_can_be_read_whole(T: int) -> None:
    text = ("a class is an executable statement. " * 3)[:T]
    figure = plots.hidden_states(np.ones((T, 5)), tokens=text)
    assert misplaced(drawn(figure)) == []
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert "".join(labels) == text.replace(" ", "␣")


@pytest.mark.parametrize(("T", "H"), [(1, 1), (5, 100), (1000, 1)])
@pytest.mark.parametrize("token", ["x", "W" * 1000])
def test_tokens_have_room(T: int, H: int, token: str) -> None:
    figure = plots.hidden_states(np.ones((T, H)), tokens=[token] * T)
    assert misplaced(drawn(figure)) == []
    assert min(T, 20) <= len(figure.axes[0].get_xticklabels()) < 110


def test_one_unit_has_one_number() -> None:
    figure = plots.hidden_states(np.ones((5, 1)))
    drawn(figure)
    ax = figure.axes[0]
    low, high = ax.get_ylim()
    assert [label for at, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True) if low < at < high]
    assert [at for at in ax.get_yticks() if low < at < high] == [0]


def test_activations_that_are_not_finite_are_marked() -> None:
    figure = plots.hidden_states([[np.nan, 1.0], [np.inf, -3.0]])
    assert notes(figure.axes[0]) == "grey: 1 NaN (x), 1 inf (▲) of 4"
    assert figure.axes[0].images[0].norm.vmax == 3
    drawn(figure)
    drawn(plots.hidden_states([[np.nan]]))


def test_no_timestep_is_lost_in_a_long_run() -> None:
    """Where there are more timesteps than pixels, one that differs still leaves its mark."""
    hs = np.zeros((2_000, 1))
    hs[777] = 1
    figure = plots.hidden_states(hs)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1].astype(int)
    x, y = figure.axes[0].transData.transform((777, 0)).astype(int)
    assert np.abs(pixels[y, x - 3 : x + 4] - pixels[y, x + 50]).max() > 5


@pytest.mark.parametrize(
    ("cell", "named"),
    [
        ("lstm", ["Gate i", "Gate f", "Candidate g", "Gate o"]),
        ("gru", ["Gate r", "Gate z", "Candidate n"]),
        ("slstm", ["Gate i", "Gate f", "Candidate z", "Gate o"]),
        ("mgu", ["Gate f", "Candidate n"]),
    ],
)
def test_gates_are_found_by_what_they_are(cell: str, named: list[str]) -> None:
    roll = unrolled(cell)
    figure = plots.gates(roll, sequence=1)
    assert titles(figure) == named
    for ax, title in zip(panels(figure), named, strict=True):
        values = np.stack([step[title.split()[1]].numpy()[1] for step in roll.steps])
        np.testing.assert_allclose(ax.images[0].get_array(), values.T)
        if cell != "slstm":
            least = -1 if title.startswith("Candidate") else 0
            assert (ax.images[0].norm.vmin, ax.images[0].norm.vmax) == (least, 1)
    assert [ax.get_xlabel() for ax in panels(figure)] == [*[""] * (len(named) - 1), "timestep $t$"]
    drawn(figure)


def test_gates_of_one_of_several_layers() -> None:
    net = nn.LSTM(2, 3, num_layers=2, seed=0)
    roll = net.unroll(xs(5))
    with pytest.raises(GraphError, match=r"gates: each of the layers l0, l1 .* such as roll.layers\['l0'\]"):
        plots.gates(roll)
    assert len(titles(plots.gates(roll.layers["l1"]))) == 4


def test_gates_end_with_their_sequence() -> None:
    roll = unrolled("gru", lengths=[6, 2])
    figure = plots.gates(roll, sequence=1, tokens="abcdef")
    for ax in panels(figure):
        np.testing.assert_array_equal(
            np.ma.getmaskarray(ax.images[0].get_array()).any(axis=0), [False] * 2 + [True] * 4
        )
        assert notes(ax) == ""
    assert [label.get_text() for label in panels(figure)[-1].get_xticklabels()] == list("abcdef")


def test_any_label_can_be_shown() -> None:
    roll = unrolled("lstm")
    figure = plots.gates(roll, ["c", "f"])
    assert titles(figure) == ["Label c", "Gate f"]
    most = max(np.abs(step["c"].numpy()[0]).max() for step in roll.steps)
    assert panels(figure)[0].images[0].norm.vmax == pytest.approx(most)
    assert titles(plots.gates(roll, "c")) == ["Label c"]
    with tg.no_grad():
        unrecorded = unrolled("lstm")
    assert titles(plots.gates(unrecorded, ["i"])) == ["Label i"]


def test_gates_of_a_run_without_a_batch() -> None:
    W = tg.tensor(np.eye(2), requires_grad=True)

    def cell(x: Any, h: Any) -> Any:
        f = tg.label(tg.sigmoid(x @ W), "f")
        h = tg.label(f * h, "h")
        return h, h

    figure = plots.gates(nn.unroll(cell, np.ones((4, 2)), np.ones(2)))
    assert titles(figure) == ["Gate f"]
    assert panels(figure)[0].images[0].get_array().shape == (2, 4)


def sparse() -> Any:
    """A cell that labels a gate in some timesteps only."""
    t = iter(range(9))

    def cell(x: Any, h: Any) -> Any:
        f = tg.sigmoid(x)
        return h, tg.label(h * (tg.label(f, "f") if next(t) != 2 else f), "h")

    return nn.unroll(cell, tg.tensor(xs(4), requires_grad=True), np.ones((2, 2)))


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (
            lambda: plots.gates(unrolled("rnn")),
            GraphError,
            r"no label stands for a .* out of x, a, h, output",
        ),
        (lambda: plots.gates(sparse()), GraphError, "no label stands for"),
        (
            lambda: plots.gates(sparse(), ["f"]),
            GraphError,
            "nothing is labelled 'f' at timestep 2; labels there",
        ),
        (lambda: plots.gates(unrolled("lstm", checkpoint=2)), GraphError, "made with checkpoint"),
        (lambda: plots.gates(unrolled("lstm"), ["q"]), GraphError, "'q' at timestep 0; labels there are x, "),
        (lambda: plots.gates(unrolled("lstm"), []), UserError, "names has no label in it"),
        (lambda: plots.gates(unrolled("lstm"), sequence=2), UserError, r"one of 0..1, the batch .* not 2"),
        (lambda: plots.gates(unrolled("lstm"), sequence=-1), UserError, "not -1"),
        (lambda: plots.gates(unrolled("lstm"), sequence=None), UserError, "not None"),
        (
            lambda: plots.gates(unrolled("lstm"), tokens="abc"),
            ShapeError,
            "3 tokens do not go with 6 timesteps",
        ),
        (lambda: plots.gates(unrolled("lstm"), ax=[]), UserError, r"gates \(i, f, g, o\): ax takes 4 axes"),
        (lambda: plots.hidden_states(np.zeros(3)), ShapeError, r"\(time, hidden units\) .* shape is \(3,\)"),
        (lambda: plots.hidden_states(np.zeros((0, 3))), ShapeError, r"its shape is \(0, 3\)"),
        (
            lambda: plots.hidden_states(np.zeros((2, 3)), tokens="abc"),
            ShapeError,
            "3 tokens do not go with 2 t",
        ),
        (lambda: plots.hidden_states(unrolled("rnn")), DtypeError, r"not a run: np.stack\(\[step"),
        (lambda: plots.alignment(np.zeros((2, 3, 4))), ShapeError, r"\(target, source\) .* \(2, 3, 4\)"),
        (
            lambda: plots.alignment(np.zeros((2, 3)), "ab"),
            ShapeError,
            "2 tokens do not go with 3 source timesteps",
        ),
        (
            lambda: plots.alignment(np.zeros((2, 3)), "abc", "c"),
            ShapeError,
            "1 tokens do not go with 2 target",
        ),
        (lambda: plots.alignment([[-2.0, 5.0]]), UserError, "between -2 and 5; are they scores"),
        (lambda: plots.saturation(bptt.Saturation({}, {}, 0.1)), UserError, "no sigmoid and no tanh"),
    ],
)
def test_what_cannot_be_plotted(call: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        call()


def test_the_sentence_on_states_is_code_that_runs() -> None:
    roll = unrolled("rnn")
    with pytest.raises(DtypeError) as caught:
        plots.hidden_states(roll)
    code = str(caught.value).partition("a run: ")[2].partition(" are those")[0]
    figure = plots.hidden_states(eval(code, {"np": np, "roll": roll}))
    assert figure.axes[0].images[0].get_array().shape == (3, 6)


def test_alignment() -> None:
    weights = np.array([[0.0, 0.25, 0.75], [1.0, 0.0, 0.0]])
    figure = plots.alignment(weights, source=["a", "$x$", "<b>"], target="c ")
    ax, bar = figure.axes
    (image,) = ax.images
    np.testing.assert_allclose(image.get_array(), weights)
    # The first token written stands above the second, and the shades of two drawings can be compared.
    assert ax.get_ylim() == (1.5, -0.5)
    assert (image.norm.vmin, image.norm.vmax) == (0, 1)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "$x$", "<b>"]
    assert [label.get_rotation() for label in ax.get_xticklabels()] == [0, 90, 90]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["c", "␣"]
    assert (ax.get_xlabel(), ax.get_ylabel(), bar.get_ylabel()) == ("source token", "target token", "weight")
    drawn(figure)


def test_alignment_without_tokens_and_with_gaps() -> None:
    figure = plots.alignment([[np.nan, 1.0]])
    assert notes(figure.axes[0]) == "grey: 1 NaN (x) of 2"
    assert figure.axes[0].get_xlabel() == "source"
    drawn(figure)
    assert len(plots.alignment(np.eye(300), "x" * 300, "y" * 300).axes[0].get_yticklabels()) < 80


def test_saturation() -> None:
    found = bptt.saturation(unrolled("lstm"), 0.3)
    figure = plots.saturation(found)
    left, right = panels(figure)
    for ax in (left, right):
        assert [label.get_text() for label in ax.get_yticklabels()] == ["i", "f", "g", "o", "tanh(c)"]
        assert ax.get_ylim() == (4.5, -0.5)
    widths = [bar.get_width() for bar in left.patches]
    np.testing.assert_allclose(widths[5:], [x.mean() for x in found.high.values()])
    np.testing.assert_allclose(widths[:5], [-x.mean() for x in found.low.values()])
    np.testing.assert_allclose(right.images[0].get_array()[2], found.over_time["g"])
    drawn(figure)


def test_saturation_ends_with_the_last_sequence() -> None:
    figure = plots.saturation(bptt.saturation(unrolled("lstm", lengths=[2, 1])))
    right = panels(figure)[1]
    np.testing.assert_array_equal(right.images[0].get_array().mask[0], [False] * 2 + [True] * 4)
    assert notes(right) == ""
    drawn(figure)


def test_saturation_of_many_layers_can_be_read() -> None:
    net = nn.LSTM(2, 2, num_layers=3, bidirectional=True, seed=0)
    figure = plots.saturation(bptt.saturation(net.unroll(xs(4))))
    assert misplaced(drawn(figure)) == []
