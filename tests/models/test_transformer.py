"""The transformer: against PyTorch's, causality, what it carries, files, and bad arguments."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad.data import Vocabulary
from tensorgrad.errors import CheckpointError, ShapeError, UserError
from tensorgrad.functional import gelu
from tensorgrad.io import Checkpoint
from tensorgrad.models.language import LanguageModel
from tensorgrad.models.trainer import Settings, Trainer
from tensorgrad.models.transformer import Block, TransformerLM
from tensorgrad.nn import detach

TEXT = "hello world, hello transformer"
V = len(Vocabulary(TEXT))


def make(d_model: int = 8, **options: Any) -> TransformerLM:
    options = {"layers": 2, "heads": 2, "context": 6, "seed": 0, "dtype": np.float64, **options}
    return TransformerLM(Vocabulary(TEXT), d_model, **options)


def text(T: int, B: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(V, size=(T, B))


# --- what it computes ------------------------------------------------------------------------------------
def in_torch(torch: Any, model: TransformerLM) -> Any:
    """The same model of PyTorch's layers, with the same weights: ids (T, B) to logits, and its parameters."""
    state = {name: torch.tensor(w, requires_grad=True) for name, w in model.state_dict().items()}
    D = model.d_model
    layers = []
    for k in range(len(model.blocks)):
        layer = torch.nn.TransformerEncoderLayer(
            D,
            model.heads,
            4 * D,
            dropout=0.0,
            activation=lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
            norm_first=True,
            dtype=torch.float64,
        )
        prefix = f"blocks.{k}."
        own = {n.removeprefix(prefix): w.detach() for n, w in state.items() if n.startswith(prefix)}
        layer.load_state_dict(own)
        state.update({prefix + name: p for name, p in layer.named_parameters()})
        layers.append(layer)
    if model.output is None:
        state["output.weight"], state["output.bias"] = state["embedding.weight"], None

    def run(ids: np.ndarray) -> Any:
        T = len(ids)
        places = state.get("places.weight")
        if places is None:
            t, i = np.arange(T)[:, None], np.arange(D)
            angles = t / 10000 ** ((i - i % 2) / D)
            places = torch.tensor(np.where(i % 2, np.cos(angles), np.sin(angles)))
        x = state["embedding.weight"][torch.tensor(ids)] + places[:T, None]
        for layer in layers:
            x = layer(x, src_mask=torch.nn.Transformer.generate_square_subsequent_mask(T, dtype=x.dtype))
        x = torch.nn.functional.layer_norm(x, (D,), state["norm.weight"], state["norm.bias"])
        return torch.nn.functional.linear(x, state["output.weight"], state["output.bias"])

    return run, state


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_it_is_pytorch_s_with_the_same_weights(positions: str, tied: bool) -> None:
    torch = pytest.importorskip("torch")
    model = make(positions=positions, tied=tied)
    for k, p in enumerate(model.parameters()):
        # Away from zeros and ones, so that no mistake hides behind them.
        p.data = p.numpy() + 0.3 * np.random.default_rng(k).standard_normal(p.shape)
    run, theirs = in_torch(torch, model)
    xs, ys = text(5, 3), text(5, 3, seed=1)

    logits = model(xs).logits
    their_logits = run(xs)
    np.testing.assert_allclose(logits.numpy(), their_logits.detach().numpy(), rtol=1e-10, atol=1e-12)
    model.loss(xs, ys).loss.backward()
    torch.nn.functional.cross_entropy(their_logits.flatten(0, 1), torch.tensor(ys).flatten()).backward()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.grad, theirs[name].grad.numpy(), rtol=1e-10, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_its_gradients_are_those_of_differences(positions: str) -> None:
    model = make(4, layers=1, positions=positions, context=3)
    xs, ys = text(3), text(3, seed=1)

    def loss() -> Any:
        return model.loss(xs, ys).loss

    loss().backward()
    rng = np.random.default_rng(0)
    for name, p in model.named_parameters():
        direction, w = rng.standard_normal(p.shape), p.numpy().copy()
        sides = []
        for sign in (1, -1):
            p.data = w + sign * 1e-5 * direction
            sides.append(float(loss()))
        p.data = w
        slope = (sides[0] - sides[1]) / 2e-5
        np.testing.assert_allclose((p.grad * direction).sum(), slope, rtol=1e-6, atol=1e-9, err_msg=name)


