"""Attention: its definition, its masks, and PyTorch's results from PyTorch's weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad.nn.attention import (
    AdditiveAttention,
    DotProductAttention,
    MultiHeadAttention,
    dot_product_attention,
    sinusoidal_positions,
)


def normal(seed, *shape, dtype="float64"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def gradients(fn, *xs):
    leaves = [tg.tensor(x, requires_grad=True) for x in xs]
    return tg.grad(fn(*leaves), leaves)


# --- the masked softmax ----------------------------------------------------------------------------------
@pytest.mark.parametrize("bad", [0.0, 1e30, np.inf, -np.inf, np.nan])
def test_what_a_softmax_masks_has_no_weight_and_no_gradient(bad):
    x, mask, g = normal(0, 3, 4), np.array([1, 0, 1, 1]), normal(1, 3, 4)
    x[:, 1] = bad
    p = F.softmax(x, mask=mask)
    assert (p[:, 1] == 0).all()
    np.testing.assert_allclose(p[:, mask == 1], F.softmax(x[:, mask == 1]), rtol=1e-15)
    (dx,) = gradients(lambda x: (F.softmax(x, mask=mask) * g).sum(), x)
    (expected,) = gradients(lambda x: (F.softmax(x) * g[:, mask == 1]).sum(), x[:, mask == 1])
    assert (dx[:, 1] == 0).all()
    np.testing.assert_allclose(dx[:, mask == 1], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_softmax_with_nothing_left_gives_zeros(dtype):
    x, mask = normal(0, 2, 3, dtype=dtype), np.array([[1, 1, 0], [0, 0, 0]])
    with tg.detect_anomaly():
        t = tg.tensor(x, requires_grad=True)
        p = F.softmax(t, mask=mask)
        (p * normal(1, 2, 3, dtype=dtype)).sum().backward()
    assert p.dtype == t.grad.dtype == np.dtype(dtype)
    assert (p.numpy()[1] == 0).all()
    assert (t.grad[1] == 0).all()


def test_the_masked_softmax_along_any_axis_and_its_second_derivative():
    mask = np.array([[1], [0], [1]])
    tg.gradcheck(lambda x: F.softmax(x, axis=0, mask=mask), [normal(0, 3, 2)], order=2)
    # A mask of numbers, a Tensor too, says where to look and not how much.
    np.testing.assert_array_equal(
        F.softmax(normal(0, 2, 3), mask=tg.tensor([0.5, 0.0, 2.0])),
        F.softmax(normal(0, 2, 3), mask=[True, False, True]),
    )
    with pytest.raises(tg.ShapeError, match=r"softmax: a mask of shape \(4,\) does not fit scores \(2, 3\)"):
        F.softmax(np.zeros((2, 3)), mask=np.ones(4))


# --- the dot product -------------------------------------------------------------------------------------
def test_dot_product_attention_against_its_definition():
    q, k, v = normal(0, 2, 3, 4), normal(1, 2, 5, 4), normal(2, 2, 5, 6)
    mixed, alpha = dot_product_attention(q, k, v)
    for b in range(2):
        for i in range(3):
            e = np.exp([q[b, i] @ k[b, j] / 2 for j in range(5)])
            np.testing.assert_allclose(alpha[b, i], e / e.sum(), rtol=1e-13)
            np.testing.assert_allclose(mixed[b, i], alpha[b, i] @ v[b], rtol=1e-13)


@pytest.mark.parametrize("mask", [None, [[1, 0, 1], [0, 0, 0]]], ids=["all", "masked"])
def test_dot_product_attention_has_the_right_gradients(mask):
    operands = [normal(0, 2, 2), normal(1, 3, 2), normal(2, 3, 2)]
    tg.gradcheck(lambda q, k, v: dot_product_attention(q, k, v, mask)[0], operands, order=2)


def test_what_is_masked_gets_no_gradient_and_an_empty_row_none_at_all():
    q, k, v = (tg.tensor(normal(s, 3, 2), requires_grad=True) for s in range(3))
    with tg.detect_anomaly():
        mixed, _ = dot_product_attention(q, k, v, [[1, 1, 0], [1, 0, 0], [0, 0, 0]])
        (mixed * mixed).sum().backward()
    assert (mixed.numpy()[2] == 0).all()
    assert (q.grad[2] == 0).all()
    assert (k.grad[2] == 0).all()
    assert (v.grad[2] == 0).all()
    assert (v.grad[:2] != 0).all()


def test_the_weights_are_labelled():
    k = v = np.ones((3, 2))
    assert dot_product_attention(tg.tensor(normal(0, 1, 2)), k, v)[1].name == "alpha"


# --- many heads ------------------------------------------------------------------------------------------
def pair(d_model=6, heads=3, bias=True):
    """Ours and PyTorch's, with the same weights; the biases random, since both start at zero."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(d_model, heads, bias=bias, dtype=torch.float64)
    for p in theirs.parameters():
        torch.nn.init.normal_(p)
    ours = MultiHeadAttention(d_model, heads, bias=bias, seed=0)
    ours.load_state_dict({name: p.detach().numpy() for name, p in theirs.named_parameters()})
    return torch, ours, theirs


