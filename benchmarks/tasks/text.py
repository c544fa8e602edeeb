"""Language models on tiny Shakespeare, trained as ``tensorgrad train`` does.

The setting: one layer, one-hot input, the last tenth of the text for validation. The rest is cut into 50
streams side by side; windows of 50 timesteps go through them, the state carried from window to window and
zero at the start of each epoch. Adam at 2e-3, times 0.9 after every epoch; gradients clipped to norm 5; ten
epochs. Weights start uniform within 1/sqrt(H). The validation text runs through in 50 streams as well, the
state carried throughout; the figure is the mean over its characters, in nats.

A transformer reads windows of 32, its context, in 78 streams: as many characters a step, and so in ten epochs
as many altogether. Its learning rate rises for 100 steps and then falls along half a cosine; gradients are
clipped to norm 1.
"""

from __future__ import annotations

from typing import Any

from tensorgrad.data import Vocabulary, read_text
from tensorgrad.models.char_lm import CharLM
from tensorgrad.models.language import LanguageModel
from tensorgrad.models.trainer import Settings, Trainer
from tensorgrad.models.transformer import TransformerLM


def trained(model: LanguageModel, text: str, settings: Settings) -> dict[str, Any]:
    """The validation loss after each epoch, the last of which is the figure."""
    trainer = Trainer(model, text, settings)
    epochs = [step.validation for step in trainer.run() if step.validation is not None]
    weights = sum(p.size for p in model.parameters())
    return {"reached": epochs[-1], "epochs": epochs, "weights": weights}


class Text:
    """A recurrent cell; an LSTM starts with a forget bias of 1."""

    def __init__(self, path: str, cell: str, hidden: int, seed: int) -> None:
        self.text = read_text(path)
        options = {"forget_bias": 1.0} if cell == "lstm" else {}
        self.model = CharLM(Vocabulary(self.text), cell, hidden, cell_options=options, seed=seed)

    def run(self) -> dict[str, Any]:
        """Ten epochs."""
        return trained(self.model, self.text, Settings())


class TransformerAgainstRNN:
    """A transformer beside a vanilla RNN that has at least as many weights."""

    def __init__(self, path: str, hidden: int, d_model: int, layers: int, lr: float, seed: int) -> None:
        self.text = read_text(path)
        vocabulary = Vocabulary(self.text)
        self.rnn = CharLM(vocabulary, "rnn", hidden, seed=seed)
        self.transformer = TransformerLM(vocabulary, d_model, layers=layers, heads=4, context=32, seed=seed)
        self.settings = Settings(batch=78, window=32, lr=lr, clip=1.0, warmup=100, schedule="cosine")

    def run(self) -> dict[str, Any]:
        """Ten epochs of each; the difference of the last validation losses."""
        rnn = trained(self.rnn, self.text, Settings())
        transformer = trained(self.transformer, self.text, self.settings)
        if transformer["weights"] > rnn["weights"]:
            raise ValueError(f"{transformer['weights']} weights against {rnn['weights']}: not equal terms")
        gap = transformer["reached"] - rnn["reached"]
        return {"reached": gap, "transformer": transformer, "rnn": rnn}
