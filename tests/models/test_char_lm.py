"""The character model: against NumPy and PyTorch, sampling, evaluation, files, and bad arguments."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import tree
from tensorgrad.data import Vocabulary
from tensorgrad.errors import CheckpointError, ShapeError, UserError
from tensorgrad.io import Checkpoint, load_checkpoint, save_checkpoint
from tensorgrad.models.char_lm import CharLM
from tensorgrad.models.manual import rnn as manual

TEXT = "hello world, hello rnn"
cells = pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])


def make(cell: str = "rnn", hidden: int = 6, dtype: Any = np.float64, seed: int = 0) -> CharLM:
    return CharLM(Vocabulary(TEXT), cell, hidden, seed=seed, dtype=dtype)


def window(model: CharLM, T: int = 5, B: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(seed).integers(len(model.vocabulary), size=(T + 1, B))
    return ids[:-1], ids[1:]


def test_the_loss_and_its_gradients_are_those_written_by_hand() -> None:
    model = make()
    xs, ys = window(model)
    h0 = np.random.default_rng(1).normal(size=(3, 6))
    result = model.loss(xs, ys, (tg.tensor(h0),))
    result.loss.backward()
    cell, output = model.rnn.cells["l0"], model.output
    params: Any = {
        "W_xh": cell.weight_ih,
        "W_hh": cell.weight_hh,
        "b_h": cell.bias_ih,
        "W_hy": output.weight,
        "b_y": output.bias,
    }
    plain = {name: p.numpy() for name, p in params.items()}
    assert cell.bias_hh is not None
    plain["b_h"] = plain["b_h"] + cell.bias_hh.numpy()
    loss, cache = manual.forward(plain, xs, ys, h0)
    np.testing.assert_allclose(result.loss.item(), loss, rtol=1e-12)
    np.testing.assert_allclose(result.state[0].numpy(), cache.h_last, rtol=1e-12)
    for name, g in manual.backward(plain, cache).params.items():
        np.testing.assert_allclose(params[name].grad, g, rtol=1e-9, atol=1e-12)


@cells
def test_it_is_pytorch_s_with_the_same_weights(cell: str) -> None:
    torch = pytest.importorskip("torch")
    model = make(cell)
    xs, ys = window(model)
    theirs = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](len(model.vocabulary), 6)
    out = torch.nn.Linear(6, len(model.vocabulary))
    theirs, out = theirs.double(), out.double()
    with torch.no_grad():
        for name, p in model.rnn.named_parameters():
            getattr(theirs, name).copy_(torch.tensor(p.numpy().copy()))
        for name, p in model.output.named_parameters():
            getattr(out, name).copy_(torch.tensor(p.numpy().copy()))
    one_hot = torch.nn.functional.one_hot(torch.tensor(xs), len(model.vocabulary)).double()
    scores = out(theirs(one_hot)[0])
    expected = torch.nn.functional.cross_entropy(scores.flatten(0, 1), torch.tensor(ys).flatten())
    expected.backward()
    result = model.loss(xs, ys)
    result.loss.backward()
    assert result.loss.item() == pytest.approx(expected.item(), rel=1e-12)
    for name, p in model.rnn.named_parameters():
        np.testing.assert_allclose(p.grad, getattr(theirs, name).grad.numpy(), rtol=1e-9, atol=1e-12)


@cells
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_leaves_the_precision(cell: str, dtype: str) -> None:
    model = make(cell, dtype=dtype)
    xs, ys = window(model)
    result = model.loss(xs, ys, model.initial_state(3))
    result.loss.backward()
    arrays = [result.loss, *tree.leaves(result.state), *(step["h"] for step in result.unrolled.steps)]
    assert {str(a.dtype) for a in arrays} == {dtype}
    assert {str(p.grad.dtype) for p in model.parameters()} == {dtype}


def test_the_weights_start_as_pytorch_s_do() -> None:
    model = make(hidden=64)
    for p in model.parameters():
        assert np.abs(p.numpy()).max() <= 1 / 8
        assert np.abs(p.numpy()).max() > 0.9 / 8
    for a, b in zip(model.parameters(), make(hidden=64).parameters(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    weights = [make(hidden=64, seed=seed).state_dict()["rnn.weight_hh_l0"] for seed in (0, 1)]
    assert not np.array_equal(*weights)


def test_a_tied_embedding_starts_with_the_spread_of_an_output_layer() -> None:
    model = CharLM(Vocabulary(TEXT), hidden=64, tied=True, seed=0)
    assert model.embedding.weight is model.output.weight
    assert 0.9 / 8 < np.abs(model.embedding.weight.numpy()).max() <= 1 / 8


def test_dropout_acts_on_what_the_output_layer_reads() -> None:
    """Of one layer it is the only dropout there is."""
    model = CharLM(Vocabulary(TEXT), hidden=200, dropout=0.5, seed=0, dtype=np.float64)
    xs, _ = window(model, T=1, B=1)
    model.output.weight.data = np.eye(10, 200)
    model.output.bias.data = np.zeros(10)
    with model.evaluating():
        plain, h = model(xs).logits.numpy()[0, 0], model(xs).state[0].numpy()
    drawn = [model(xs) for _ in range(100)]
    found = np.stack([run.logits.numpy()[0, 0] for run in drawn])
    zero, double = np.isclose(found, 0), np.isclose(found, 2 * plain)
    assert (zero | double).all()
    assert zero.mean() == pytest.approx(0.5, abs=0.1)
    np.testing.assert_array_equal(drawn[0].state[0].numpy(), h)


def test_dropout_has_no_say_in_evaluation_and_sampling() -> None:
    """Though the model is in training, as it is between a trainer's steps."""
    model = CharLM(Vocabulary(TEXT), "gru", 12, layers=2, dropout=0.5, seed=0, dtype=np.float64)
    for parameter in model.parameters():
        parameter.data = parameter.numpy() * 4
    ids, prime = model.vocabulary.encode(TEXT), "hello world" * 20

    def results() -> tuple[float, str, str]:
        # One character: what was read, and not what is written, must tell a difference.
        drawn = ["".join(model.sample(prime[: 20 + n], 1, seed=n)) for n in range(50)]
        return model.evaluate(ids), "".join(drawn), model.beam(prime, 5, 3)

    training = [results() for _ in range(2)]
    assert model.training
    assert training[0] == training[1]
    model.eval()
    assert results() == training[0]
    assert not model.training