CASES = {
    "self": {},
    "causal": {"causal": True},
    "lengths": {"lengths": np.array([4, 2])},
    "causal with lengths": {"causal": True, "lengths": np.array([3, 1])},
    "mask": {"mask": np.tri(4)[::-1].copy()},
    "cross": {"Tk": 5},
    "cross with lengths": {"Tk": 5, "lengths": np.array([5, 2])},
    "another value": {"Tk": 5, "value": True},
    "another value with lengths": {"Tk": 5, "value": True, "lengths": np.array([1, 4])},
}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("case", CASES)
def test_pytorch_from_the_same_weights(case, bias):
    torch, ours, theirs = pair(bias=bias)
    how = dict(CASES[case])
    Tk, value = how.pop("Tk", None), how.pop("value", False)
    inputs = [normal(0, 4, 2, 6)]
    if Tk:
        inputs += [normal(1, Tk, 2, 6), *([normal(2, Tk, 2, 6)] if value else [])]

    mine = [tg.tensor(x, requires_grad=True) for x in inputs]
    out, alpha = ours(*mine, **how)
    g, g_alpha = normal(3, *out.shape), normal(4, *alpha.shape)
    ((out * g).sum() + (alpha * g_alpha).sum()).backward()

    other = [torch.tensor(x, requires_grad=True) for x in inputs]
    hidden = np.zeros((4, Tk or 4), bool)
    if how.get("causal"):
        hidden = hidden | (np.tri(4) == 0)
    if "mask" in how:
        hidden = hidden | (how["mask"] == 0)
    padding = np.arange(Tk or 4) >= how["lengths"][:, None] if "lengths" in how else None
    (q, k, v) = (other * 3)[:3] if len(other) == 1 else (*other, other[-1])[:3]
    their_out, their_alpha = theirs(
        q,
        k,
        v,
        attn_mask=torch.tensor(hidden),
        key_padding_mask=None if padding is None else torch.tensor(padding),
        average_attn_weights=False,
    )
    ((their_out * torch.tensor(g)).sum() + (their_alpha * torch.tensor(g_alpha)).sum()).backward()

    close = {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(out.numpy(), their_out.detach().numpy(), **close)
    np.testing.assert_allclose(alpha.numpy(), their_alpha.detach().numpy(), **close)
    for x, y in zip(mine, other, strict=True):
        np.testing.assert_allclose(x.grad, y.grad.numpy(), **close)
    for name, p in theirs.named_parameters():
        np.testing.assert_allclose(dict(ours.named_parameters())[name].grad, p.grad.numpy(), **close)


def test_weights_are_drawn_as_pytorch_draws_them():
    attention = MultiHeadAttention(64, 4, seed=0)
    state = attention.state_dict()
    assert list(state) == ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
    bound = np.sqrt(6 / (64 + 192))
    assert 0.95 * bound < np.abs(state["in_proj_weight"]).max() <= bound
    assert 0.95 / 8 < np.abs(state["out_proj.weight"]).max() <= 1 / 8
    assert not state["in_proj_bias"].any()
    assert not state["out_proj.bias"].any()


@settings(max_examples=25, deadline=None)
@given(
    T=st.integers(1, 6),
    B=st.integers(1, 3),
    heads=st.integers(1, 3),
    later=st.integers(0, 5),
    seed=st.integers(0, 2**32),
)
def test_what_comes_later_changes_nothing_before_it(T, B, heads, later, seed):
    later = later % T
    attention = MultiHeadAttention(2 * heads, heads, seed=seed)
    x = normal(seed, T, B, 2 * heads)
    changed = x.copy()
    changed[later:] = normal(seed + 1, T - later, B, 2 * heads) * 100
    before, _ = attention(x, causal=True)
    after, _ = attention(changed, causal=True)
    np.testing.assert_allclose(after.numpy()[:later], before.numpy()[:later], rtol=0, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), T=st.integers(1, 5), B=st.integers(1, 3), seed=st.integers(0, 2**32))
