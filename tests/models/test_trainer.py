"""The training loop: against a plain loop, resuming to the last bit, schedules, divergence, bad settings."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorgrad import optim, tree
from tensorgrad.data import Vocabulary, Windows, split
from tensorgrad.errors import CheckpointError, UserError
from tensorgrad.io import load_checkpoint, save_checkpoint
from tensorgrad.models.char_lm import CharLM
from tensorgrad.models.trainer import DivergedError, Settings, Trainer, fitting_sizes
from tensorgrad.recording import no_grad
from tensorgrad.tensor import Tensor

# 9 windows of 8 steps and 4 streams in the part that is trained on.
TEXT = "".join(f"{n} times {n + 1} is {n * (n + 1)}, " for n in range(20))
SMALL = Settings(batch=4, window=8)


def make(
    settings: Settings = SMALL,
    cell: str = "rnn",
    dtype: Any = "float32",
    text: str = TEXT,
    compiled: bool = True,
    **options: Any,
) -> Trainer:
    model = CharLM(Vocabulary(text), cell, 12, seed=0, dtype=dtype, **options)
    return Trainer(model, text, settings, compiled=compiled)


def weights(trainer: Trainer) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in trainer.model.state_dict().items()}


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_compiled_and_eager_training_agree(cell: str) -> None:
    compiled, eager = (
        make(cell=cell, dtype="float64", compiled=how, layers=2, dropout=0.3) for how in (True, False)
    )
    for mine, theirs in zip(compiled.run(), eager.run(), strict=True):
        assert mine.loss == pytest.approx(theirs.loss, rel=1e-9)
        assert mine.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-6)
        assert (mine.validation or 0.0) == pytest.approx(theirs.validation or 0.0, rel=1e-9)


def test_a_step_is_compiled_once() -> None:
    # The second pass begins after an evaluation, in which the model was in another mode.
    trainer = make(dropout=0.3, layers=2)
    for _ in range(trainer.steps_per_epoch + 2):
        trainer.step()
    assert trainer._differentiate.cache_info().programs == 1  # type: ignore[attr-defined]
    assert trainer._losses.cache_info().programs == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_one_program_evaluates_windows_of_any_length(cell: str) -> None:
    # 42 timesteps: a window and a shorter one.
    trainer = make(text=60 * TEXT, cell=cell, layers=2, dropout=0.3)
    eager = trainer.model.evaluate(trainer._held_out)
    for _ in range(2):
        compiled = trainer.model.evaluate(trainer._held_out, losses=trainer._losses)
        assert compiled == pytest.approx(eager, rel=1e-6)
        assert trainer._losses.cache_info()[:2] == (1, 2)  # type: ignore[attr-defined]


@pytest.mark.parametrize("compiled", [True, False])
def test_evaluating_what_diverged_warns_of_nothing(compiled: bool) -> None:
    trainer = make(Settings(batch=4, window=8, lr=1e39, steps=1), compiled=compiled)
    trainer._windows.position = trainer.steps_per_epoch - 1
    assert math.isnan(trainer.step().validation or 0.0)


def test_it_does_what_a_plain_loop_does() -> None:
    trainer = make(dtype="float64", compiled=False)
    steps = [trainer.step() for _ in range(2 * trainer.steps_per_epoch + 1)]

    model = CharLM(Vocabulary(TEXT), "rnn", 12, seed=0, dtype="float64")
    train, held_out = split(model.vocabulary.encode(TEXT), 0.9)
    windows = Windows(train, 8, 4)
    adam = optim.Adam(model.parameters(), 2e-3)
    state: Any = None
    for k, step in enumerate(steps):
        xs, ys, _ = next(windows)
        epoch, place = divmod(k, windows.per_pass)
        if place == 0:
            state = None
        result = model.loss(xs, ys, state)
        adam.zero_grad()
        result.loss.backward()
        norm = optim.clip_grad_norm(model.parameters(), 5.0)
        adam.lr = 2e-3 * 0.9**epoch
        adam.step()
        state = tree.map(Tensor.detach, result.state)
        assert step[:6] == (k + 1, epoch + 1, result.loss.item(), norm, adam.lr, 32)
        assert step.seconds > 0
        assert step.validation == (model.evaluate(held_out) if place == windows.per_pass - 1 else None)
    assert trainer.model.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(trainer.model.state_dict()[name], value)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_it_learns(cell: str) -> None:
    trainer = make(Settings(batch=4, window=8, lr=1e-2, decay=1.0, epochs=20), cell)
    losses = [step.loss for step in trainer.run()]
    assert len(losses) == trainer.total == trainer.steps == 20 * trainer.steps_per_epoch
    assert losses[0] == pytest.approx(math.log(len(trainer.model.vocabulary)), rel=0.1)
    assert losses[-1] < 0.6 * losses[0]
    assert list(trainer.history) == losses[-100:]


def test_the_goal_is_in_steps_or_epochs() -> None:
    assert make(Settings(batch=4, window=8, epochs=3)).total == 3 * make().steps_per_epoch
    trainer = make(Settings(batch=4, window=8, epochs=3, steps=5))
    assert [step.number for step in trainer.run()] == [1, 2, 3, 4, 5]
    assert list(trainer.run()) == []


def test_without_held_out_text_nothing_is_evaluated() -> None:
    trainer = make(Settings(batch=4, window=8, valid_fraction=0.0, epochs=2))
    assert all(step.validation is None for step in trainer.run())
    assert trainer.validation is None
    assert trainer.steps_per_epoch > make().steps_per_epoch


def test_clipping_limits_the_step_and_reports_the_norm_before() -> None:
    free, tight = make(Settings(batch=4, window=8, clip=0)), make(Settings(batch=4, window=8, clip=1e-3))
    first, clipped = free.step(), tight.step()
    assert first.grad_norm == clipped.grad_norm > 1e-3
    mean = [
        np.linalg.norm(np.concatenate([m.ravel() for m in t._optimiser.state["mean"]])) for t in (free, tight)
    ]
    assert mean[0] == pytest.approx(0.1 * first.grad_norm, rel=1e-5)
    assert mean[1] == pytest.approx(0.1 * 1e-3, rel=1e-5)


# --- resuming -------------------------------------------------------------------------------------------
_FRESH = """
import json, sys
from tensorgrad.models.trainer import Trainer
path, text, out = sys.argv[1:]
trainer = Trainer.resume(path, open(text, encoding="utf-8", newline="").read())
losses = []
for step in trainer.run():
    losses.append([step.loss, step.grad_norm, step.lr, step.validation])
    if step.number % 7 == 0:
        losses.append(trainer.sample(20))
