"""The encoder-decoder: against PyTorch, padding, teacher forcing, decoding, learning, files, bad input."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad.data import END, PAD, START, Pairs, reversal
from tensorgrad.errors import CheckpointError, DtypeError, ShapeError, UserError
from tensorgrad.io import load_checkpoint, save_checkpoint
from tensorgrad.models import seq2seq, seq2seq_tasks
from tensorgrad.models.attention import AttentiveSeq2Seq
from tensorgrad.models.seq2seq import Seq2Seq
from tensorgrad.models.seq2seq_tasks import ADDITION, REVERSAL, fit

V = 7

# What the two models have in common is tested with both.
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deep": {"cell": "lstm", "layers": 2, "bidirectional": True},
    "additive": {"attention": "additive"},
    "dot": {"attention": "dot", "bidirectional": True},
    "general": {"attention": "general", "cell": "lstm", "layers": 2},
}
kinds = pytest.mark.parametrize("kind", list(KINDS))


def make(kind: str = "plain", hidden: int = 6, seed: int = 0, dtype: Any = np.float64, **more: Any) -> Any:
    options = {**KINDS[kind], **more}
    model = AttentiveSeq2Seq if "attention" in options else Seq2Seq
    return model(V, V, hidden, embedding=3, seed=seed, dtype=dtype, **options)


def draw(B: int = 5, lengths: tuple[int, int] = (1, 4), seed: int = 0) -> Pairs:
    return reversal(B, lengths, symbols=V - 3, seed=seed)


def one(pairs: Pairs, b: int) -> Pairs:
    """Sequence b alone, without its padding."""
    n, m = pairs.source_lengths[b], pairs.target_lengths[b]
    return Pairs(pairs.source[:n, [b]], np.array([n]), pairs.target[:m, [b]], np.array([m]))


def log_probability(model: Any, pairs: Pairs, b: int, ids: Any) -> float:
    """Of writing `ids` for source b, from the graph."""
    alone = one(pairs, b)
    target = np.array(ids)[:, None]
    logits, _ = model(alone._replace(target=target, target_lengths=np.array([len(ids)])))
    return -float(tg.functional.cross_entropy(logits, target, reduction="sum"))


# --- the network -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "deep"])
def test_loss_and_gradients_are_pytorch_s_with_the_same_weights(kind: str) -> None:
    torch = pytest.importorskip("torch")
    model, pairs, H = make(kind), draw(), 6
    options = {"cell": "gru", "layers": 1, "bidirectional": False, **KINDS[kind]}
    layers, both = options["layers"], options["bidirectional"]
    rnn = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[options["cell"]]
    encoder = rnn(3, H // (1 + both), layers, bidirectional=both).double()
    decoder = rnn(3, H, layers).double()
    weights = {k: torch.tensor(v, requires_grad=True) for k, v in model.state_dict().items()}
    theirs = {
        **{f"encoder.{name}": p for name, p in encoder.named_parameters()},
        **{f"decoder.{name[-1]}.{name[:-3]}": p for name, p in decoder.named_parameters()},
    }
    for name, p in theirs.items():
        p.data.copy_(weights[name])

    source, target = torch.tensor(pairs.source), torch.tensor(pairs.target)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        weights["source_embedding.weight"][source], pairs.source_lengths, enforce_sorted=False
    )
    state = encoder(packed)[1]
    if both:
        state = tuple(torch.cat([part[::2], part[1::2]], dim=-1) for part in state)
    read = torch.cat([torch.full_like(target[:1], START), target[:-1]])
    outputs = decoder(weights["target_embedding.weight"][read], state)[0]
    logits = outputs @ weights["output.weight"].T + weights["output.bias"]
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), target.flatten(), ignore_index=PAD, reduction="mean"
    )
    expected.backward()

    loss = model.loss(pairs)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert set(theirs) < {name for name, _ in model.named_parameters()}
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.grad, theirs.get(name, weights[name]).grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["plain", "additive", "dot"])
def test_gradients_against_central_differences(kind: str) -> None:
    model, pairs = make(kind, hidden=2), draw(2, (1, 2))
    weights, structure = tg.tree.flatten(model)

    def loss(*values: Any) -> Any:
        return tg.tree.unflatten(structure, list(values)).loss(pairs)

    tg.gradcheck(loss, [p.numpy() for p in weights])


@kinds
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), extra=st.integers(0, 3))
def test_nothing_depends_on_padding_or_the_rest_of_the_batch(kind: str, seed: int, extra: int) -> None:
    model, pairs = make(kind), draw(4, seed=seed)
    rng = np.random.default_rng(seed)

    def padded(ids: Any, lengths: Any) -> np.ndarray:
        ids = np.pad(ids, [(0, extra), (0, 0)])
        # Whatever stands in the padding, even what is no id.
        return np.where(np.arange(len(ids))[:, None] < lengths, ids, rng.integers(-9, 99, ids.shape))

    other = Pairs(
        padded(pairs.source, pairs.source_lengths),
        pairs.source_lengths,
        padded(pairs.target, pairs.target_lengths),
        pairs.target_lengths,
    )
    loss = model.loss(pairs).item()
    assert model.loss(other).item() == pytest.approx(loss, rel=1e-12)
    alone = [model.loss(one(pairs, b)).item() for b in range(4)]
    assert loss == pytest.approx(np.average(alone, weights=pairs.target_lengths), rel=1e-12)

    written = model.greedy(pairs.source, pairs.source_lengths, 5)
    again = model.greedy(other.source, other.source_lengths, 5)
    np.testing.assert_array_equal(written.ids, again.ids)
    beams = model.beam(pairs.source, pairs.source_lengths, 3, 5)
    for b in range(4):
        n = pairs.source_lengths[b]
        ids, (length,) = model.greedy(pairs.source[:n, [b]], [n], 5)
        assert length == written.lengths[b]
        assert written.ids[:, b].tolist() == [*ids[:, 0], *[PAD] * (len(written.ids) - length)]
        assert model.beam(pairs.source[:n, [b]], [n], 3, 5)[0][0].ids == beams[b][0].ids
    assert model.exact_match(pairs) == model.exact_match(other)


@kinds
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_leaves_the_precision(kind: str, dtype: str) -> None:
    model = make(kind, dtype=dtype)
    logits, roll = model(draw())
    model.loss(draw()).backward()
    assert {str(x.dtype) for x in [logits, *(step["h"] for step in roll.steps)]} == {dtype}
    assert {str(p.grad.dtype) for p in model.parameters()} == {dtype}


@kinds
def test_a_seed_gives_the_same_model_and_another_another(kind: str) -> None:
    one, two, other = make(kind).state_dict(), make(kind).state_dict(), make(kind, seed=1).state_dict()
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name])
        assert not np.array_equal(array, other[name])


# --- teacher forcing -------------------------------------------------------------------------------------


def fed(model: Any, monkeypatch: pytest.MonkeyPatch, *args: Any) -> tuple[np.ndarray, np.ndarray]:
    """What the decoder reads at each step, and what it would have written there, both (T_out, B)."""
    read, liked = [], []
    step = model.step

    def spy(ids: Any, state: Any) -> Any:
        features, after = step(ids, state)
        read.append(ids)
        liked.append(model.output(features).numpy().argmax(axis=-1))
        return features, after

    monkeypatch.setattr(model, "step", spy)
    model.loss(*args)
    return np.array(read), np.array(liked)


@kinds
def test_what_the_decoder_reads(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, pairs = make(kind), draw(50)
    truth = np.concatenate([np.full((1, 50), START), pairs.target[:-1]])
    read, _ = fed(model, monkeypatch, pairs)
    np.testing.assert_array_equal(read, truth)

    read, liked = fed(model, monkeypatch, pairs, 0.0)
    np.testing.assert_array_equal(read[0], START)
    np.testing.assert_array_equal(read[1:], liked[:-1])

    read, liked = fed(model, monkeypatch, pairs, 0.3, 0)
    taught = read[1:] == truth[1:]
    assert (taught | (read[1:] == liked[:-1])).all()
    differ = truth[1:] != liked[:-1]
    assert taught[differ].mean() == pytest.approx(0.3, abs=0.1)
    np.testing.assert_array_equal(fed(model, monkeypatch, pairs, 0.3, 0)[0], read)
    assert (fed(model, monkeypatch, pairs, 0.3, 1)[0] != read).any()


def test_the_loss_without_a_teacher_is_that_of_what_greedy_decoding_reads() -> None:
    model, pairs = make(), draw(3, (4, 4))
    model.output.bias.data = -100 * np.eye(V)[END]  # it never ends early
    ids, _ = model.greedy(pairs.source, pairs.source_lengths, 5)
    logits, _ = model(pairs._replace(target=ids, target_lengths=np.full(3, 5)))
    expected = tg.functional.cross_entropy(logits, pairs.target).item()
    assert model.loss(pairs, teacher_forcing=0.0).item() == pytest.approx(expected, rel=1e-12)


# --- decoding --------------------------------------------------------------------------------------------


@kinds
def test_a_beam_of_one_is_greedy(kind: str) -> None:
    for seed in range(5):
        model, pairs = make(kind, seed=seed), draw(6)
        ids, lengths = model.greedy(pairs.source, pairs.source_lengths, 6)
        for b, (best,) in enumerate(model.beam(pairs.source, pairs.source_lengths, 1, 6)):
            assert best.ids == tuple(ids[: lengths[b], b])
            assert best.log_probability == pytest.approx(
                log_probability(model, pairs, b, best.ids), abs=1e-10
            )


@kinds
def test_a_wide_beam_finds_the_likeliest_of_all(kind: str) -> None:
    better = 0
    for seed in range(4):
        model, pairs = make(kind, seed=seed), draw(1, seed=seed)
        for p in model.parameters():
            p.data = 2 * p.numpy()  # undecided models would all end at once
        greedy = model.beam(pairs.source, pairs.source_lengths, 1, 2)[0][0]
        wide = model.beam(pairs.source, pairs.source_lengths, V, 2)[0][0]
        every = [(END,), *((a, b) for a, b in product(range(V), repeat=2) if a != END)]
        best = max(every, key=lambda ids: log_probability(model, pairs, 0, ids))
        assert wide.ids == best
        better += wide.log_probability > greedy.log_probability
    assert better


def test_greedy_stops_when_all_have_ended() -> None:
    model, pairs = make(), draw()
    model.output.bias.data = np.eye(V)[END] * 100
    ids, lengths = model.greedy(pairs.source, pairs.source_lengths, 50)
    assert ids.tolist() == [[END] * 5]
    assert lengths.tolist() == [1] * 5
    assert all(p.grad is None for p in model.parameters())


def test_exact_match_counts_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pairs = make(), draw(4, (3, 3))
    right = pairs.target
    longer, shorter, wrong = (right[:, b].copy() for b in (1, 2, 3))
    longer[3] = 5
    shorter[2:] = END, PAD
    wrong[0] = START
    ids = np.stack([right[:, 0], longer, shorter, wrong], axis=1)
    monkeypatch.setattr(model, "greedy", lambda *args: seq2seq.Written(ids, None))
    assert model.exact_match(pairs) == 0.25
    monkeypatch.setattr(model, "greedy", lambda *args: seq2seq.Written(ids[:2], None))
    assert model.exact_match(pairs) == 0


# --- learning --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "additive"])
def test_it_learns_to_reverse_short_strings(kind: str) -> None:
    model = make(kind, hidden=32, dtype=np.float32)
    rng = np.random.default_rng(0)
    losses = list(fit(model, lambda: draw(32, (1, 3), rng), 250, lr=2e-2))
    assert losses[-1] < 0.1 < losses[0]
    assert model.exact_match(draw(200, (1, 3), seed=1)) == 1


def test_training_is_repeatable() -> None:
    def losses(seed: int) -> list[float]:
        return list(REVERSAL.train(REVERSAL.model(Seq2Seq, seed=0), steps=3, seed=seed))

    assert losses(4) == losses(4) != losses(5)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All that training has compiled."""
    made: list[Any] = []
    monkeypatch.setattr(seq2seq_tasks, "compile", lambda fn: made.append(tg.compile(fn)) or made[-1])
    return made


