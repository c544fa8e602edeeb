"""Recording on and off, scopes, labels and anomalies: per thread and per task."""

from __future__ import annotations

import asyncio
import contextvars
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorgrad as tg
from tensorgrad.context import configure
from tensorgrad.errors import AnomalyError, GraphError

HERE = Path(__file__).name


def one() -> tg.Tensor:
    return tg.tensor(1.0, requires_grad=True)


# --- on and off ------------------------------------------------------------------------------------------
def test_no_grad_and_enable_grad_nest() -> None:
    x = one()
    seen = [(x * 2).requires_grad]
    with tg.no_grad():
        seen.append((x * 2).requires_grad)
        with tg.enable_grad():
            seen.append((x * 2).requires_grad)
            with tg.no_grad():
                seen.append(tg.is_recording())
        seen.append(tg.is_recording())
    assert [*seen, tg.is_recording()] == [True, False, True, False, False, True]


def test_recording_comes_back_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), tg.no_grad(), tg.scope("a"):
        _ = 1 / 0
    assert tg.is_recording()
    assert (one() * 2).scope == ""


def test_one_context_manager_can_be_used_again_and_within_itself() -> None:
    off = tg.no_grad()
    with off:
        with off:
            assert not tg.is_recording()
        assert not tg.is_recording()
    assert tg.is_recording()
    place = tg.scope("a")
    with place, place:
        assert (one() * 1).scope == "a/a"
    with place:
        assert (one() * 1).scope == "a"


def test_leaves_made_under_no_grad_may_require_gradients() -> None:
    with tg.no_grad():
        x = one()
    assert x.requires_grad
    assert tg.grad(x * 3, [x])[0] == 3


def test_backward_does_not_record_and_leaves_the_setting() -> None:
    x = one()
    states = []
    y = x * 2
    y.register_hook(lambda g: states.append(tg.is_recording()))
    y.backward()
    tg.grad(y, [x], create_graph=True)
    with tg.no_grad():
        tg.grad(y, [x], create_graph=True)
        assert not tg.is_recording()
    assert states == [False, True, True]
    assert tg.is_recording()


# --- threads and tasks -----------------------------------------------------------------------------------
def test_no_grad_holds_in_its_own_thread_only() -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold() -> bool:
        with tg.no_grad(), tg.scope("worker"), tg.detect_anomaly():
            inside.set()
            assert leave.wait(timeout=30)
            return tg.is_recording()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(hold)
        assert inside.wait(timeout=30)
        here = one() * 2
        assert (here.requires_grad, here.scope) == (True, "")
        leave.set()
        assert future.result() is False
        assert pool.submit(tg.is_recording).result() is True


def test_a_thread_starts_recording_whatever_the_one_that_started_it_does() -> None:
    with tg.no_grad(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(tg.is_recording).result() is True


def test_a_copied_context_carries_the_setting() -> None:
    with tg.no_grad(), tg.scope("outer"):
        copied = contextvars.copy_context()
    assert tg.is_recording()
    assert copied.run(tg.is_recording) is False


def test_tasks_do_not_disturb_each_other() -> None:
    async def quiet(turn: asyncio.Event, other: asyncio.Event) -> list[Any]:
        with tg.no_grad(), tg.scope("quiet"):
            seen = [tg.is_recording()]
            other.set()
            await turn.wait()
            seen.append(tg.is_recording())
        return [*seen, tg.is_recording()]

    async def loud(turn: asyncio.Event, other: asyncio.Event) -> list[Any]:
        await turn.wait()
        with tg.scope("loud"):
            y = one() * 2
            other.set()
            await asyncio.sleep(0)
            return [y.requires_grad, y.scope, (one() * 2).scope]

    async def both() -> list[list[Any]]:
        a, b = asyncio.Event(), asyncio.Event()
        return list(await asyncio.gather(quiet(a, b), loud(b, a)))

    assert asyncio.run(both()) == [[False, False, True], [True, "loud", "loud"]]


# --- scopes and labels -----------------------------------------------------------------------------------
def test_scopes_nest_and_end() -> None:
    with tg.scope("encoder"):
        with tg.scope("t=3"):
            deep = one() * 2
        shallow = one() * 2
    assert (deep.scope, shallow.scope, (one() * 2).scope) == ("encoder/t=3", "encoder", "")


def test_label_names_and_returns_the_tensor() -> None:
    x = one() * 2
    assert tg.label(x, "a") is x
    assert x.name == "a"
    array = np.ones(2)
    assert tg.label(array, "b") is array
    for bad in ("", None, 3):
        with pytest.raises(GraphError, match="a label is a string of at least one character"):
            tg.label(x, bad)  # type: ignore[arg-type]


# --- anomalies -------------------------------------------------------------------------------------------
def line_of(marker: str) -> int:
    """The number of the line in this file that ends in the comment `# <marker>`."""
    lines = Path(__file__).read_text().splitlines()
    (number,) = [k for k, line in enumerate(lines, 1) if line.endswith(f"# {marker}")]
    return number


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_first_bad_result_is_named_with_op_scope_and_line() -> None:
    x = tg.tensor([1.0, -1.0], requires_grad=True)
    with tg.detect_anomaly(), tg.scope("encoder"), tg.scope("t=2"):
        h = x * 2
        with pytest.raises(AnomalyError) as caught:
            tg.log(h)  # forward anomaly
    message = str(caught.value)
    assert message.startswith(
        "the forward of log in scope 'encoder/t=2' made NaN from finite operands of shapes (2,)"
    )
    assert re.search(rf"{HERE}:{line_of('forward anomaly')}$", message)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_forward_anomalies_are_seen_without_gradients_too() -> None:
    with tg.detect_anomaly():
        with (
            tg.no_grad(),
            pytest.raises(AnomalyError, match="forward of divide made infinity from finite operands"),
        ):
            tg.tensor(1.0) / 0.0
        with pytest.raises(
            AnomalyError, match="forward of add made NaN from operands that were not finite themselves"
        ):
            tg.tensor(np.nan) + 1.0
        tg.isfinite(tg.tensor(np.nan))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_bad_gradient_is_named_with_op_scope_and_forward_line(create_graph: bool) -> None:
    x = tg.tensor([0.0, 1.0], requires_grad=True)
    with tg.detect_anomaly(), tg.scope("t=5"):
        h = tg.label(tg.sqrt(x), "root")  # backward anomaly
        loss = (h * 3).sum()
        with pytest.raises(AnomalyError) as caught:
            tg.grad(loss, [x], create_graph=create_graph)
    message = str(caught.value)
    assert "the backward of the result of sqrt 'root' of shape (2,) in scope 't=5'" in message
    assert f"{HERE}:{line_of('backward anomaly')}" in message
    assert "made infinity in the gradient of operand 0 of shape (2,)" in message


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_bad_gradient_inside_a_recomputed_piece_is_found() -> None:
    x = tg.tensor([0.0, 1.0], requires_grad=True)
    with tg.detect_anomaly():
        loss = tg.checkpoint(lambda x: tg.sqrt(x) * 2, x).sum()
        with pytest.raises(AnomalyError, match="backward of the result of sqrt"):
            loss.backward()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("name", "fn"),
    [
        ("getitem", lambda x: tg.sqrt(x)[0]),
        ("matmul", lambda x: (tg.reshape(x, (1, 2)) @ np.ones((2, 2))) * np.inf),
        (
            "linear",
            lambda x: tg.sqrt(
                tg.functional.linear(tg.reshape(x, (1, 2)), np.ones((3, 2)) * [0, 1], np.zeros(3))
            ),
        ),
    ],
)
def test_bad_gradients_in_every_form_are_found(name: str, fn: Callable[[Any], Any]) -> None:
    x = tg.tensor([0.0, 0.0], requires_grad=True)
    out = fn(x).sum()
    with tg.detect_anomaly(), pytest.raises(AnomalyError):
        out.backward()