def test_gelu_is_pytorch_s_approximation() -> None:
    torch = pytest.importorskip("torch")
    x = np.array([-1e4, -10.0, -1.0, -1e-8, 0.0, 0.5, 3.0, 1e4])
    theirs = torch.tensor(x, requires_grad=True)
    out = torch.nn.functional.gelu(theirs, approximate="tanh")
    out.sum().backward()
    ours = tg.tensor(x, requires_grad=True)
    gelu(ours).sum().backward()
    np.testing.assert_allclose(gelu(x), out.detach().numpy(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), rtol=1e-12, atol=1e-15)
    tg.gradcheck(gelu, [np.linspace(-3, 3, 7)], order=2)
    assert gelu(x.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_nothing_leaves_the_precision(positions: str, dtype: Any) -> None:
    model = make(positions=positions, dtype=dtype, dropout=0.1, tied=False)
    result = model.loss(text(4), text(4, seed=1))
    result.loss.backward()
    assert {result.loss.dtype, *(p.grad.dtype for p in model.parameters())} == {np.dtype(dtype)}


@settings(max_examples=20, deadline=None)
@given(T=st.integers(2, 15), later=st.integers(1, 14), seed=st.integers(0, 2**32))
def test_a_later_character_changes_no_score_before_it(T: int, later: int, seed: int) -> None:
    later = later % T
    model = make(seed=seed)
    ids = text(T, seed=seed)
    changed = ids.copy()
    changed[later:] = (ids[later:] + 1) % V
    before, after = model(ids).logits.numpy(), model(changed).logits.numpy()
    np.testing.assert_allclose(after[:later], before[:later], rtol=0, atol=1e-12)
    # And it is not that the text has no say at all.
    assert (after[later] != before[later]).any()


def test_tied_weights_are_one_parameter_that_learns_from_both_its_uses() -> None:
    tied, untied = make(tied=True), make(tied=False)
    assert "output.weight" not in tied.state_dict()
    # The same function, with the two uses apart.
    state = {**tied.state_dict(), "output.weight": tied.embedding.weight.numpy(), "output.bias": np.zeros(V)}
    untied.load_state_dict(state)
    xs, ys = text(5), text(5, seed=1)
    for model in (tied, untied):
        model.loss(xs, ys).loss.backward()
    apart = untied.embedding.weight.grad, untied.output.weight.grad
    assert all((g != 0).any() for g in apart)
    np.testing.assert_allclose(tied.embedding.weight.grad, apart[0] + apart[1], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("d_model", "std"), [(48, 0.08), (192, 0.04)])
def test_the_weights_start_with_gpt_2_s_spread(d_model: int, std: float) -> None:
    """0.02 at a size of 768, and as large products at others; less where many layers add up."""
    model = make(d_model, layers=8, context=100, tied=False)
    added, seen = ("self_attn.out_proj.weight", "linear2.weight"), []
    for name, p in model.named_parameters():
        layer, inner = re.fullmatch(r"(?:blocks\.(\d)\.)?(.*)", name).groups()
        if name in ("embedding.weight", "places.weight") or (layer is not None and p.ndim == 2):
            seen.append(inner)
            expected = std / 4 if inner in added else std
            assert p.numpy().std() == pytest.approx(expected, rel=0.1), name
    assert len(seen) == 2 + 8 * 4


def zeros_and_doubles(found: np.ndarray, plain: np.ndarray) -> bool:
    """Whether it is `plain` after dropout of one half."""
    zero, double = np.isclose(found, 0, atol=1e-12), np.isclose(found, 2 * plain, atol=1e-12)
    return bool((zero | double).all() and 0.3 < zero.mean() < 0.7)


@pytest.mark.parametrize("part", ["attended", "linear2"])
def test_dropout_acts_on_what_either_part_of_a_layer_gives(part: str) -> None:
    block, x = Block(8, 2, dropout=0.5, std=0.3, seed=0), np.random.default_rng(0).standard_normal((9, 4, 8))
    # Without the other part, and without dropout of the attention's weights.
    other = block.linear2 if part == "attended" else block.self_attn.out_proj
    other.weight.data = np.zeros(other.weight.shape)
    block.self_attn.dropout.p = 0.0
    with block.evaluating():
        plain = block(x).numpy() - x
    assert zeros_and_doubles(block(x).numpy() - x, plain)


def test_dropout_acts_on_the_weights_of_the_attention() -> None:
    block, x = Block(8, 2, dropout=0.5, std=0.3, seed=0), np.random.default_rng(0).standard_normal((9, 4, 8))
    block.dropout.p = 0.0
    assert (block(x).numpy() != block(x).numpy()).any()


def test_dropout_acts_on_characters_and_their_places() -> None:
    model = make(dropout=0.5)
    seen = []
    model.blocks = [lambda x: seen.append(x.numpy()) or x]  # type: ignore[list-item]
    ids = text(6, 9)
    model(ids)
    with model.evaluating():
        model(ids)
    assert zeros_and_doubles(*seen)


def test_dropout_acts_in_training_and_not_in_evaluation() -> None:
    model = make(dropout=0.5)
    ids = text(5)
    assert (model(ids).logits.numpy() != model(ids).logits.numpy()).any()
    with model.evaluating():
        np.testing.assert_array_equal(model(ids).logits.numpy(), model(ids).logits.numpy())


def test_the_layers_are_named_in_errors_and_drawings() -> None:
    logits = make()(text(3)).logits
    scopes, waiting = set(), [logits]
    while waiting:
        node = waiting.pop()
        scopes.add(getattr(node, "scope", ""))
        waiting += [x for x in getattr(node, "operands", ()) if hasattr(x, "operands")]
    assert {"layer=0", "layer=1"} <= scopes
    assert logits.name == "y"


# --- what it carries -------------------------------------------------------------------------------------
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 6), min_size=1, max_size=6), seed=st.integers(0, 2**32))
@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_in_windows_it_sees_what_a_window_onto_the_text_shows(
    positions: str, cuts: list[int], seed: int
) -> None:
    """Each window's scores are those of its characters at the end of the last `context` ones."""
    model = make(positions=positions)
    ids = text(sum(cuts), seed=seed)
    state: Any = None if seed % 2 else model.initial_state(2)
    end = 0
    for T in cuts:
        logits, state, _ = model(ids[end : end + T], state)
        end += T
        alone = model(ids[max(0, end - model.context) : end]).logits
        np.testing.assert_allclose(logits.numpy(), alone.numpy()[-T:], rtol=1e-10, atol=1e-12)
        kept = ids[:end].T[:, -(model.context - 1) :]
        assert state.shape == (2, model.context - 1)
        np.testing.assert_array_equal(state.numpy()[:, state.numpy()[0] >= 0], kept)


