"""The verifier finds what a wrong pass would do; every pass does its part."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad import functional as F
from tensorgrad import nn
from tensorgrad.compile import api
from tensorgrad.compile.ir import Eqn, Loop, Program, Var, verify, walk
from tensorgrad.compile.passes import FOR_NUMPY, PASSES
from tensorgrad.compile.sizes import Size, SizeUnknown, Symbols
from tensorgrad.errors import GraphError

from .common import assert_same, batch, check, loss_of, tagger


def compiled_program(cell: str = "lstm") -> Program:
    step = tg.compile(tg.value_and_grad(loss_of))
    step(tagger(cell), *batch(5, 2)[:2])
    assert step._last is not None
    return step._last.program


def first_loop(program: Program) -> Loop:
    return next(e for e in program.eqns if isinstance(e, Loop))


def lose_an_equation(program: Program) -> None:
    del program.eqns[2]


def lose_an_equation_of_a_body(program: Program) -> None:
    del first_loop(program).body[0]


def define_twice(program: Program) -> None:
    program.eqns.append(program.eqns[0])


def reorder(program: Program) -> None:
    program.eqns.reverse()


def swap_states(program: Program) -> None:
    carries = first_loop(program).carries
    carries[0].after = first_loop(program).body[0].out


def stack_of_another_shape(program: Program) -> None:
    loop = first_loop(program)
    loop.xs[0] = (program.inputs[0], loop.xs[0][1])


@pytest.mark.parametrize(
    "damage",
    [
        lose_an_equation,
        lose_an_equation_of_a_body,
        define_twice,
        reorder,
        swap_states,
        stack_of_another_shape,
    ],
)
def test_planted_errors_are_found(damage: Callable[[Program], None]) -> None:
    program = compiled_program()
    verify(program, "all")
    damage(program)
    with pytest.raises(GraphError, match="compile: after"):
        verify(program, "a wrong pass")


@pytest.mark.parametrize("left_out", sorted({name for name, _ in PASSES + FOR_NUMPY}))
@pytest.mark.parametrize("cell", ["lstm", "gru", "lnlstm"])
def test_the_result_needs_no_pass(cell: str, left_out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pass is an improvement alone: without it the program is slower, not wrong."""

    def most(passes: list[Any], program: Program) -> list[Any]:
        for name, run in passes:
            if name != left_out:
                run(program)
                verify(program, name)
        return []

    monkeypatch.setattr(api, "optimise", partial(most, PASSES))
    monkeypatch.setattr(api, "optimise_for_numpy", partial(most, FOR_NUMPY))
    model, (xs, ys, _) = tagger(cell), batch(5, 2)
    step = tg.compile(tg.value_and_grad(loss_of))
    for _ in range(2):
        assert_same(step(model, xs, ys), tg.value_and_grad(loss_of)(model, xs, ys))


def halve_the_ones(program: Program) -> None:
    for eqn in walk(program.eqns):
        if eqn.op == "full" and eqn.params["value"] == 1.0:
            eqn.params = {**eqn.params, "value": 0.5}


def swap_the_parts(program: Program) -> None:
    for eqn in walk(program.eqns):
        if eqn.op == "concatenate" and len({a.shape for a in eqn.args}) == 1:
            eqn.args = eqn.args[::-1]


def keep_another_result(program: Program) -> None:
    forward = first_loop(program)
    roots = {id(e.out) for e in forward.body if e.op == "sqrt"}
    small = [o for o in forward.outs if o.kind == "stack" and id(o.inner) in roots]
    small[0].inner, small[1].inner = small[1].inner, small[0].inner


def multiply_other_rows(program: Program) -> None:
    for eqn in walk(program.eqns):
        if eqn.op == "row_dot":
            eqn.args[1] = eqn.args[0]


def scale_by_another_operation(program: Program) -> None:
    # Of the projection of the inputs, whose gradient is the last to be found.
    scaled = next(e for e in reversed(program.eqns) if e.op == "divide" and e.out.ndim == 2)
    scaled.op = "multiply"