@kinds
def test_compiled_and_eager_training_agree(kind: str, compiled: list[Any]) -> None:
    def losses(how: bool) -> list[float]:
        rng = np.random.default_rng(0)
        return list(fit(make(kind), lambda: draw(9, (2, rng.integers(2, 6)), rng), 6, compiled=how))

    np.testing.assert_allclose(losses(True), losses(False), rtol=1e-9)
    (step,) = compiled
    info = step.cache_info()
    assert info.programs == 1 < info.signatures


def test_what_reads_what_it_wrote_is_not_compiled(compiled: list[Any]) -> None:
    list(fit(make(), draw, 2, teacher_forcing=0.5, seed=0))
    assert compiled == []


def test_the_learning_rate_rises_and_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []
    step = tg.optim.AdamW.step
    monkeypatch.setattr(tg.optim.AdamW, "step", lambda self: (rates.append(self.lr), step(self)))
    list(fit(make(), draw, 150, lr=0.5, compiled=False))
    assert int(np.argmax(rates)) in (99, 100)
    assert max(rates) == 0.5
    assert rates[0] == pytest.approx(0.005)
    assert rates[-1] < 0.01


def test_weights_decay_as_asked_for() -> None:
    """Seen in what has no gradient: the embedding of an id that no source holds."""

    def shrunk(train: Any) -> float:
        before = model.source_embedding.weight.numpy()[START].copy()
        list(train)
        after = model.source_embedding.weight.numpy()[START]
        ratio: np.ndarray = after / before
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
        return float(ratio[0])

    # Of two steps, both while the rate rises: to a half, and to all of it.
    model = make()
    assert shrunk(fit(model, draw, 2, lr=0.1, weight_decay=0.5)) == pytest.approx(0.975 * 0.95)
    assert shrunk(fit(model, draw, 2, lr=0.1)) == 1
    model = ADDITION.model(Seq2Seq, seed=0)
    decayed = (1 - 0.5 * 5e-3 * 0.3) * (1 - 5e-3 * 0.3)
    assert shrunk(ADDITION.train(model, steps=2)) == pytest.approx(decayed, rel=1e-6)