def test_healthy_graphs_pass() -> None:
    x = tg.tensor([0.5, 1.0], requires_grad=True)
    with tg.detect_anomaly():
        (tg.log(x) * tg.tensor([1, 2])).sum().backward()
    np.testing.assert_allclose(x.grad, [2, 2])


def test_integer_and_boolean_results_are_no_anomaly() -> None:
    with tg.detect_anomaly():
        assert (tg.tensor([1, 2]) + 1).tolist() == [2, 3]
        assert (tg.tensor([1.0]) > 0).tolist() == [True]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_line_of_a_neighbour_whose_name_begins_like_the_package_is_a_user_line(tmp_path: Path) -> None:
    """A script "tensorgrad_run.py" beside the package must not be taken for a part of it."""
    from tensorgrad import graph

    script = f"{Path(graph.__file__).parent}_run.py"
    code = compile("\n\ntg.log(tg.tensor(-1.0))", script, "exec")
    with tg.detect_anomaly(), pytest.raises(AnomalyError, match=rf"{re.escape(script)}:3$"):
        exec(code, {"tg": tg})


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_anomalies_of_a_lost_loss_are_reported_in_the_unrolled_step() -> None:
    """The message a trainer sees when a recurrent net blows up: the timestep is in it."""
    cell = tg.nn.RNNCell(1, 1, seed=0, nonlinearity="relu")
    cell.weight_hh.data = np.array([[1e200]])
    with tg.detect_anomaly(), pytest.raises(AnomalyError, match=r"in scope 't=\d+' made infinity"):
        tg.nn.unroll(cell, np.ones((5, 1, 1)), np.ones((1, 1)))


def test_the_context_managers_decorate_functions_in_any_thread():
    import threading

    x = tg.tensor(2.0, requires_grad=True)
    inside = threading.Barrier(2)
    results = []

    @tg.no_grad()
    def quiet(deep=True):
        """Doc."""
        inside.wait(timeout=10)
        results.append((x * 2).requires_grad)

    threads = [threading.Thread(target=quiet) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [False, False]
    assert quiet.__doc__ == "Doc."
    assert (x * 2).requires_grad

    @tg.scope("decoder")
    def step():
        return (x * 2).scope

    assert step() == step() == "decoder"


def test_lists_of_tensors_do_not_lose_their_gradients_silently():
    a, b = tg.tensor(1.0, requires_grad=True), tg.tensor(2.0, requires_grad=True)
    for wrong in (lambda: tg.sum([a, b]), lambda: tg.exp((a, b)), lambda: tg.tensor([a, b])):
        with pytest.raises(tg.DtypeError, match=r"tg\.stack"):
            wrong()


# --- traces ----------------------------------------------------------------------------------------------
def test_a_trace_is_told_of_every_operation_recorded_or_not() -> None:
    told: list[tuple[str, Any]] = []
    x = tg.tensor([1.0, -1.0], requires_grad=True)
    with configure(trace=lambda out, op, operands, args, params: told.append((op.name, out))):
        positive = x > 0
        y = tg.where(positive, x, 0)
        with tg.no_grad():
            z = tg.tanh(y)
    tg.exp(x)
    assert [name for name, _ in told] == ["greater", "where", "tanh"]
    assert all(out is mine for (_, out), mine in zip(told, (positive, y, z), strict=True))
