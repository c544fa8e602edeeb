"""Drawing from logits and beam search: against definitions written out plainly, and against brute force."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad.errors import ShapeError, UserError
from tensorgrad.models.decoding import Hypothesis, Sampling, beam_search

RNG = np.random.default_rng(0)
# Few different values, so that ties are common; -inf masks.
scores = st.sampled_from([-np.inf, -3.0, -0.5, 0.0, 0.25, 1.0, 4.0])
rows = st.lists(scores, min_size=1, max_size=7).filter(lambda row: max(row) > -np.inf).map(np.array)
temperatures = st.sampled_from([1e-300, 0.1, 0.5, 1.0, 3.0, 1e300])
top_ks = st.none() | st.integers(1, 9)
top_ps = st.none() | st.floats(1e-6, 1.0)


# --- drawing ---------------------------------------------------------------------------------------------


def softmax(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        p = np.exp(logits - logits.max())
    return p / p.sum()


def by_definition(
    logits: np.ndarray, temperature: float, top_k: int | None, top_p: float | None
) -> np.ndarray | None:
    """Temperature, top-k, top-p, one id at a time; None where rounding decides who is left."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    with np.errstate(over="ignore"):
        p = softmax((logits - logits.max()) / temperature)
    kept = order[:top_k]
    p = np.array([p[i] if i in kept else 0.0 for i in range(len(p))]) / sum(p[kept])
    if top_p is not None and top_p < 1:
        kept, mass = [], 0.0
        for i in order:
            kept.append(i)
            mass += p[i]
            if abs(mass - top_p) < 1e-12:
                return None
            if mass >= top_p:
                break
        p = np.array([p[i] if i in kept else 0.0 for i in range(len(p))]) / sum(p[kept])
    return p


@given(rows, temperatures, top_ks, top_ps)
def test_probabilities_are_those_of_the_definition(
    logits: np.ndarray, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    expected = by_definition(logits, temperature, top_k, top_p)
    assume(expected is not None)
    found = Sampling(temperature, top_k, top_p).probabilities(logits)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)
    np.testing.assert_array_equal(found > 0, expected > 0)


@given(st.lists(scores, min_size=3, max_size=3), rows, top_ks, top_ps)
def test_each_row_is_on_its_own(first: list, row: np.ndarray, top_k: int | None, top_p: float | None) -> None:
    logits = np.stack([row, row[::-1], RNG.permutation(row)])
    sampling = Sampling(0.7, top_k, top_p)
    alone = [sampling.probabilities(each) for each in logits]
    np.testing.assert_array_equal(sampling.probabilities(logits), alone)
    np.testing.assert_array_equal(sampling.probabilities(logits[:, None]), np.array(alone)[:, None])


def test_temperature_then_top_k_then_top_p() -> None:
    logits = np.log([0.4, 0.3, 0.2, 0.1])
    # Before top-k, 0.4 + 0.3 < 0.75; of what it leaves they are 7/9.
    np.testing.assert_allclose(Sampling(1, 3, 0.75).probabilities(logits), [4 / 7, 3 / 7, 0, 0])
    # Squared by the temperature, the first two are 25/30.
    np.testing.assert_allclose(Sampling(0.5, None, 0.8).probabilities(logits), [16 / 25, 9 / 25, 0, 0])


def test_of_equals_the_lower_id_is_left() -> None:
    np.testing.assert_array_equal(Sampling(top_k=2).probabilities(np.zeros(4)), [0.5, 0.5, 0, 0])
    np.testing.assert_array_equal(Sampling(top_p=0.3).probabilities(np.zeros(4)), [0.5, 0.5, 0, 0])
    np.testing.assert_array_equal(Sampling(temperature=0).probabilities([1, 2, 2]), [0, 1, 0])
    # The share itself is enough.
    np.testing.assert_array_equal(Sampling(top_p=0.5).probabilities([0, 0]), [1, 0])
    np.testing.assert_array_equal(Sampling(top_p=0.75).probabilities(np.zeros(4)), [1 / 3, 1 / 3, 1 / 3, 0])