def centre_by_the_maximum(program: Program) -> None:
    total = next(e for e in program.eqns if e.op == "sum" and e.out.ndim == 1)
    total.op = "max"


def group_another_term(program: Program) -> None:
    sums = [e for e in walk(program.eqns) if e.op == "add"]
    sums[0].args = [sums[0].args[0], sums[0].args[0]]


@pytest.mark.usefixtures("numpy_pages")
@pytest.mark.parametrize(
    ("cell", "after", "damage"),
    [
        ("lnlstm", "sums as products", halve_the_ones),
        ("gru", "products of parts", swap_the_parts),
        ("lnlstm", "small results kept", keep_another_result),
        ("lnlstm", "centred weights", centre_by_the_maximum),
        ("lstm", "factors and terms regrouped", group_another_term),
        ("lnlstm", "products of rows", multiply_other_rows),
        ("lnlstm", "scaled later", scale_by_another_operation),
    ],
)
def test_a_pass_that_changes_results_is_noticed(
    cell: str, after: str, damage: Callable[[Program], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """These wrong programs are well formed: it is the comparison with eager mode that must tell."""

    def with_damage(passes: list[Any], program: Program) -> list[Any]:
        for name, run in passes:
            run(program)
            if name == after:
                damage(program)
        return []

    monkeypatch.setattr(api, "optimise", partial(with_damage, PASSES))
    monkeypatch.setattr(api, "optimise_for_numpy", partial(with_damage, FOR_NUMPY))
    model, (xs, ys, _) = tagger(cell), batch(5, 2)
    found = tg.compile(tg.value_and_grad(loss_of))(model, xs, ys)
    with pytest.raises(AssertionError):
        assert_same(found, tg.value_and_grad(loss_of)(model, xs, ys))


def test_without_any_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "optimise", lambda program: [])
    monkeypatch.setattr(api, "optimise_for_numpy", lambda program: [])
    model, (xs, ys, _) = tagger("peephole"), batch(5, 2)
    step = tg.compile(tg.value_and_grad(loss_of))
    assert_same(step(model, xs, ys), tg.value_and_grad(loss_of)(model, xs, ys))


def loop_ops(cell: str) -> list[list[str]]:
    return [[e.op for e in loop.body] for loop in compiled_program(cell).eqns if isinstance(loop, Loop)]


def test_what_stays_in_the_loops() -> None:
    forward, backward = loop_ops("lstm")
    assert forward.count("dot") == backward.count("dot") == 1
    # i and f side by side are one sigmoid; four gates' gradients are four products.
    assert forward.count("sigmoid") == 2
    assert (backward.count("multiply"), backward.count("concatenate"), backward.count("add")) == (6, 1, 2)


def test_a_naive_cell_of_the_users_becomes_the_same_program() -> None:
    """Both projections within the cell, one bias: no hint is needed."""

    def loss(p: Any, xs: Any) -> Any:
        def cell(x: Any, h: Any) -> Any:
            h = tg.tanh(x @ p["W"] + p["b"] + h @ p["U"])
            return h, h

        return (tg.nn.unroll(cell, xs, np.zeros((xs.shape[1], 4))).outputs ** 2).sum()

    step = tg.compile(tg.value_and_grad(loss))
    step({"W": np.ones((3, 4)), "U": np.eye(4), "b": np.ones(4)}, batch(5, 2)[0])
    loops = [line for line in step.explain().splitlines() if line.startswith("loop")]
    assert loops == [
        "loop forwards over T timesteps: dot, add, tanh",
        "loop backwards over T timesteps: add, multiply, dot",
    ]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_terms_are_grouped_by_the_state_in_any_order(order: tuple[int, ...]) -> None:
    def loss(p: Any, xs: Any) -> Any:
        def cell(x: Any, h: Any) -> Any:
            terms = [x @ p["W"], h @ p["U"], p["b"]]
            h = tg.tanh(terms[order[0]] + terms[order[1]] + terms[order[2]])
            return h, h

        return (tg.nn.unroll(cell, xs, np.zeros((xs.shape[1], 4))).outputs ** 2).sum()

    step = check(
        tg.value_and_grad(loss), {"W": np.ones((3, 4)), "U": np.eye(4), "b": np.ones(4)}, batch(5, 2)[0]
    )
    assert "loop forwards over T timesteps: dot, add, tanh" in step.explain()


@pytest.mark.parametrize(("T", "laid_out"), [(1, False), (20, True)])
@pytest.mark.usefixtures("numpy_pages")
def test_for_few_timesteps_a_matrix_stays_as_it_lies(T: int, laid_out: bool) -> None:
    model, (xs, _, _) = tagger("lstm"), batch(T, 3)
    step = check(lambda model, xs: nn.unroll(model.core, xs).outputs, model, xs)
    assert ("transpose_into" in step.source) == laid_out


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_rows_are_added_to_each_other_first(order: tuple[int, ...]) -> None:
    """Shifts and biases, of the naive cells that users write, cost one addition a timestep."""

    def loss(p: Any, xs: Any) -> Any:
        def cell(x: Any, h: Any) -> Any:
            terms = [h @ p["U"], p["a"], p["b"], p["c"]]
            h = tg.tanh(((terms[order[0]] + terms[order[1]]) + terms[order[2]]) + terms[order[3]])
            return h, h

        return (tg.nn.unroll(cell, xs, np.zeros((xs.shape[1], 4))).outputs ** 2).sum()

    rows = {"a": np.ones(4), "b": np.arange(4.0), "c": np.full(4, -0.5)}
    step = check(tg.value_and_grad(loss), {"U": np.eye(4), **rows}, batch(5, 2)[0])
    assert "loop forwards over T timesteps: dot, add, tanh" in step.explain()


@pytest.mark.usefixtures("numpy_pages")
def test_little_is_needed_at_once() -> None:
    """Whole stacks are read for the gradients of weights while they are there, not all at the end."""
    sizes = []
    for passes in (PASSES, [p for p in PASSES if p[0] != "little at once"]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                api, "optimise", lambda program, passes=passes: [run(program) for _, run in passes] and []
            )
            model, (xs, ys, _) = tagger("lnlstm"), batch(9, 5)
            step = tg.compile(tg.value_and_grad(loss_of))
            step(model, xs, ys)
        ran = step._ran()
        sizes.append(sum(b.nbytes for b in ran.make_buffers(*ran.sizes)))
    assert sizes[0] < 0.8 * sizes[1]


def most_at_once(eqns: list[Any], outputs: set[int]) -> int:
    """How many results there are at once, one written over another that nobody reads any more."""
    most, alive = 0, set()
    for k, eqn in enumerate(eqns):
        later = outputs | {id(a) for e in eqns[k + 1 :] for a in e.args}
        alive = {i for i in {*alive, id(eqn.out)} if i in later}
        most = max(most, len(alive))
    return most


@pytest.mark.parametrize("seed", range(12))
def test_no_order_needs_less(seed: int) -> None:
    """Of equations at random, each of two results before it, all orders are tried."""
    rng = np.random.default_rng(seed)
    given = Var((4, 4), np.float64)
    values, eqns = [given, given], []
    for _ in range(7):
        args = [values[k] for k in rng.integers(len(values), size=2)]
        values.append(Var((4, 4), np.float64))
        eqns.append(Eqn("add", args, {}, values[-1]))
    read = {id(a) for e in eqns for a in e.args}
    outputs = [v for v in values[2:] if id(v) not in read]
    program, ends = Program([given], list(eqns), outputs), {id(v) for v in outputs}
    importlib.import_module("tensorgrad.compile.passes.order").least_memory(program)
    verify(program, "order")

    def possible(order: tuple[Any, ...]) -> bool:
        known = {id(given)}
        return all({id(a) for a in e.args} <= known and not known.add(id(e.out)) for e in order)

    least = min(most_at_once(list(o), ends) for o in itertools.permutations(eqns) if possible(o))
    assert most_at_once(program.eqns, ends) == least


def test_long_stretches_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time to order one grows with its square."""
    order = importlib.import_module("tensorgrad.compile.passes.order")
    monkeypatch.setattr(order, "_LONGEST", 1)
    seen: list[tuple[list[Any], list[Any]]] = []

    def watched(program: Program) -> None:
        before = list(program.eqns)
        order.least_memory(program)
        seen.append((before, program.eqns))

    monkeypatch.setattr(
        importlib.import_module("tensorgrad.compile.passes"), "PASSES", [*PASSES[:-1], ("", watched)]
    )
    compiled_program()
    assert seen
    assert all(before == after for before, after in seen)


def test_what_fails_first_still_fails_first() -> None:
    def losses(xs: Any, first: Any, second: Any) -> Any:
        return tg.sum(xs * xs) + F.cross_entropy(xs, first) + F.cross_entropy(xs * 2.0, second)

    step = tg.compile(losses)
    xs, good = np.ones((4, 3)), np.zeros(4, int)
    step(xs, good, good)
    with pytest.raises(ValueError, match=r"7 at index \(1,\)"):
        step(xs, np.array([0, 7, 0, 0]), np.array([9, 0, 0, 0]))


def test_layer_norms_are_not_computed_twice() -> None:
    """The backward reads the deviations that the forward kept; sums in the loops are products with ones."""
    forward, backward = loop_ops("lnlstm")
    assert forward.count("sqrt") == 2
    assert "sum" not in {*forward, *backward}
    program = compiled_program("lnlstm")
    roots = [e for e in walk(program.eqns) if e.op == "sqrt"]
    # Two in the loop, and one for the share of the inputs, which has no part in it.
    assert len(roots) == 3
    assert not any(e.section == "backward" for e in roots)


def test_sums_of_products_of_rows_write_no_matrix() -> None:
    """The variance of a layer norm, and what its backward needs; with two axes and with three."""
    forward, backward = loop_ops("lnlstm")
    assert (forward.count("row_dot"), forward.count("square")) == (2, 0)
    assert backward.count("row_dot") == 2
    assert [e.op for e in compiled_program("lnlstm").eqns].count("row_dot") == 2


def test_the_narrower_matrix_is_scaled() -> None:
    """dW_xh = (g / std).T @ x: the inputs, of 3 columns, are divided by std, and not the 16 columns of g."""
    eqns = compiled_program("lnlstm").eqns
    backward = [e for e in eqns if e.op == "divide" and e.section == "backward" and e.out.ndim > 1]
    assert (3,) in {e.out.shape[1:] for e in backward}
    assert not {e.out.shape[-1] for e in backward} & {16}


def few_lines(step: Any) -> list[str]:
    return [line.strip() for line in step.source.splitlines() if ")[:, :" in line and "np.empty" in line]


@pytest.mark.usefixtures("numpy_pages")
@pytest.mark.parametrize(("H", "B", "apart"), [(16, 3, True), (16, 1, False), (15, 3, False)])
def test_rows_that_lie_unluckily_get_room_between_them(H: int, B: int, apart: bool) -> None:
    """Copies of 64 numbers in double precision a row, where several rows are multiplied by them."""
    model, (xs, ys, _) = tagger("lstm", H=H), batch(20, B)
    step = check(tg.value_and_grad(loss_of), model, xs, ys)
    line = f"np.empty(({H}, {4 * H} + 8), np.float64)[:, :{4 * H}],  # weight_hh_T"
    assert few_lines(step) == ([line] if apart else [])
    # np.dot copies such matrices at every timestep.
    assert ("np.matmul(h[t], weight_hh_T" in step.source) == apart


@pytest.mark.usefixtures("numpy_pages")
def test_what_is_read_otherwise_too_has_no_room_between_its_rows() -> None:
    """A copy that is reshaped, or returned."""

    def outputs(W: Any, xs: Any, h0: Any) -> Any:
        turned = W.T + 0.0
        roll = nn.unroll(lambda x, h: (h @ W.T, tg.tanh(h @ W.T + x)), xs, h0)
        return roll.outputs, turned, W.T.reshape(-1)

    rng = np.random.default_rng(0)
    step = check(
        outputs, rng.standard_normal((64, 64)) / 8, rng.standard_normal((9, 3, 64)), np.zeros((3, 64))
    )
    assert len(few_lines(step)) == 1


def test_only_whole_rows_are_scaled_later() -> None:
    rng = np.random.default_rng(0)
    g, s, y = rng.standard_normal((3, 5, 4)), rng.uniform(1, 2, (3, 5, 1)), rng.standard_normal((3, 2))
    assert_same(*(f(g, s, y) for f in each_way(lambda g, s, y: (g * s).reshape(len(g), -1).T @ y)))
    y = rng.standard_normal((15, 2))
    for same in (np.float64, np.int64):
        args = [(4 * x).astype(same) for x in (g, s, y)]
        assert_same(*(f(*args) for f in each_way(lambda g, s, y: (g / s).reshape(-1, 4).T @ y)))


def each_way(fn: Any) -> tuple[Any, Any]:
    """fn compiled, and as it is."""
    return tg.compile(fn), fn


def test_the_gradients_of_gates_are_joined_once() -> None:
    """What the GRU's weights for x and for h need differs in the candidate alone: no second stack is made."""
    program = compiled_program("gru")
    assert [e.op for e in first_loop(program).body].count("concatenate") == 0
    joined = [e for e in program.eqns if e.op == "concatenate"]
    assert [e.out.ndim for e in joined] == [2, 1]
    assert loop_ops("gru")[1].count("concatenate") == 1


def test_a_part_is_kept_without_the_whole() -> None:
    """Of h @ W + b the GRU's backward needs a third."""
    outs = {o.outer.shape[-1] for o in first_loop(compiled_program("gru")).outs}
    assert 12 not in outs


def test_explain_tells_what_left_the_loops() -> None:
    step = tg.compile(tg.value_and_grad(loss_of))
    step(tagger("lstm"), *batch(5, 2)[:2])
    told = step.explain()
    assert "before the loop forwards, for all timesteps at once: add (bias_sum)" in told
    assert "before the loop backwards, for all timesteps at once: 10 multiply, 5 subtract" in told
    assert "after the loop backwards" in told


# --- sizes -------------------------------------------------------------------------------------------------
def test_lengths_are_solved_for() -> None:
    symbols = Symbols({"T": (7, 11), "B": (13, 19)})
    forms = ((7, 11, "T"), (91, 209, "T * B"), (14, 22, "2 * T"), (6, 10, "T - 1"), (49, 121, "T * T"))
    for a, b, text in forms:
        assert str(symbols.solve(a, b)) == text
    assert symbols.solve(5, 5) == 5
    assert symbols.solve_number(1 / 91, 1 / 209) == "1 / (T * B)"
    assert symbols.solve_number(2 / 7, 2 / 11) == "2 / T"
    with pytest.raises(SizeUnknown):
        symbols.solve(7, 12)


def test_a_size_is_no_number_by_chance() -> None:
    T = Size(7, "T")
    assert T != 7
    assert Size(7, "T") == T
    assert str(T * Size(13, "B")) == "T * B"
    # What has a product in it is not always one.
    for text in ("T * B + 3", "(T - 1) * B + 3", "T * B // 2", "T % 2"):
        assert str(Size(94, text) * 2) == f"({text}) * 2"
        assert str(2 * Size(94, text)) == f"2 * ({text})"
    for text in ("T * B", "(T - 1) * B", "(T * (B + 1))"):
        assert str(Size(91, text) * 2) == f"{text} * 2"
    assert str((T + 1) * 2) == "(T + 1) * 2"