def test_up_to_the_context_windows_give_what_the_whole_gives() -> None:
    model = make()
    ids = text(6)
    whole = model(ids).logits.numpy()
    first, state, _ = model(ids[:2])
    second, state, _ = model(ids[2:3], detach(state))
    third, state, _ = model(ids[3:], state)
    parts = np.concatenate([x.numpy() for x in (first, second, third)])
    np.testing.assert_allclose(parts, whole, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("context", [1, 2, 5, 6])
def test_a_text_longer_than_the_context_is_read_in_pieces_of_half_of_it(context: int) -> None:
    model = make(context=context)
    ids = text(17)
    logits, after, _ = model(ids)
    stride = max(context // 2, 1)
    state: Any = None
    for t in range(0, 17, stride):
        piece, state, _ = model(ids[t : t + stride], state)
        np.testing.assert_allclose(logits.numpy()[t : t + stride], piece.numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(after.numpy(), state.numpy())


def test_beyond_its_context_a_character_is_forgotten() -> None:
    model = make(context=4)
    ids = text(9)
    changed = ids.copy()
    changed[0] = (ids[0] + 1) % V
    scores = []
    for run in (ids, changed):
        state = model(run[:8]).state
        scores.append(model(run[8:], state).logits.numpy())
    np.testing.assert_array_equal(*scores)


def test_the_rows_of_a_state_can_be_chosen_as_a_beam_does() -> None:
    model = make()
    ids = text(4, B=3)
    state = model(ids[:3]).state
    rows = [2, 2, 0]
    chosen = model(ids[3:, rows], state[rows]).logits.numpy()
    np.testing.assert_allclose(chosen, model(ids[3:], state).logits.numpy()[:, rows], rtol=1e-12)


def test_evaluation_predicts_nothing_from_less_than_half_the_context() -> None:
    model = make(context=4)
    ids = text(40, B=1)[:, 0]
    losses = []
    for t in range(1, 40):
        # Pieces of two begin at 0, 2, 4, ...: the context reaches back four places from the end of each.
        end = min(t + t % 2, 39)
        seen = ids[max(0, end - 4) : end]
        scores = model(seen[:, None]).logits.numpy()[t - 1 - max(0, end - 4), 0]
        losses.append(np.log(np.exp(scores).sum()) - scores[ids[t]])
    np.testing.assert_allclose(model.evaluate(ids, batch=1), np.mean(losses), rtol=1e-10)
    assert model.evaluate(ids, batch=1, window=1) != model.evaluate(ids, batch=1)


def test_it_samples_beyond_its_context_with_one_seed_one_text() -> None:
    model = make()
    first, again = ("".join(model.sample("hello world", length=20, seed=3)) for _ in range(2))
    assert first == again
    assert len(first) == 20


def test_a_trainer_trains_it_and_resumes_to_the_last_bit(tmp_path: Path) -> None:
    text = "to be or not to be " * 20
    model = TransformerLM(Vocabulary(text), 16, heads=2, context=8, dropout=0.1, seed=0)
    trainer = Trainer(model, text, Settings(window=8, batch=4, lr=2e-2, clip=1.0))
    losses = [trainer.step().loss for _ in range(trainer.total)]
    assert losses[-1] < 0.5 * losses[0]
    trainer.save(tmp_path / "run.safetensors")
    resumed = Trainer.resume(tmp_path / "run.safetensors", text, steps=trainer.total + 3)
    assert [resumed.step().loss for _ in range(3)] == [trainer.step().loss for _ in range(3)]


# --- files -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "options", [{}, {"positions": "sinusoidal", "tied": False, "dropout": 0.25, "dtype": np.float32}]
)
def test_a_saved_model_is_the_same_model(options: dict[str, Any], tmp_path: Path) -> None:
    model = make(**options)
    model.save(tmp_path / "model.safetensors")
    loaded = LanguageModel.load(tmp_path / "model.safetensors")
    assert isinstance(loaded, TransformerLM)
    assert loaded.config() == model.config()
    assert loaded.dtype == model.dtype
    ids = text(5)
    np.testing.assert_array_equal(loaded.eval()(ids).logits.numpy(), model.eval()(ids).logits.numpy())


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("d_model", 10**9, "a size of 1000000000, but its embedding has shape"),
        ("d_model", "8", "a size of '8'"),
        ("layers", 10**9, "1000000000 layers, but has only"),
        ("layers", 3, "blocks.2."),
        ("context", 10**9, "a context of 1000000000, but its positions have shape"),
        ("heads", 3, "3 heads cannot share"),
        ("positions", "none", "positions must be one of"),
        ("tied", False, "output.weight"),
        ("surplus", 1, "surplus"),
    ],
)
def test_a_checkpoint_whose_config_is_wrong_is_refused(key: str, value: Any, sentence: str) -> None:
    parts = make().to_checkpoint()
    meta = {**parts.meta, "config": {**parts.meta["config"], key: value}}
    with pytest.raises(CheckpointError, match=sentence):
        TransformerLM.from_checkpoint(Checkpoint(parts.tensors, meta))