@given(rows, temperatures, st.integers(0, 99))
def test_one_left_is_the_argmax(logits: np.ndarray, temperature: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for sampling in (Sampling(0), Sampling(temperature, 1), Sampling(temperature, None, 1e-300)):
        assert sampling.draw(logits, rng) == logits.argmax()
        assert sampling.probabilities(logits)[logits.argmax()] == 1


@given(st.integers(0, 10**6), st.integers(1, 40), temperatures, st.sampled_from([np.float32, np.float64]))
def test_without_filters_a_seed_gives_the_draws_it_always_gave(
    seed: int, V: int, temperature: float, dtype: Any
) -> None:
    """Texts that were sampled with a seed must come out the same from one version to the next."""
    logits = np.random.default_rng(seed).normal(size=V).astype(dtype)
    with np.errstate(over="ignore"):
        cumulative = np.exp((logits.astype(np.float64) - logits.max()) / temperature).cumsum()
    expected = np.searchsorted(cumulative, np.random.default_rng(seed).random() * cumulative[-1])
    for sampling in (Sampling(temperature), Sampling(temperature, None, 1.0), Sampling(temperature, V)):
        assert sampling.draw(logits, np.random.default_rng(seed)) == expected
        assert sampling.draw(logits[None], np.random.default_rng(seed)) == [expected]


def test_temperature_zero_takes_no_random_number() -> None:
    rng = np.random.default_rng(0)
    Sampling(0).draw(np.zeros((5, 3)), rng)
    assert rng.random() == np.random.default_rng(0).random()


def test_draws_follow_the_probabilities() -> None:
    logits = np.array([1.0, -np.inf, 2.0, 0.0, 1.5])
    for sampling in (Sampling(), Sampling(0.5), Sampling(2.0, 3), Sampling(1.0, None, 0.8)):
        ids = sampling.draw(np.tile(logits, (20_000, 1)), np.random.default_rng(1))
        shares = np.bincount(ids, minlength=5) / 20_000
        p = sampling.probabilities(logits)
        np.testing.assert_allclose(shares, p, atol=0.015)
        assert not shares[p == 0].any()


def test_what_is_masked_is_not_drawn_even_at_zero() -> None:
    class Zero:
        def random(self, shape: Any) -> np.ndarray:
            return np.zeros(shape)

    assert Sampling().draw(np.array([-np.inf, -np.inf, 0.0, 1.0]), Zero()) == 2
    assert Sampling(top_k=1).draw(np.array([0.0, 0.0, 0.0, 1.0]), Zero()) == 3


@pytest.mark.parametrize("logits", [[1e308, -1e308], [3e38, -3e38], [0.0, -1e5], [-1e308, -np.inf]])
@pytest.mark.parametrize("temperature", [5e-324, 1.0, 1e308])
def test_extremes_do_not_overflow(logits: list[float], temperature: float) -> None:
    for sampling in (Sampling(temperature), Sampling(temperature, 5, 0.999)):
        p = sampling.probabilities(logits)
        assert np.isfinite(p).all()
        assert p.sum() == pytest.approx(1)
        assert p[0] >= p[1]


@pytest.mark.parametrize("bad", [[0.0, np.nan], [np.inf, 0.0], [-np.inf, -np.inf], [np.nan, -np.inf]])
def test_scores_that_are_not_finite_say_that_the_model_diverged(bad: list[float]) -> None:
    for logits in (bad, [[0.0, 1.0], bad]):
        for sampling in (Sampling(), Sampling(0), Sampling(1, 2, 0.5)):
            with pytest.raises(UserError, match="its weights have diverged"):
                sampling.draw(logits, RNG)
            with pytest.raises(UserError, match="its weights have diverged"):
                sampling.probabilities(logits)
    with pytest.raises(UserError, match="its weights have diverged"):
        beam_search(lambda ids, state: (np.array([bad]), None), None, [0], width=2, length=3)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"temperature": -0.5}, "the temperature must be a number from 0 up, not -0.5"),
        ({"temperature": float("nan")}, "the temperature must be a number from 0 up, not nan"),
        ({"temperature": float("inf")}, "the temperature must be a number from 0 up, not inf"),
        ({"top_k": 0}, "top_k must be a whole number from 1 up, not 0"),
        ({"top_k": 2.5}, "top_k must be a whole number from 1 up, not 2.5"),
        ({"top_k": True}, "top_k must be a whole number from 1 up, not True"),
        ({"top_p": 0.0}, "top_p must be a number over 0 and at most 1, not 0.0"),
        ({"top_p": 1.1}, "top_p must be a number over 0 and at most 1, not 1.1"),
        ({"top_p": float("nan")}, "top_p must be a number over 0 and at most 1, not nan"),
    ],
)
def test_bad_settings(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Sampling(**options)


# --- beam search -----------------------------------------------------------------------------------------


class Markov:
    """A model whose scores depend on the last two ids; the state is the one before the last.

    Logits are drawn once for each pair; with `masks`, a part of them is -inf.
    """

    def __init__(self, V: int, seed: int, masks: bool = False) -> None:
        rng = np.random.default_rng(seed)
        self.logits = 2 * rng.normal(size=(V, V, V))
        if masks:
            masked = rng.random((V, V, V)) < 0.4
            masked[..., rng.integers(V)] = False
            self.logits[masked] = -np.inf
        self.calls: list[int] = []

    def __call__(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        self.calls.append(len(ids))
        return self.logits[state, ids], ids

    def log_probability(self, before: int, start: int, ids: tuple[int, ...]) -> float:
        total = 0.0
        for i in ids:
            y = self.logits[before, start]
            total += y[i] - np.logaddexp.reduce(y)
            before, start = start, i
        return total


def sequences(V: int, length: int, end: int | None) -> list[tuple[int, ...]]:
    """Everything that can be written: up to the end, or of the full length."""
    found = set()
    for ids in itertools.product(range(V), repeat=length):
        found.add(ids[: ids.index(end) + 1] if end in ids else ids)
    return sorted(found)


def score(total: float, n: int, alpha: float) -> float:
    return total / ((5 + n) / 6) ** alpha


models = st.builds(Markov, st.integers(2, 4), st.integers(0, 10**6), st.booleans())
alphas = st.sampled_from([0.0, 0.6, 1.0, 3.0])


@given(models, st.integers(0, 4), alphas, st.booleans())
def test_a_wide_beam_is_an_exhaustive_search(model: Markov, length: int, alpha: float, ends: bool) -> None:
    V = len(model.logits)
    end = 0 if ends else None
    (found,) = beam_search(
        model, np.array([1]), [1], width=V**length, length=length, end=end, length_penalty=alpha
    )
    totals = {ids: model.log_probability(1, 1, ids) for ids in sequences(V, length, end)}
    possible = {ids: total for ids, total in totals.items() if total > -np.inf}
    expected = sorted((score(total, len(ids), alpha) for ids, total in possible.items()), reverse=True)
    assert found[0].score == pytest.approx(expected[0])
    if not ends:  # nothing is dropped, so all that is possible is found
        assert [h.score for h in found] == pytest.approx(expected)
    check(found, model, 1, 1, end, alpha)


@given(models, st.integers(1, 4))
def test_the_last_step_needs_no_wider_beam(model: Markov, length: int) -> None:
    V = len(model.logits)
    narrow, wide = (
        beam_search(model, np.array([0]), [1], width=w, length=length, end=0)[0][0]
        for w in (V ** (length - 1), V**length)
    )
    assert narrow == wide


def check(
    found: list[Hypothesis], model: Markov, before: int, start: int, end: int | None, alpha: float
) -> None:
    """What holds for every result: best first, no doubles, and each is what it claims to be."""
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    assert len({h.ids for h in found}) == len(found)
    for h in found:
        assert h.log_probability > -np.inf
        assert h.log_probability == pytest.approx(model.log_probability(before, start, h.ids))
        assert h.score == pytest.approx(score(h.log_probability, len(h.ids), alpha))
        assert h.finished == (end is not None and h.ids[-1:] == (end,))
        assert end not in h.ids[:-1]


@given(models, st.integers(1, 12), alphas)
def test_width_one_is_greedy(model: Markov, length: int, alpha: float) -> None:
    before, last, expected = 1, 1, []
    while len(expected) < length and expected[-1:] != [0]:
        before, last = last, int(model.logits[before, last].argmax())
        expected.append(last)
    (found,) = beam_search(model, np.array([1]), [1], width=1, length=length, end=0, length_penalty=alpha)
    assert [h.ids for h in found] == [tuple(expected)]


def plain_beam(
    model: Markov, before: int, start: int, width: int, length: int, end: int, alpha: float
) -> float:
    """The best score of a beam search that never stops early, one sequence at a time."""
    live: list[tuple[int, ...]] = [()]
    done = []
    for _ in range(length):
        grown = []
        for old, i in itertools.product(live, range(len(model.logits))):
            grown.append((model.log_probability(before, start, (*old, i)), (*old, i)))
        best = sorted((each for each in grown if each[0] > -np.inf), reverse=True)[:width]
        done += [score(total, len(ids), alpha) for total, ids in best if ids[-1] == end]
        live = [ids for _, ids in best if ids[-1] != end]
    done += [score(model.log_probability(before, start, ids), len(ids), alpha) for ids in live]
    return max(done)


@settings(deadline=None)
@given(models, st.integers(1, 5), st.integers(1, 8), alphas)
def test_stopping_early_does_not_change_the_best(
    model: Markov, width: int, length: int, alpha: float
) -> None:
    (found,) = beam_search(model, np.array([1]), [1], width=width, length=length, end=0, length_penalty=alpha)
    assert found[0].score == pytest.approx(plain_beam(model, 1, 1, width, length, 0, alpha))
    assert len(found) <= width
    assert max(model.calls) <= width
    check(found, model, 1, 1, 0, alpha)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0, 3.0])
