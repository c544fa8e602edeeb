"""The decoder that looks back: against PyTorch, where it looks, and what it does better than the plain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.data import PAD, START, reversal
from tensorgrad.errors import UserError
from tensorgrad.models.attention import ATTENTIONS, AttentiveSeq2Seq
from tensorgrad.models.seq2seq import Seq2Seq
from tensorgrad.models.seq2seq_tasks import fit

attentions = pytest.mark.parametrize("attention", ATTENTIONS)


def make(attention: str = "additive", hidden: int = 6, **options: Any) -> AttentiveSeq2Seq:
    options = {"dtype": np.float64, "seed": 0, **options}
    return AttentiveSeq2Seq(7, 7, hidden, embedding=3, attention=attention, **options)


def draw(B: int = 5, lengths: tuple[int, int] = (1, 4), seed: Any = 0) -> Any:
    return reversal(B, lengths, symbols=4, seed=seed)


@attentions
def test_loss_and_gradients_are_pytorch_s_with_the_same_weights(attention: str) -> None:
    torch = pytest.importorskip("torch")
    model, pairs, H = make(attention), draw(), 6
    w = {k: torch.tensor(v, requires_grad=True) for k, v in model.state_dict().items()}
    cells = {"encoder": torch.nn.GRUCell(3, H).double(), "decoder": torch.nn.GRUCell(3 + H, H).double()}
    for name, p in cells["encoder"].named_parameters():
        p.data.copy_(w[f"encoder.{name}_l0"])
    for name, p in cells["decoder"].named_parameters():
        p.data.copy_(w[f"decoder.0.{name}"])

    def score(s: Any, h: Any) -> Any:
        if attention == "additive":
            hidden = torch.tanh(s @ w["attention.W_a"].T + h @ w["attention.U_a"].T)
            return hidden @ w["attention.v_a"]
        return s @ (h if attention == "dot" else w["attention.W_a"] @ h)

    # One sequence after the other, so that there is no padding that anything could depend on.
    total = 0
    for b in range(5):
        h, memory = torch.zeros(H).double(), []
        for x in pairs.source[: pairs.source_lengths[b], b]:
            h = cells["encoder"](w["source_embedding.weight"][x], h)
            memory.append(h)
        attended, read = torch.zeros(H).double(), START
        for y in pairs.target[: pairs.target_lengths[b], b]:
            h = cells["decoder"](torch.cat([w["target_embedding.weight"][read], attended]), h)
            alpha = torch.softmax(torch.stack([score(h, past) for past in memory]), dim=0)
            context = sum(a * past for a, past in zip(alpha, memory, strict=True))
            attended = torch.tanh(w["combine.weight"] @ torch.cat([context, h]))
            logits = w["output.weight"] @ attended + w["output.bias"]
            total, read = total - torch.log_softmax(logits, dim=0)[y], y
    expected = total / int(pairs.target_lengths.sum())
    expected.backward()

    loss = model.loss(pairs)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    theirs = {f"encoder.{name}_l0": p for name, p in cells["encoder"].named_parameters()}
    theirs |= {f"decoder.0.{name}": p for name, p in cells["decoder"].named_parameters()}
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.grad, theirs.get(name, w[name]).grad, rtol=0, atol=1e-12)


@attentions
def test_the_alignment(attention: str) -> None:
    pairs = draw()
    model = make(attention)
    alpha = model.alignment(pairs)
    assert alpha.shape == (5, 5, 4)  # T_out, B, T_in
    np.testing.assert_allclose(alpha.sum(axis=-1), 1, rtol=1e-12)
    padding = pairs.source.T == PAD
    assert padding.any()
    assert (alpha[:, padding] == 0).all()
    assert (alpha[:, ~padding] > 0).all()
    # The weights that the decoder's own step uses.
    _, roll = model(pairs)
    np.testing.assert_array_equal(roll.steps[2]["alpha"].numpy(), alpha[2])
    assert all(p.grad is None for p in model.parameters())


def test_it_looks_where_the_scores_send_it() -> None:
    """Of a memory whose second place fits the query by far the best, the context is that place."""
    model = make("dot")
    state = model.encode([[3], [4], [5]], [3])
    s, _ = model._decode(tg.concatenate([model.target_embedding([START]), state.attended], -1), state.cells)
    values = np.zeros((1, 3, 6))
    values[0, 1] = 1000 * np.sign(s.numpy()[0])
    memory = state.memory._replace(keys=values, values=values)
    attended, _ = model.step(np.array([START]), state._replace(memory=memory))
    expected = np.tanh(np.concatenate([values[0, 1], s.numpy()[0]]) @ model.combine.weight.numpy().T)
    np.testing.assert_allclose(attended.numpy()[0], expected, rtol=1e-12)


def test_what_it_saw_is_fed_back() -> None:
    model = make()
    state = model.encode([[3], [4]], [2])
    features, after = model.step(np.array([START]), state)
    np.testing.assert_array_equal(after.attended.numpy(), features.numpy())
    assert not state.attended.any()
    forgetful = after._replace(attended=state.attended)
    once, twice = (model.step(np.array([3]), x)[0].numpy() for x in (after, forgetful))
    assert np.abs(once - twice).max() > 1e-3


def test_it_beats_the_plain_model_on_longer_reversals() -> None:
    """Equal size and steps; at these few the plain model has hardly begun."""

    def learned(model: Any) -> float:
        rng = np.random.default_rng(0)
        list(fit(model, lambda: draw(32, (8, 10), rng), 150, lr=1e-2))
        return float(model.loss(draw(100, (8, 10), 1)))

    sizes = {"hidden": 32, "embedding": 8, "seed": 0}
    plain, attentive = (
        learned(Seq2Seq(7, 7, **sizes)),
        learned(AttentiveSeq2Seq(7, 7, attention="dot", **sizes)),
    )
    assert attentive < 0.7 * plain


def test_an_unknown_attention() -> None:
    with pytest.raises(UserError, match="attention must be one of additive, dot, general, not 'multiply'"):
        make("multiply")