@pytest.mark.parametrize("kind", ["heads", "additive", "dot", "general"])
def test_padding_may_hold_anything_and_gets_no_gradient(kind, data, T, B, seed):
    lengths = np.array(data.draw(st.lists(st.integers(1, T), min_size=B, max_size=B)))
    padding = np.arange(T)[:, None] >= lengths
    attention = {
        "heads": lambda: MultiHeadAttention(4, 2, seed=seed),
        "additive": lambda: AdditiveAttention(4, 4, 3, seed=seed),
        "dot": lambda: DotProductAttention(),
        "general": lambda: DotProductAttention(4, 4, general=True, seed=seed),
    }[kind]()
    query, memory = normal(seed, 2, B, 4), normal(seed + 1, T, B, 4)
    results = []
    for filling in (0.0, np.nan, np.inf):
        memory[padding] = filling
        with tg.detect_anomaly():
            q, m = (tg.tensor(x, requires_grad=True) for x in (query, memory))
            out, alpha = attention(q, m, lengths=lengths)
            dq, dm = tg.grad((out * out).sum(), [q, m])
        assert (dm[padding] == 0).all()
        results.append((out.numpy(), alpha.numpy(), dq, dm))
    for other in results[1:]:
        for x, y in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(x, y)


def test_a_query_stands_at_the_end_of_the_keys_it_attends_over_causally():
    attention = MultiHeadAttention(4, 2, seed=0)
    x = normal(0, 5, 1, 4)
    whole, _ = attention(x, causal=True)
    last, alpha = attention(x[3:], x, causal=True)
    np.testing.assert_allclose(last.numpy(), whole.numpy()[3:], rtol=1e-12)
    assert (alpha.numpy()[0, 0] != 0).tolist() == [[True] * 4 + [False], [True] * 5]


def test_dropout_thins_the_mixture_in_training_only():
    attention = MultiHeadAttention(4, 2, dropout=0.5, seed=0)
    x = normal(0, 6, 2, 4)
    outs = [attention(x) for _ in range(2)]
    assert (outs[0][0].numpy() != outs[1][0].numpy()).any()
    # The weights that are given are those before dropout: they still add up to one.
    np.testing.assert_allclose(outs[0][1].numpy().sum(-1), 1)
    attention.eval()
    np.testing.assert_array_equal(attention(x)[0].numpy(), attention(x)[0].numpy())
    with pytest.raises(ValueError, match="probability"):
        MultiHeadAttention(4, 2, dropout=1.5)


def test_many_heads_keep_float32():
    attention = MultiHeadAttention(4, 2, seed=0, dtype=np.float32)
    out, alpha = attention(normal(0, 3, 2, 4, dtype="float32"), causal=True, lengths=np.array([3, 1]))
    out.sum().backward()
    assert {out.dtype, alpha.dtype, *(p.grad.dtype for p in attention.parameters())} == {np.dtype("float32")}


def test_heads_say_what_does_not_fit():
    with pytest.raises(tg.ShapeError, match="4 heads cannot share d_model=6"):
        MultiHeadAttention(6, 4)
    with pytest.raises(tg.ShapeError, match="heads must be a positive integer, not 0"):
        MultiHeadAttention(6, 0)
    attention = MultiHeadAttention(4, 2, seed=0)
    for shapes in [[(3, 4)], [(3, 2, 5)], [(3, 2, 4), (3, 1, 4)], [(3, 2, 4), (5, 2, 4), (4, 2, 4)]]:
        with pytest.raises(tg.ShapeError, match=r"expected a query \(Tq, B, 4\).*\(3, "):
            attention(*(np.zeros(shape) for shape in shapes))
    for lengths in ([1], [1.0, 2.0], [0, 2], [1, 4]):
        with pytest.raises(tg.ShapeError, match="lengths must"):
            attention(np.zeros((3, 2, 4)), lengths=lengths)
    with pytest.raises(tg.ShapeError, match="a mask of shape"):
        attention(np.zeros((3, 2, 4)), mask=np.ones((5, 5)))


# --- attention of a decoder ------------------------------------------------------------------------------
def test_additive_attention_against_its_definition():
    attention = AdditiveAttention(2, 3, 4, seed=0)
    W, U, v = (attention.state_dict()[name] for name in ("W_a", "U_a", "v_a"))
    s, h = normal(0, 2, 2), normal(1, 5, 2, 3)
    context, alpha = attention(s, h)
    for b in range(2):
        e = np.exp([v @ np.tanh(W @ s[b] + U @ h[j, b]) for j in range(5)])
        np.testing.assert_allclose(alpha.numpy()[b], e / e.sum(), rtol=1e-13)
        np.testing.assert_allclose(context.numpy()[b], e / e.sum() @ h[:, b], rtol=1e-13)
    assert alpha.name == "alpha"


@pytest.mark.parametrize("general", [True, False])
def test_dot_attention_against_its_definition(general):
    sizes = (2, 3) if general else (3, 3)
    attention = DotProductAttention(*sizes, general=general, seed=0)
    W = attention.W_a.numpy() if general else np.eye(3)
    s, h = normal(0, 2, sizes[0]), normal(1, 5, 2, 3)
    context, alpha = attention(tg.tensor(s), h)
    for b in range(2):
        e = np.exp([s[b] @ W @ h[j, b] for j in range(5)])
        np.testing.assert_allclose(alpha.numpy()[b], e / e.sum(), rtol=1e-13)
        np.testing.assert_allclose(context.numpy()[b], e / e.sum() @ h[:, b], rtol=1e-13)