def test_it_stops_when_nothing_can_beat_the_finished_ones(alpha: float) -> None:
    """From everywhere the end has 0.9; of what goes on, the likeliest repeats an id of 0.06."""
    calls = 0

    def step(ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        nonlocal calls
        calls += 1
        return np.tile(np.log([0.9, 0.06, 0.04]), (len(ids), 1)), None

    ((best, *_),) = beam_search(step, None, [1], width=3, length=60, end=0, length_penalty=alpha)
    assert best.ids == (0,)
    hopeless = (n for n in range(1, 61) if n * math.log(0.06) / (65 / 6) ** alpha <= math.log(0.9))
    assert calls == next(hopeless)


@settings(deadline=None)
@given(
    models,
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=5),
    st.integers(1, 4),
    st.integers(0, 6),
)
def test_many_sources_are_searched_as_each_alone(
    model: Markov, sources: list[tuple[int, int]], width: int, length: int
) -> None:
    before, start = np.array(sources, np.intp).reshape(-1, 2).T
    options: dict[str, Any] = {"width": width, "length": length, "end": 0, "length_penalty": 0.6}
    together = beam_search(model, before, start, **options)
    alone = [beam_search(model, before[b : b + 1], start[b : b + 1], **options)[0] for b in range(len(start))]
    assert together == alone


