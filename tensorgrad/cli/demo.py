"""`tensorgrad demo`: the whole of it in less than a minute, from nothing but Python itself."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import tensorgrad as tg
from tensorgrad import nn, viz
from tensorgrad.cli import arguments, runs
from tensorgrad.cli.check import as_table, compare, show, summary
from tensorgrad.cli.console import make_console, printable
from tensorgrad.cli.log import read_log
from tensorgrad.data import Vocabulary
from tensorgrad.models.char_lm import CharLM
from tensorgrad.models.corpus import python_reference
from tensorgrad.models.trainer import Settings, Trainer

__all__ = ["demo"]

_OUT = Path("tensorgrad-demo")
# Ten seconds of training or so on one core, after which most of what is sampled are English words.
_STEPS = 8_000
_HIDDEN = 128
_BATCH = 16
_WINDOW = 50
_DECAY = 0.97
_TEMPERATURE = 0.7
_DPI = 120

_DRAWN = "def "
_READ = "A class definition is an executable statement. It is executed"


@arguments.limit_threads()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that is made.")] = _OUT,
    steps: Annotated[int, typer.Option(help="Training steps.")] = _STEPS,
    seed: Annotated[int, typer.Option(help="For the first weights and the samples.")] = 0,
) -> None:
    """Show what this is: check gradients, train a character RNN, draw it.

    Needs no file and no network: the text is the prose of Python's own reference.
    """
    arguments.check_seed(seed)
    began = time.monotonic()
    text = python_reference()
    settings = Settings(batch=_BATCH, window=_WINDOW, decay=_DECAY, steps=steps)
    model = CharLM(Vocabulary(text), "rnn", _HIDDEN, seed=seed)
    trainer = Trainer(model, text, settings, seed)
    runs.new_folder(out, "move it away, or name another folder with --out")
    console = make_console()

    print("1. Are the gradients right? An RNN's, found in three ways that share no code:\n")
    rows = compare(T=8, B=3, H=16, V=12, seed=seed)
    show(as_table(rows), console)
    print(f"{summary(rows)}\nThe graph was recorded, and no backward pass was written for it.\n")

    print("2. An RNN learns to write like Python's reference, character by character.\n")
    for line in runs.describe(trainer, text):
        print(line)
    ids = model.vocabulary.encode(text)
    untrained = _reach(model, ids)
    print(f"\nbefore training it writes:\n    {_line(trainer.sample(150, _TEMPERATURE))}\n", flush=True)
    every = max(1, steps // 4)
    try:
        runs.run(trainer, out, console, save_every=every, sample_every=every, temperature=_TEMPERATURE)
    except typer.Exit:
        other = shlex.join(["tensorgrad", "demo", "--out", f"{out}-2"])
        print(f"see what it writes: {shlex.join(['tensorgrad', 'sample', str(out)])}", file=sys.stderr)
        print(f"start again: {other}", file=sys.stderr)
        raise

    print("\n3. What lies in the folder now:\n")
    reach = {"before training": untrained, "after training": _reach(model, ids)}
    for name, what in _pictures(model, out, reach):
        print(f"{out / name}\n    {what}")
    print(f"{out / runs.LOG}\n    loss, gradient norm, learning rate and speed of every step")
    print(f"{out / runs.CHECKPOINT}\n    the trained model, and all that is needed to go on training it\n")

    print("4. What to try next:\n")
    print(f'tensorgrad sample {out} --prime "The class " --temperature {_TEMPERATURE}')
    print("tensorgrad train FILE               any text of yours, with any of twelve cells")
    print("tensorgrad check -T 50 -H 64        the gradients of a larger network")
    print("tensorgrad draw --cell lstm -T 50   the graph of another cell")
    print("tensorgrad --help                   all there is")
    print(f"\n{time.monotonic() - began:.0f} seconds in all.")
    if not all(row.ok for row in rows):
        raise typer.Exit(1)


def _line(text: str) -> str:
    return printable(text).replace("\n", " ")


def _reach(model: CharLM, ids: np.ndarray) -> np.ndarray:
    """How far back the loss of one character reaches: the norm of dL/dh_t for each t, (T,).

    Of the last timestep's loss alone: with a loss at every timestep, what comes from near would hide how
    little comes from afar.
    """
    T, B = _WINDOW, 32
    window = ids[-(T + 1) * B :].reshape(B, T + 1).T
    logits, _, roll = model(window[:-1])
    loss = tg.cross_entropy(logits[-1], window[-1])
    assert roll is not None
    return np.array([np.linalg.norm(g) for g in tg.grad(loss, _states(roll))])


def _states(roll: nn.Unrolled) -> list[tg.Tensor]:
    return [step["h"] for step in roll.steps]


def _pictures(model: CharLM, out: Path, reach: dict[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    """Draw everything; gives what each file is called and shows, as it is made."""
    ids = model.vocabulary.encode(_DRAWN)
    start = tuple(tg.label(h, "h0") for h in model.initial_state(1))
    result = model.loss(ids[:-1, None], ids[1:, None], start)
    drawing = viz.draw(result.loss, unrolled=result.unrolled, params=model)
    drawing.save(out / "graph.html")
    yield "graph.html", f"the unrolled graph of reading {_DRAWN[:-1]!r}, to walk through in a browser"
    drawing.save(out / "graph.svg")
    about = "the same as a picture: every operation, a frame for each timestep"
    try:
        drawing.save(out / "graph.png")
        yield "graph.svg (.png)", about
    except viz.RenderError as error:
        yield "graph.svg (.dot)", f"{about}; {error}"

    with tg.no_grad():
        roll = model(model.vocabulary.encode(_READ)[:, None]).unrolled
    assert roll is not None
    states = np.stack([h.numpy()[0] for h in _states(roll)])
    # Side by side, units that hold something for long and units that follow each character.
    slowest_last = np.argsort(-np.abs(np.diff(states, axis=0)).mean(axis=0))
    losses = read_log(out / runs.LOG)["loss"]
    try:
        viz.plots.loss_curve(losses).savefig(out / "loss.png", dpi=_DPI)
        yield "loss.png", "the loss of every step, in nats per character"
        viz.plots.gradient_flow(reach).savefig(out / "gradient.png", dpi=_DPI)
        yield "gradient.png", "how much of one character's loss reaches back to each state, linear and log"
        figure = viz.plots.hidden_states(states[:, slowest_last], tokens=_READ)
        figure.axes[0].set_ylabel("hidden units, from quick to slow")
        figure.savefig(out / "states.png", dpi=_DPI)
        yield "states.png", "what every hidden unit holds while the model reads a sentence"
    except viz.plots.PlotError as error:
        yield "(no plots)", str(error)