# --- bad arguments ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"d_model": 0}, "the size of the model must be a whole number from 1 up, not 0"),
        ({"layers": 0}, "the number of layers must be a whole number from 1 up, not 0"),
        ({"layers": 1.5}, "the number of layers must be a whole number from 1 up, not 1.5"),
        ({"heads": 0}, "the number of heads must be a whole number from 1 up, not 0"),
        ({"context": 0}, "the context must be a whole number from 1 up, not 0"),
        ({"heads": 3}, "3 heads cannot share a model of size 8"),
        ({"positions": "rotary"}, "the positions must be one of learned, sinusoidal, not 'rotary'"),
        ({"dropout": 1.5}, "the dropout must be a probability, 0 to 1, not 1.5"),
        ({"dtype": np.int64}, "the dtype must be float32 or float64"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make(**arguments)


def test_ids_and_states_that_do_not_fit_are_errors() -> None:
    model = make()
    for ids in (np.zeros(3, int), np.zeros((0, 2), int)):
        with pytest.raises(ShapeError, match=r"ids must be \(T, B\)"):
            model(ids)
    with pytest.raises(ShapeError, match=f"id {V} is out of range"):
        model(np.full((2, 1), V))
    for state in (np.zeros((2, 6), int), np.zeros((3, 5), int), np.zeros((2, 5))):
        with pytest.raises(ShapeError, match=r"the last characters of 2 texts, integers \(2, 5\)"):
            model(text(3), state)
    # A row that has been read less far would cut the others' context to its own.
    uneven = np.array([[1, 2, 3, 4, 5], [-1, -1, -1, -1, 5]])
    for state in (uneven, uneven[::-1]):
        with pytest.raises(ShapeError, match="all rows of a state must hold as many characters"):
            model(text(3), state)
    with pytest.raises(ShapeError, match="expected a query"):
        Block(4, 2)(np.ones((3, 4)))


def test_it_shows_what_it_is() -> None:
    model = make()
    assert model.summary() == "transformer, 2 layers of size 8, 2 heads, context 6"
    assert repr(model).startswith(f"TransformerLM({V} characters, context=6, positions='learned'")