def test_the_length_penalty_is_gnmt_s() -> None:
    """It prefers a longer sequence exactly where Wu et al., eq. 14, do."""
    log_p = {"short": math.log(0.5), "long": math.log(0.5) + 3 * math.log(0.8)}
    logits = np.full((5, 5), -np.inf)
    logits[1, [0, 2]] = math.log(0.5)  # at once to the end, or the long way
    for i, following in ((2, 3), (3, 4), (4, 0)):
        logits[i, following], logits[i, 1] = math.log(0.8), math.log(0.2)
    for alpha in (0.0, 0.5, 1.0, 1.5, 2.0):
        lp = {n: (5 + n) ** alpha / (5 + 1) ** alpha for n in (1, 4)}
        (found,) = beam_search(
            lambda ids, state: (logits[ids], None),
            None,
            [1],
            width=4,
            length=4,
            end=0,
            length_penalty=alpha,
        )
        longer = log_p["long"] / lp[4] > log_p["short"] / lp[1]
        assert found[0].ids == ((2, 3, 4, 0) if longer else (0,))
        assert found[0].score == pytest.approx(max(log_p["long"] / lp[4], log_p["short"] / lp[1]), rel=1e-12)


@pytest.mark.parametrize("cell", [tg.nn.GRUCell, tg.nn.LSTMCell])
def test_a_recurrent_cell_s_state_follows_its_hypothesis(cell: Any) -> None:
    V, B = 4, 3
    rnn, output = cell(V, 8, seed=0), tg.nn.Linear(8, V, seed=1)
    output.weight.data = 10 * output.weight.numpy()

    def step(ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        h, inner = rnn(tg.functional.one_hot(ids, V), state["cell"])
        assert not h.requires_grad
        return output(h).numpy(), {"cell": inner, "position": state["position"] + 1, "nothing": None}

    zeros = rnn.initial_state(np.zeros((B, V)))
    state = {"cell": tg.tree.map(tg.tensor, zeros), "position": 0, "nothing": None}
    for b, found in enumerate(beam_search(step, state, np.arange(B), width=6, length=5)):
        assert len(found) == 6
        for h in found:
            xs = tg.functional.one_hot([b, *h.ids[:-1]], V)
            logp = tg.functional.log_softmax(output(tg.nn.unroll(rnn, xs).outputs)).numpy()
            assert h.log_probability == pytest.approx(logp[np.arange(5), h.ids].sum(), rel=1e-9)
    assert tg.is_recording()


def flat(ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
    return np.zeros((len(ids), 3)), state


def test_of_equally_likely_continuations_the_lower_id_comes_first() -> None:
    (found,) = beam_search(flat, None, [2], width=4, length=2)
    assert [h.ids for h in found] == [(0, 0), (0, 1), (0, 2), (1, 0)]


def test_nothing_to_write_and_no_sources() -> None:
    assert beam_search(flat, None, [0, 1], width=2, length=0) == [[Hypothesis((), 0.0, 0.0, False)]] * 2
    assert beam_search(flat, None, np.zeros(0, int), width=2, length=5) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"width": 0}, "the width of a beam must be a whole number from 1 up, not 0"),
        ({"width": 2.5}, "the width of a beam must be a whole number from 1 up, not 2.5"),
        ({"length": -1}, "the length of a beam search must be a whole number from 0 up, not -1"),
        ({"length_penalty": -0.1}, "the length penalty must be a number from 0 up, not -0.1"),
        ({"length_penalty": float("nan")}, "the length penalty must be a number from 0 up, not nan"),
    ],
)
def test_bad_searches(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        beam_search(flat, None, [0], **{"width": 2, "length": 3, **options})


@pytest.mark.parametrize(
    ("step", "start", "sentence"),
    [
        (flat, 0, r"start must be \(B,\) integers, not \(\) int64"),
        (flat, [0.5], r"start must be \(B,\) integers, not \(1,\) float64"),
        (lambda ids, state: (np.zeros(3), None), [0], r"for 1 ids .* logits \(1, V\), not \(3,\)"),
        (lambda ids, state: (np.zeros((1, 3)), None), [0, 1], r"for 2 ids .* \(2, V\), not \(1, 3\)"),
        (
            lambda ids, state: (np.zeros((2, 3)), {"h": np.zeros((1, 2, 4))}),
            [0, 1],
            r"a state with 2 rows on axis 0, but h has shape \(1, 2, 4\)",
        ),
    ],
)
def test_shapes_that_do_not_fit(step: Any, start: Any, sentence: str) -> None:
    with pytest.raises(ShapeError, match=sentence):
        beam_search(step, None, start, width=2, length=3)