@pytest.mark.parametrize("cell", ["lstm", "peephole", "lnlstm"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, "abc", [1, 2]])
def test_a_forget_bias_must_be_a_number(cell: str, value: Any) -> None:
    with pytest.raises(ValueError, match="LSTMCell: forget_bias must be a finite number, not ") as caught:
        CharLM(Vocabulary(TEXT), cell, 4, cell_options={"forget_bias": value})
    assert str(caught.value).endswith(repr(value))


@cells
def test_the_state_carries_on_from_window_to_window(cell: str) -> None:
    model = make(cell)
    xs, ys = window(model, T=8)
    whole = model.loss(xs, ys).loss.item()
    first = model.loss(xs[:4], ys[:4])
    second = model.loss(xs[4:], ys[4:], tree.map(tg.Tensor.detach, first.state))
    assert (first.loss.item() + second.loss.item()) / 2 == pytest.approx(whole, rel=1e-12)


@cells
def test_evaluation_is_the_mean_loss_over_the_text(cell: str) -> None:
    model = make(cell)
    ids = model.vocabulary.encode(TEXT)
    expected = model.loss(ids[:-1, None], ids[1:, None]).loss.item()
    for size in (1, 4, 100):
        assert model.evaluate(ids, batch=1, window=size) == pytest.approx(expected, rel=1e-12)
    # Three streams of seven: each from a fresh state.
    streams = [model.loss(ids[k : k + 7, None], ids[k + 1 : k + 8, None]).loss.item() for k in (0, 7, 14)]
    assert model.evaluate(ids, batch=3) == pytest.approx(np.mean(streams), rel=1e-12)
    assert model.evaluate(ids[:3], batch=50) > 0