DECODERS = {
    "additive": lambda: AdditiveAttention(2, 3, 4, seed=0),
    "general": lambda: DotProductAttention(2, 3, general=True, seed=0),
    "dot": lambda: DotProductAttention(),
}


@pytest.mark.parametrize("kind", DECODERS)
def test_attentions_of_decoders_have_the_right_gradients(kind):
    attention = DECODERS[kind]()
    s, h = normal(0, 2, 3 if kind == "dot" else 2), normal(1, 3, 2, 3)
    names = [name for name, _ in attention.named_parameters()]

    def context(s, h, *weights):
        for name, w in zip(names, weights, strict=True):
            object.__setattr__(attention, name, w)
        return attention(s, h, lengths=np.array([3, 2]))[0]

    tg.gradcheck(context, [s, h, *attention.state_dict().values()], order=2)


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("lengths", [None, np.array([4, 1, 2])], ids=["whole", "padded"])
def test_prepared_or_not_and_one_by_one_or_together_is_the_same(kind, lengths):
    attention = DECODERS[kind]()
    queries, memory = normal(0, 5, 3, 3 if kind == "dot" else 2), normal(1, 4, 3, 3)
    ready = attention.prepare(memory, lengths)
    contexts, alphas = attention(tg.tensor(queries), ready)
    assert contexts.shape == (5, 3, 3)
    assert alphas.shape == (5, 3, 4)
    for t in range(5):
        for m, n in ((memory, lengths), (ready, None)):
            context, alpha = attention(queries[t], m, n)
            np.testing.assert_allclose(contexts.numpy()[t], context, rtol=1e-12)
            np.testing.assert_allclose(alphas.numpy()[t], alpha, rtol=1e-12)


def test_decoder_attention_says_what_does_not_fit():
    with pytest.raises(tg.ShapeError, match=r"query of size 2 and a memory of size 3 .* general=True"):
        DotProductAttention(2, 3)
    with pytest.raises(tg.ShapeError, match="query_size must be a positive integer, not None"):
        DotProductAttention(general=True)
    with pytest.raises(tg.ShapeError, match="hidden_size must be"):
        AdditiveAttention(2, 3, 0)
    attention = AdditiveAttention(2, 3, 4, seed=0)
    with pytest.raises(tg.ShapeError, match=r"expected a memory \(T, B, 3\), not \(5, 2, 4\)"):
        attention(np.zeros((2, 2)), np.zeros((5, 2, 4)))
    with pytest.raises(tg.ShapeError, match=r"expected a memory \(T, B, features\), not \(5, 4\)"):
        DotProductAttention()(np.zeros((2, 2)), np.zeros((5, 4)))
    for query in (np.zeros(2), np.zeros((2, 3)), np.zeros((4, 2)), np.zeros((5, 4, 2))):
        with pytest.raises(tg.ShapeError, match=r"expected a query \(B, 2\) or \(Tq, B, 2\) of B=2"):
            attention(query, np.zeros((5, 2, 3)))
    with pytest.raises(tg.ShapeError, match="give the lengths to `prepare`"):
        attention(np.zeros((2, 2)), attention.prepare(np.zeros((5, 2, 3))), lengths=[1, 5])
    with pytest.raises(tg.ShapeError, match=r"lengths must lie in 1\.\.5"):
        attention(np.zeros((2, 2)), np.zeros((5, 2, 3)), lengths=[1, 6])


# --- positions -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("D", [1, 6, 7])
def test_sinusoidal_positions_against_their_definition(D):
    positions = sinusoidal_positions(50, D)
    for t in (0, 1, 49):
        for i in range(D):
            angle = t / 10000 ** ((i - i % 2) / D)
            np.testing.assert_allclose(positions[t, i], np.cos(angle) if i % 2 else np.sin(angle), rtol=1e-12)
    assert sinusoidal_positions(2, D, np.float32).dtype == np.float32


def test_sinusoidal_positions_are_rotated_by_a_shift():
    """Why they were chosen: the position k further on is one linear function of this one everywhere."""
    D, shift = 8, 5
    p = sinusoidal_positions(40, D)
    matrix, *_ = np.linalg.lstsq(p[:-shift], p[shift:], rcond=None)
    np.testing.assert_allclose(p[:-shift] @ matrix, p[shift:], atol=1e-10)
    with pytest.raises(tg.ShapeError, match="T must be a positive integer"):
        sinusoidal_positions(0, 4)