def test_additions_are_tested_on_problems_of_their_own() -> None:
    test = ADDITION.test(2000)
    held_out = {tuple(problem) for problem in test.source.T}
    assert len(held_out) == test.source.shape[1] > 1000
    trained = ADDITION.draw(5000, 0, False)
    assert held_out.isdisjoint({tuple(problem) for problem in trained.source.T})
    assert trained.source.shape[1] == 5000


# --- files -----------------------------------------------------------------------------------------------


@kinds
def test_a_file_brings_the_same_model_back(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model, pairs = make(kind), draw()
    model.save(path)
    generator = tg.manual_seed(0)
    again = type(model).load(path)
    assert int(generator.integers(100)) == 85, "loading drew from the package's own generator"
    assert again.loss(pairs).item() == model.loss(pairs).item()
    assert again.config() == model.config()


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    make("dot").save(path)
    with pytest.raises(CheckpointError, match="is of the model 'AttentiveSeq2Seq'; a Seq2Seq is needed"):
        Seq2Seq.load(path)
    make().save(path)
    with pytest.raises(CheckpointError, match="of the model 'Seq2Seq'; an AttentiveSeq2Seq is needed here"):
        AttentiveSeq2Seq.load(path)
    save_checkpoint(path, {}, {})
    with pytest.raises(CheckpointError, match="does not name its model"):
        Seq2Seq.load(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hidden": 10**9}, r"target_vocab_size and hidden are said to be \(7, 1000000000\), .* \(7, 6\)"),
        ({"embedding": "3"}, "source_vocab_size and embedding"),
        ({"layers": 10**9}, "layers in 12 tensors"),
        ({"layers": 2}, r"encoder\.weight_ih_l1 \(18, 6\) is missing"),
        ({"cell": "gro"}, "damaged: there is no cell 'gro'"),
        ({"colour": 1}, "damaged: .*colour"),
        ({"dtype": "int64"}, "damaged: .*dtype"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    path = tmp_path / "model.safetensors"
    make().save(path)
    tensors, meta = (parts := load_checkpoint(path)).tensors, parts.meta
    save_checkpoint(path, tensors, {**meta, "config": {**meta["config"], **change}})
    with pytest.raises(CheckpointError, match=sentence):
        Seq2Seq.load(path)


# --- bad arguments ---------------------------------------------------------------------------------------

GOOD = Pairs(
    np.array([[3, 4], [5, 0]]), np.array([2, 1]), np.array([[5, 4], [3, 1], [1, 0]]), np.array([3, 2])
)


@kinds
@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (
            {"source": [[3, 7], [5, 0]]},
            ShapeError,
            r"source holds the id 7 at step 0 of sequence 1; .* 0\.\.6",
        ),
        ({"target": [[5, 4], [-1, 1], [1, 0]]}, ShapeError, "target holds the id -1 at step 1 of sequence 0"),
        ({"source": [[3.0, 4.0]]}, DtypeError, "source must be integers, not float64"),
        ({"source": [3, 4]}, ShapeError, r"source must be \(T, B\), .* not \(2,\)"),
        (
            {"source": np.zeros((0, 2), int)},
            ShapeError,
            r"source must be \(T, B\), with at least one timestep",
        ),
        ({"source_lengths": [2, 3]}, ShapeError, r"source_lengths must lie in 1\.\.2, .* sequence 1 is 3"),
        ({"source_lengths": [0, 1]}, ShapeError, r"source_lengths must lie in 1\.\.2, .* sequence 0 is 0"),
        ({"source_lengths": [2]}, ShapeError, r"source_lengths must be \(2,\), .* not \(1,\)"),
        ({"target_lengths": [2.0, 2.0]}, DtypeError, "target_lengths must be integers, not float64"),
        ({"target_lengths": [4, 2]}, ShapeError, r"target_lengths must lie in 1\.\.3, .* sequence 0 is 4"),
        ({"target": [[1]], "target_lengths": [1]}, ShapeError, "target has 1 sequences, but the source 2"),
    ],
)
def test_pairs_that_do_not_fit(kind: str, change: dict[str, Any], error: type, sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        make(kind).loss(GOOD._replace(**change))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Seq2Seq(V, V, cell="gro"), "there is no cell 'gro' .*'gru'"),
        (lambda: Seq2Seq(V, V, hidden=0), "Seq2Seq: hidden must be an integer of at least 1, not 0"),
        (lambda: Seq2Seq(V, V, embedding=1.5), "embedding must be an integer of at least 1, not 1.5"),
        (lambda: Seq2Seq(V, V, layers=0), "layers must be an integer of at least 1, not 0"),
        (lambda: Seq2Seq(0, V), "source_vocab_size must be an integer of at least 1, not 0"),
        (lambda: Seq2Seq(V, 2), "target_vocab_size must be an integer of at least 3, not 2"),
        (lambda: Seq2Seq(V, V, hidden=5, bidirectional=True), "hidden=5 units; give an even number"),
        (lambda: make().loss(GOOD, 1.1), "teacher_forcing is a probability, from 0 to 1, not 1.1"),
        (lambda: make().loss(GOOD, float("nan")), "teacher_forcing is a probability"),
        (
            lambda: make().greedy(GOOD.source, GOOD.source_lengths, 0),
            "max_length must be an integer of at least 1",
        ),
        (lambda: next(fit(make(), draw, 0)), "fit: steps must be an integer of at least 1, not 0"),
        (lambda: make().beam(GOOD.source, GOOD.source_lengths, 0, 3), "the width of a beam .* not 0"),
    ],
)
def test_arguments_out_of_range(call: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        call()


@pytest.mark.parametrize("dtype", ["int64", "float16"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(DtypeError, match=f"Seq2Seq: dtype must be float32 or float64, not {dtype}"):
        Seq2Seq(V, V, dtype=dtype)