def test_evaluation_records_nothing() -> None:
    model = make()
    model.evaluate(model.vocabulary.encode(TEXT))
    assert all(p.grad is None for p in model.parameters())


@cells
def test_sampling_follows_the_model_s_probabilities(cell: str) -> None:
    """The share of each next character over many draws, against softmax of the graph's own scores."""
    model = make(cell)
    scores = model(model.vocabulary.encode("hello"))[0].numpy()[-1]
    rng = np.random.default_rng(0)
    for temperature in (0.5, 1.0):
        drawn = [next(model.sample("hello", 1, temperature, rng)) for _ in range(1000)]
        shares = np.bincount(model.vocabulary.encode("".join(drawn)), minlength=len(model.vocabulary)) / 1000
        p = np.exp(scores / temperature)
        np.testing.assert_allclose(shares, p / p.sum(), atol=0.04)


@cells
def test_sampling_feeds_each_character_back(cell: str) -> None:
    model = make(cell)
    for parameter in model.parameters():
        parameter.data = parameter.numpy() * 3
    written = "".join(model.sample("he", length=12, temperature=0))
    text = "he"
    for _ in range(12):
        scores = model(model.vocabulary.encode(text))[0].numpy()[-1]
        text += model.vocabulary.characters[scores.argmax()]
    assert "he" + written == text


def test_the_same_seed_writes_the_same_text() -> None:
    model = make()
    texts = ["".join(model.sample("he", 50, seed=seed)) for seed in (7, 7, 8)]
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0]) == 50


def test_a_sample_is_written_as_it_is_asked_for() -> None:
    model = make()
    characters = model.sample("he", length=10**9, seed=0)
    assert len([next(characters) for _ in range(3)]) == 3


def test_a_waiting_sample_leaves_recording_on() -> None:
    model = make()
    characters = model.sample("he", 5, seed=0)
    next(characters)
    assert tg.is_recording()
    assert model.loss([[0]], [[1]]).loss.requires_grad


def test_without_a_prime_it_starts_at_a_line_end_or_anywhere() -> None:
    model = CharLM(Vocabulary("ab\n"), hidden=4, seed=0)
    assert "".join(model.sample(length=20, seed=3)) == "".join(model.sample("\n", length=20, seed=3))
    assert len("".join(make().sample(length=20, seed=3))) == 20
    assert "".join(model.sample(length=0)) == ""


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-3, 1e300])
def test_extreme_temperatures(temperature: float) -> None:
    model = make()
    texts = {"".join(model.sample("he", 20, temperature, seed)) for seed in range(5)}
    assert len(texts) == (1 if temperature < 1e-5 else 5 if temperature > 1 else len(texts))


def test_large_scores_do_not_overflow() -> None:
    model = make(dtype=np.float32)
    model.output.weight.data = np.full(model.output.weight.shape, 1e30)
    assert len("".join(model.sample("he", 5, seed=0))) == 5


@cells
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_saved_model_is_the_same_model(cell: str, dtype: str, tmp_path: Path) -> None:
    model = make(cell, dtype=dtype)
    model.save(tmp_path / "m.safetensors")
    again = CharLM.load(tmp_path / "m.safetensors")
    assert (again.config(), again.dtype.name) == (model.config(), dtype)
    assert (again.cell, again.vocabulary) == (cell, model.vocabulary)
    xs, ys = window(model)
    assert again.loss(xs, ys).loss.item() == model.loss(xs, ys).loss.item()
    assert "".join(again.sample("he", 30, seed=0)) == "".join(model.sample("he", 30, seed=0))