trainer.save(out)
print(json.dumps(losses))
"""


@pytest.mark.parametrize(
    ("cell", "dtype", "half"),
    [("rnn", "float32", 10), ("lstm", "float32", 13), ("gru", "float64", 10), ("rnn", "float64", 0)],
)
def test_resuming_in_a_fresh_process_goes_on_bit_for_bit(
    cell: str, dtype: str, half: int, tmp_path: Path
) -> None:
    settings = Settings(batch=4, window=8, lr=1e-2, steps=20)
    straight = make(settings, cell, dtype)
    half_way = make(settings, cell, dtype)
    said: list[Any] = []
    for step in straight.run():
        if step.number > half:
            said.append([step.loss, step.grad_norm, step.lr, step.validation])
        if step.number % 7 == 0:
            sampled = straight.sample(20)
            said += [sampled] if step.number > half else []
    for _ in range(half):
        if half_way.step().number % 7 == 0:
            half_way.sample(20)
    half_way.save(tmp_path / "half.safetensors")
    (tmp_path / "text").write_text(TEXT, encoding="utf-8", newline="")
    files = [str(tmp_path / name) for name in ("half.safetensors", "text", "end.safetensors")]
    done = subprocess.run(
        [sys.executable, "-c", _FRESH, *files], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == said
    straight.save(tmp_path / "straight.safetensors")
    # Weights, optimiser, carried state, position, generator, losses: the files are the same to the last byte.
    assert (tmp_path / "end.safetensors").read_bytes() == (tmp_path / "straight.safetensors").read_bytes()


def test_what_is_saved_is_read_as_a_model_too(tmp_path: Path) -> None:
    trainer = make()
    trainer.step()
    trainer.save(tmp_path / "run.safetensors")
    model = CharLM.load(tmp_path / "run.safetensors")
    assert model.state_dict().keys() == trainer.model.state_dict().keys()
    assert "".join(model.sample("1", 9, seed=0)) == "".join(trainer.model.sample("1", 9, seed=0))


def test_a_resumed_run_may_be_given_another_goal(tmp_path: Path) -> None:
    trainer = make(Settings(batch=4, window=8, steps=5))
    trainer.save(tmp_path / "run.safetensors")
    assert Trainer.resume(tmp_path / "run.safetensors", TEXT).total == 5
    assert Trainer.resume(tmp_path / "run.safetensors", TEXT, steps=9).total == 9
    per_epoch = trainer.steps_per_epoch
    assert Trainer.resume(tmp_path / "run.safetensors", TEXT, epochs=3).total == 3 * per_epoch
    for goal in ({"steps": 0}, {"epochs": 0}, {"epochs": -2}):
        with pytest.raises(UserError, match="from 1 up"):
            Trainer.resume(tmp_path / "run.safetensors", TEXT, **goal)


@pytest.mark.parametrize(
    "text",
    [TEXT + "!", TEXT[:-1], TEXT[:-1] + "0", "1" + TEXT[1:], "2 times"],
    ids=["longer", "shorter", "another end", "another beginning", "too short"],
)
def test_another_text_is_refused(text: str, tmp_path: Path) -> None:
    make().save(tmp_path / "run.safetensors")
    with pytest.raises(CheckpointError, match="was trained on another text"):
        Trainer.resume(tmp_path / "run.safetensors", text)


def test_a_model_without_training_is_refused(tmp_path: Path) -> None:
    make().model.save(tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="a model without its training"):
        Trainer.resume(tmp_path / "m.safetensors", TEXT)


@pytest.mark.parametrize(
    "change", ["no settings", "unknown setting", "bad setting", "no rng", "no state", "more"]
)
def test_training_that_does_not_fit_is_refused(change: str, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    make().save(path)
    checkpoint = load_checkpoint(path)
    tensors, training = dict(checkpoint.tensors), checkpoint.meta["training"]
    if change == "no settings":
        del training["settings"]
    elif change == "unknown setting":
        training["settings"]["momentum"] = 0.9
    elif change == "bad setting":
        training["settings"]["lr"] = -1.0
    elif change == "no rng":
        del training["rng"]
    elif change == "no state":
        del tensors["training.state.0"]
    elif change == "more":
        tensors["training.optimiser.velocity.0"] = np.zeros(3)
    save_checkpoint(path, tensors, checkpoint.meta)
    with pytest.raises(CheckpointError, match=r"run\.safetensors"):
        Trainer.resume(path, TEXT)


# --- divergence and interruption ------------------------------------------------------------------------
@pytest.mark.parametrize("poisoned", ["loss", "gradient"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_that_diverges_changes_nothing(
    poisoned: str, value: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trainer = make(compiled=False)
    for _ in range(3):
        trainer.step()
    trainer.save(tmp_path / "before.safetensors")
    loss = CharLM.loss

    def planted(self: CharLM, *args: Any) -> Any:
        result = loss(self, *args)
        if poisoned == "gradient":
            result.loss.register_hook(lambda g: g * value)
            return result
        return result._replace(loss=result.loss * value)

    with monkeypatch.context() as patch:
        patch.setattr(CharLM, "loss", planted)
        with pytest.raises(DivergedError) as caught:
            trainer.step()
    sentence = str(caught.value)
    assert "at step 4: training has diverged; lower the learning rate of 0.002, or clip harder" in sentence
    assert sentence.startswith("the loss is " if poisoned == "loss" else "the gradient has the norm ")
    trainer.save(tmp_path / "after.safetensors")
    assert (tmp_path / "after.safetensors").read_bytes() == (tmp_path / "before.safetensors").read_bytes()
    # The window that diverged is the next one again.
    straight = make(compiled=False)
    expected = [straight.step() for _ in range(4)][-1]
    assert trainer.step()[:6] == expected[:6]


def test_a_compiled_step_that_diverges_changes_nothing() -> None:
    trainer, straight = make(), make()
    for each in (trainer, straight):
        each.step()
    bias = trainer.model.output.bias
    good = bias.numpy()
    bias.data = np.full_like(good, np.nan)
    poisoned = weights(trainer)
    with pytest.raises(DivergedError, match=r"^the loss is nan at step 2"):
        trainer.step()
    assert weights(trainer) == poisoned
    bias.data = good
    assert trainer.step()[:6] == straight.step()[:6]


def test_a_learning_rate_that_explodes_is_reported_and_warns_of_nothing() -> None:
    trainer = make(Settings(batch=4, window=8, lr=1e38, clip=0, steps=50))
    with pytest.raises(DivergedError, match=r"or clip the gradient$"):
        list(trainer.run())
    assert trainer.steps < 50


def test_a_loss_far_above_guessing_is_divergence(tmp_path: Path) -> None:
    trainer = make(Settings(batch=4, window=8, lr=1e30))
    trainer.save(tmp_path / "run.safetensors")
    before = (tmp_path / "run.safetensors").read_bytes()
    trainer.step()
    spoiled = weights(trainer)
    with pytest.raises(DivergedError, match=r"^the loss is \S+e\+3\d after step 1: training has diverged"):
        trainer.save(tmp_path / "run.safetensors")
    assert (tmp_path / "run.safetensors").read_bytes() == before
    with pytest.raises(DivergedError, match=r"^the loss is \S+e\+3\d at step 2: training has diverged"):
        trainer.step()
    assert weights(trainer) == spoiled
    assert trainer.steps == 1


def test_a_surprise_is_no_divergence() -> None:
    """A window of one character, of which a model of two characters is sure and wrong."""
    trainer = make(Settings(batch=1, window=1, valid_fraction=0), text="ab" * 20)
    bias = trainer.model.output.bias
    assert bias is not None
    with no_grad():
        bias += np.array([15.0, 0.0], np.float32)
    assert trainer.step().loss > 10 * math.log(2)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    trainer = make(Settings(batch=4, window=8, lr=1e39))
    trainer.save(tmp_path / "run.safetensors")
    before = (tmp_path / "run.safetensors").read_bytes()
    trainer.step()
    with pytest.raises(DivergedError, match="the weights are not finite after step 1: training has diverged"):
        trainer.save(tmp_path / "run.safetensors")
    assert (tmp_path / "run.safetensors").read_bytes() == before


def test_an_interrupted_step_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(compiled=False)
    trainer.step()

    def interrupted(self: CharLM, *args: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CharLM, "loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.step()
    straight = make(compiled=False)
    straight.step()
    assert trainer.steps == 1
    assert trainer.step()[:6] == straight.step()[:6]
    assert weights(trainer) == weights(straight)


# --- bad arguments --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"lr": math.nan}, "the learning rate must be a number above 0, not nan"),
        ({"lr": 0.0}, "not 0.0"),
        ({"lr": -1e-3}, "not -0.001"),
        ({"lr": math.inf}, "not inf"),
        ({"decay": 0.0}, "decay of the learning rate"),
        ({"decay": math.nan}, "decay of the learning rate"),
        ({"clip": -1.0}, "the norm to clip at"),
        ({"clip": math.nan}, "the norm to clip at"),
        ({"clip": math.inf}, "0 for no clipping"),
        ({"batch": 0}, "the batch size must be a whole number from 1 up, not 0"),
        ({"window": -5}, "the window length must be a whole number from 1 up, not -5"),
        ({"epochs": 0}, "the number of epochs"),
        ({"steps": 0}, "the number of steps"),
        ({"steps": 1.5}, "not 1.5"),
        ({"batch": True}, "not True"),
        ({"valid_fraction": 1.0}, "from 0 to below 1, not 1.0"),
        ({"valid_fraction": -0.1}, "not -0.1"),
        ({"valid_fraction": math.nan}, "not nan"),
    ],
)
def test_bad_settings(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Settings(**settings)


@given(st.integers(2, 3_000_000), st.none() | st.integers(1, 50), st.none() | st.integers(1, 50))
def test_sizes_fit_the_text(characters: int, batch: int | None, window: int | None) -> None:
    B, T = fitting_sizes(characters, batch, window)
    assert 1 <= B <= 50
    assert 1 <= T <= 50
    assert batch in (None, B)
    assert window in (None, T)
    if characters > 50_000:
        assert (batch or 50, window or 50) == (B, T)
    if batch is None and window is None:
        assert characters > B * T
        per_pass = (characters - 1) // B // T
        assert per_pass >= 20 or (B, T) == (1, 10) or (B == 1 and T < 10)


def test_what_no_window_reads_is_counted() -> None:
    trainer = make()
    ids = trainer.model.vocabulary.encode(TEXT)[: trainer.training_characters]
    windows = Windows(ids, 8, 4)
    read = sum(next(windows)[0].size for _ in range(windows.per_pass))
    assert trainer.unread == len(ids) - 1 - read


def test_texts_that_do_not_fit() -> None:
    with pytest.raises(UserError, match="windows of 50 timesteps in a batch of 50 need at least 2,501"):
        make(Settings(batch=50, window=50))
    with pytest.raises(UserError, match="leaves 1 to evaluate on"):
        make(Settings(batch=1, window=1, valid_fraction=0.04), text="abababababababababababab")
    with pytest.raises(UserError, match="'z' at position 0 is unknown"):
        Trainer(CharLM(Vocabulary("ab")), "zab", SMALL)


def rates(**options: Any) -> list[float]:
    """The learning rate of every step of a short run of five passes."""
    model = CharLM(Vocabulary(TEXT), hidden=4, seed=0)
    settings = Settings(batch=4, window=8, lr=1.0, clip=1e-6, valid_fraction=0, **options)
    return [step.lr for step in Trainer(model, TEXT, settings).run()]


def test_the_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    lrs = rates(steps=30, warmup=10, schedule="cosine")
    np.testing.assert_allclose(lrs[:10], np.arange(1, 11) / 10)
    expected = 0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * np.arange(20) / 20))
    np.testing.assert_allclose(lrs[10:], expected)
    np.testing.assert_allclose(rates(steps=5, schedule="cosine")[0], 1)


def test_the_learning_rate_warms_up_and_falls_after_each_pass() -> None:
    lrs = rates(epochs=3, warmup=4, decay=0.5)
    np.testing.assert_allclose(lrs[:5], [0.25, 0.5, 0.75, 1, 1])
    assert sorted(set(lrs[4:]), reverse=True) == [1, 0.5, 0.25]


@pytest.mark.parametrize("schedule", ["exponential", "cosine"])
def test_a_run_shorter_than_its_warm_up_comes_to_its_rate(schedule: str) -> None:
    np.testing.assert_allclose(rates(steps=5, warmup=100, schedule=schedule), [0.2, 0.4, 0.6, 0.8, 1])