def test_loading_takes_nothing_from_the_packages_generator(tmp_path: Path) -> None:
    make().save(tmp_path / "m.safetensors")
    before = tg.manual_seed(0).bit_generator.state
    CharLM.load(tmp_path / "m.safetensors")
    assert tg.manual_seed(0).bit_generator.state == before
    rng = tg.manual_seed(0)
    CharLM.load(tmp_path / "m.safetensors")
    assert rng.bit_generator.state == before


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    make().save(path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError):
        make().save(tmp_path / "no such folder" / "m.safetensors")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"cell": "elman"}, "there is no cell 'elman'"),
        ({"hidden": 0}, "the number of hidden units must be a whole number from 1 up, not 0"),
        ({"hidden": 2.5}, "hidden units must be a whole number from 1 up, not 2.5"),
        ({"layers": 1.5}, "the number of layers must be a whole number from 1 up, not 1.5"),
        ({"embedding": -3}, "the size of the embedding must be a whole number from 1 up, not -3"),
        ({"cell_options": {"seed": 1}}, "'seed' is an argument of the model, not an option of the cell"),
        ({"cell_options": {"dtype": "float64"}}, "'dtype' is an argument of the model"),
        ({"cell_options": {"input_size": 3}}, "'input_size' is an argument of the model"),
        ({"cell_options": {"hidden_size": 3}}, "'hidden_size' is an argument of the model"),
        ({"cell": "irnn", "cell_options": {"scale": "x"}}, "'irnn' cannot be made with scale='x': "),
        ({"cell_options": {"name": "gru"}}, "'name' is an argument of the model"),
        ({"cell_options": {"forget": 1}}, "no option 'forget'; its options are bias, nonlinearity, [^s]"),
        ({"dtype": "float16"}, "the dtype must be float32 or float64, not float16"),
        ({"dtype": "nonsense"}, "the dtype must be float32 or float64, not nonsense"),
        ({"dtype": None}, "the dtype must be float32 or float64, not None"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        CharLM(Vocabulary(TEXT), **arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"prime": "heX"}, "the character 'X' at position 2 is unknown"),
        ({"length": -1}, "the length of a sample must be a whole number from 0 up, not -1"),
        ({"length": 2.5}, "the length of a sample must be a whole number from 0 up, not 2.5"),
        ({"temperature": -0.5}, "the temperature must be a number from 0 up, not -0.5"),
        ({"temperature": float("nan")}, "not nan"),
        ({"temperature": float("inf")}, "not inf"),
    ],
)
def test_bad_samples_are_refused_before_the_first_character(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make().sample(**arguments)


def test_a_diverged_model_does_not_write_nonsense() -> None:
    model = make()
    model.output.bias = tg.nn.Parameter(np.full(len(model.vocabulary), np.nan))
    with pytest.raises(UserError, match="its weights have diverged"):
        next(model.sample("he", 5))


@pytest.mark.parametrize(("n", "arguments"), [(0, {}), (1, {}), (9, {"batch": 0}), (9, {"window": 0})])
def test_bad_evaluations(n: int, arguments: dict[str, int]) -> None:
    with pytest.raises(UserError, match="at least"):
        make().evaluate(np.zeros(n, np.intp), **arguments)


def test_ids_and_states_that_do_not_fit_are_errors() -> None:
    model = make()
    with pytest.raises(ShapeError, match="out of range"):
        model.loss([[99]], [[0]])
    with pytest.raises(ShapeError, match="RNNCell"):
        model.loss([[0]], [[0]], model.initial_state(2))


def damaged(change: str) -> Checkpoint:
    checkpoint = make().to_checkpoint()
    tensors, meta = dict(checkpoint.tensors), dict(checkpoint.meta)
    config = meta["config"]
    if change == "another model":
        meta["model"] = "Transformer"
    elif change == "no model":
        meta = {}
    elif change == "another cell":
        config["cell"] = "gru"
    elif change == "unknown cell":
        config["cell"] = "elman"
    elif change == "no vocabulary":
        del config["vocabulary"]
    elif change == "shorter vocabulary":
        config["vocabulary"] = config["vocabulary"][:-1]
    elif change == "huge":
        config["hidden"] = 10**12
    elif change == "no size":
        config["hidden"] = "6"
    elif change == "no config":
        del meta["config"]
    elif change == "no dtype":
        del config["dtype"]
    elif change == "missing weight":
        del tensors["rnn.weight_hh_l0"]
    elif change == "extra weight":
        tensors["rnn.weight_zz_l0"] = np.zeros(2)
    elif change == "misshapen weight":
        tensors["rnn.weight_hh_l0"] = np.zeros((6, 5))
    return Checkpoint(tensors, meta)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("another model", "is of the model 'Transformer'; a CharLM is needed here"),
        ("no model", "does not name its model"),
        ("another cell", r"rnn.weight_ih_l0 is \(6, 10\) and should be \(18, 10\)"),
        ("unknown cell", "'elman'"),
        ("no vocabulary", "the vocabulary is damaged"),
        ("shorter vocabulary", "describes 9 characters and 6 hidden units"),
        ("huge", "1000000000000 hidden units"),
        ("no size", "'6' hidden units"),
        ("no dtype", "is damaged: rnn.weight_ih_l0 is float64 and should be float32"),
        ("no config", "does not say how the model was made"),
        ("missing weight", "rnn.weight_hh_l0 .* is missing"),
        ("extra weight", "rnn.weight_zz_l0 .* is unexpected"),
        ("misshapen weight", r"rnn.weight_hh_l0 is \(6, 5\)"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(change: str, sentence: str, tmp_path: Path) -> None:
    parts = damaged(change)
    save_checkpoint(tmp_path / "m.safetensors", parts.tensors, parts.meta)
    with pytest.raises(CheckpointError, match=sentence) as caught:
        CharLM.load(tmp_path / "m.safetensors")
    assert "m.safetensors" in str(caught.value)


def test_a_file_from_another_program_is_refused(tmp_path: Path) -> None:
    save = pytest.importorskip("safetensors.numpy").save_file
    save({"weight": np.zeros((2, 2))}, tmp_path / "other.safetensors")
    assert load_checkpoint(tmp_path / "other.safetensors").meta == {}
    with pytest.raises(CheckpointError, match="does not name its model"):
        CharLM.load(tmp_path / "other.safetensors")


def test_one_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    make().save(path)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        CharLM.load(path)


def test_it_shows_what_it_is() -> None:
    assert repr(make("gru")).splitlines() == [
        "CharLM(10 characters",
        "  rnn: Recurrent(10, 6, num_layers=1",
        "    l0: GRUCell(10, 6)",
        "  )",
        "  output: Linear(6, 10)",
        ")",
    ]


def test_a_step_leaves_no_graph_behind() -> None:
    model = make()
    xs, ys = window(model)
    gc.disable()
    try:
        result = model.loss(xs, ys)
        result.loss.backward()
        dead = weakref.ref(result.unrolled.steps[0]["h"])
        del result
        assert dead() is None
    finally:
        gc.enable()


def test_a_long_prime_is_read_in_windows_of_bounded_memory() -> None:
    model = make()
    prime = "hello world" * 300
    scores = model(model.vocabulary.encode(prime)[:, None]).logits.numpy()[-1, 0]
    assert next(model.sample(prime, 1, temperature=0)) == model.vocabulary.characters[scores.argmax()]
    peaks = []
    for n in (400, 3000):
        tracemalloc.start()
        next(model.sample(prime[:n], 1, seed=0))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The ids take 8 bytes each, and a list of them as much again; a graph would take thousands.
    assert peaks[1] - peaks[0] < 100 * (3000 - 400)


@cells
def test_a_beam_finds_likelier_text_than_greed(cell: str) -> None:
    model = make(cell)
    for parameter in model.parameters():
        parameter.data = parameter.numpy() * 3

    def log_probability(text: str) -> float:
        ids = model.vocabulary.encode("he" + text)
        logp = tg.functional.log_softmax(model(ids[:-1, None]).logits.numpy()[:, 0])
        return float(logp[np.arange(len(ids) - 1), ids[1:]][1:].sum())

    texts = [model.beam("he", 12, width) for width in (1, 30)]
    assert texts[0] == "".join(model.sample("he", 12, temperature=0))
    assert log_probability(texts[1]) >= log_probability(texts[0])
    assert model.beam("he", 0) == ""
