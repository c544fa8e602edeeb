"""A character-level transformer: a decoder that attends to the characters before, up to its context.

    x_t = E[c_t] + p_t                                          the character and its position
    x   = x + attention(norm(x)),  causal
    x   = x + W_2 gelu(W_1 norm(x) + b_1) + b_2                  both in each layer
    y_t = E norm(x_t)                                           the output layer, tied to the embedding
    p(c_(t+1) | c_1 .. c_t) = softmax(y_t)

Sources: Vaswani et al., "Attention Is All You Need" (2017). The norms before each part and after the last,
and the initial weights: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), section
2.3. Tied weights: Press, Wolf, "Using the Output Embedding to Improve Language Models" (2017).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tensorgrad import nn
from tensorgrad.context import context
from tensorgrad.data import Vocabulary
from tensorgrad.errors import CheckpointError, ShapeError, UserError
from tensorgrad.functional import gelu
from tensorgrad.models.language import LanguageModel, Run, whole
from tensorgrad.nn import init
from tensorgrad.nn.attention import MultiHeadAttention, sinusoidal_positions
from tensorgrad.ops import concatenate, linear
from tensorgrad.random import Seed, as_generator
from tensorgrad.recording import label, scope
from tensorgrad.tensor import Tensor

__all__ = ["POSITIONS", "Block", "TransformerLM"]

POSITIONS = ("learned", "sinusoidal")

# The weights of a layer whose products are added to x.
_ADDED = ("self_attn.out_proj.weight", "linear2.weight")

# In a state, the places of characters that have not been read yet.
_NOTHING = -1


class Block(nn.Module):
    """One layer: attention to the places before, then two linear layers at each place, both added to x.

    The parameters are named as in PyTorch's `nn.TransformerEncoderLayer`, with which it agrees where that has
    `norm_first=True`, a causal mask and the same `gelu`.

    Args:
        d_model: the features of each place; the linear layers have four times as many between them.
        heads: the number of heads that share them.
        dropout: the probability of zeroing a weight of the attention and an output of either part.
        std: the standard deviation of the initial weights.
        depth: the number of layers; the weights whose products are added to x start smaller, by the root of
            twice that.
        seed: an int or a Generator for the initial weights and dropout.
        dtype: float32 or float64.

    Example:
        >>> Block(4, heads=2, seed=0)(np.ones((5, 1, 4))).shape
        (5, 1, 4)
    """

    def __init__(
        self,
        d_model: int,
        heads: int,
        dropout: float = 0.0,
        std: float = 0.02,
        depth: int = 1,
        *,
        seed: Seed = None,
        dtype: Any = np.float64,
    ) -> None:
        rng = as_generator(seed)
        self.norm1 = nn.LayerNorm(d_model, dtype=dtype)
        self.self_attn = MultiHeadAttention(d_model, heads, dropout, seed=rng, dtype=dtype)
        self.norm2 = nn.LayerNorm(d_model, dtype=dtype)
        self.linear1 = nn.Linear(d_model, 4 * d_model, seed=rng, dtype=dtype)
        self.linear2 = nn.Linear(4 * d_model, d_model, seed=rng, dtype=dtype)
        self.dropout = nn.Dropout(dropout, seed=rng)
        small = std / math.sqrt(2 * depth)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                p.data = init.normal(p.shape, small if name in _ADDED else std, rng, dtype)
            elif name.endswith("bias"):
                p.data = np.zeros_like(p.numpy())

    def forward(self, x: Any) -> Any:
        """The same places with more in them: (T, B, d_model) to (T, B, d_model)."""
        attended, _ = self.self_attn(self.norm1(x), causal=True)
        x = x + self.dropout(attended)
        return x + self.dropout(self.linear2(gelu(self.linear1(self.norm2(x)))))


class TransformerLM(LanguageModel):
    """Predicts the next character from the last `context` characters.

    A window of up to `context` characters is read at once, with as many characters from before it as the
    context leaves room for. A longer text is read in pieces of half the context, so that each character is
    predicted from at least half of it. What is carried from window to window is those characters, read anew
    each time: the gradient reaches back over all of them.

    Train on windows as long as the context. Positions beyond the end of the windows are otherwise never
    trained where there is no text before, as at the start of a sample.

    Args:
        vocabulary: the V characters it knows.
        d_model: the features of each place.
        layers: how many layers stand on one another.
        heads: the heads of attention in each; they share `d_model` evenly.
        context: how many characters it sees at once.
        positions: "learned", a vector for each, or "sinusoidal", the waves of Vaswani et al.
        tied: whether the output layer's weight is the embedding itself; otherwise one of its own, and a bias.
        dropout: the probability of zeroing, in training.
        seed: an int or a Generator for the initial weights and dropout.
        dtype: float32 or float64.

    Attributes:
        embedding: `nn.Embedding(V, d_model)`.
        places: `nn.Embedding(context, d_model)`, or None where the positions are sinusoidal.
        blocks: the layers.
        norm: the last `nn.LayerNorm`.
        output: `nn.Linear(d_model, V)`, or None where tied.

    Raises:
        UserError: a size under 1, heads that do not divide `d_model`, other positions, another dtype, a
            dropout that is no probability.

    Example:
        >>> model = TransformerLM(Vocabulary("hello"), d_model=8, heads=2, context=4, seed=0)
        >>> model.loss(np.array([[0], [1]]), np.array([[1], [2]])).loss.shape
        ()
        >>> len("".join(model.sample("hell", length=9, seed=0)))
        9
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        d_model: int = 48,
        *,
        layers: int = 1,
        heads: int = 4,
        context: int = 50,
        positions: str = "learned",
        tied: bool = True,
        dropout: float = 0.0,
        seed: Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(vocabulary, seed, dtype)
        d_model, layers = whole("size of the model", d_model), whole("number of layers", layers)
        heads, context = whole("number of heads", heads), whole("context", context)
        if d_model % heads:
            raise UserError(f"{heads} heads cannot share a model of size {d_model}; make it a multiple")
        if positions not in POSITIONS:
            raise UserError(f"the positions must be one of {', '.join(POSITIONS)}, not {positions!r}")
        if not 0 <= dropout <= 1:
            raise UserError(f"the dropout must be a probability, 0 to 1, not {dropout}")
        self.d_model, self.heads, self.context, self.positions = d_model, heads, context, positions
        rng, kind, V = self.rng, self.dtype, len(vocabulary)
        std = _spread(d_model)
        self.embedding = nn.Embedding(V, d_model, seed=rng, dtype=kind)
        self.embedding.weight.data = init.normal((V, d_model), std, rng, kind)
        self.places = None
        if positions == "learned":
            self.places = nn.Embedding(context, d_model, seed=rng, dtype=kind)
            self.places.weight.data = init.normal((context, d_model), std, rng, kind)
        self.dropout = nn.Dropout(dropout, seed=rng)
        self.blocks = [
            Block(d_model, heads, dropout, std, layers, seed=rng, dtype=kind) for _ in range(layers)
        ]
        self.norm = nn.LayerNorm(d_model, dtype=kind)
        self.output = None if tied else nn.Linear(d_model, V, seed=rng, dtype=kind)

    def config(self) -> dict[str, Any]:
        return {
            **super().config(),
            "d_model": self.d_model,
            "layers": len(self.blocks),
            "heads": self.heads,
            "context": self.context,
            "positions": self.positions,
            "tied": self.output is None,
            "dropout": self.dropout.p,
        }

    def summary(self) -> str:
        """The sizes in a few words.

        Example:
            >>> TransformerLM(Vocabulary("ab"), 4, heads=2, context=3).summary()
            'transformer, size 4, 2 heads, context 3'
        """
        layers = f"{len(self.blocks)} layers of " if len(self.blocks) > 1 else ""
        return f"transformer, {layers}size {self.d_model}, {self.heads} heads, context {self.context}"

    @classmethod
    def check_config(cls, arguments: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
        V, shape = len(arguments["vocabulary"]), np.shape(weights.get("embedding.weight", ()))
        d_model, layers, context = (arguments.get(key) for key in ("d_model", "layers", "context"))
        if type(d_model) is not int or shape != (V, d_model):
            raise CheckpointError(
                f"it describes {V} characters and a size of {d_model!r}, but its embedding has shape {shape}"
            )
        if type(layers) is not int or layers > len(weights):
            raise CheckpointError(f"it describes {layers!r} layers, but has only {len(weights)} weights")
        places = np.shape(weights["places.weight"]) if "places.weight" in weights else (context, d_model)
        if type(context) is not int or places != (context, d_model):
            raise CheckpointError(
                f"it describes a context of {context!r}, but its positions have shape {places}"
            )

    def extra_repr(self) -> str:
        return f"{len(self.vocabulary)} characters, context={self.context}, positions={self.positions!r}"

    def initial_state(self, batch: int) -> Tensor:
        """The state before any text: the last characters read, (B, context - 1), -1 where there was none.

        Args:
            batch: B.

        Example:
            >>> TransformerLM(Vocabulary("ab"), 4, context=3).initial_state(2).numpy()
            array([[-1, -1],
                   [-1, -1]])
        """
        return Tensor(np.full((batch, self.context - 1), _NOTHING))

    def forward(self, ids: npt.ArrayLike, state: Any = None) -> Run:
        """The scores of every next character.

        Args:
            ids: (T, B) integers, T at least 1.
            state: what an earlier run left behind; None for the start of a text.

        Raises:
            ShapeError: an id that is no character, ids that are not (T, B), a state that does not fit.
        """
        ids = ids if context().tracer is not None and isinstance(ids, Tensor) else np.asarray(ids)
        if ids.ndim != 2 or not len(ids):
            raise ShapeError(f"TransformerLM: ids must be (T, B) with at least one timestep, not {ids.shape}")
        length = self.context if len(ids) <= self.context else self.evaluation_window
        # A first piece as long as the context sees nothing of what was before.
        before = self._before(state, ids.shape[1], min(len(ids), length) < self.context)
        logits = []
        for t in range(0, len(ids), length):
            piece = ids[t : t + length]
            text = np.concatenate([before, piece])[-self.context :]
            logits.append(self._scores(text, len(piece)))
            before = text[1:] if len(text) == self.context else text
        missing = np.full((self.context - 1 - len(before), ids.shape[1]), _NOTHING)
        after = np.concatenate([missing, before]).T
        after = after if isinstance(after, Tensor) else Tensor(after)
        return Run(label(logits[0] if len(logits) == 1 else concatenate(logits), "y"), after)

    @property
    def evaluation_window(self) -> int:
        """Half the context: each character is then predicted from at least half of it.

        A text longer than the context is read in pieces of this length too.

        Example:
            >>> model = TransformerLM(Vocabulary("ab"), 4, context=3, seed=0)
            >>> model.evaluation_window, model.evaluate(np.array([0, 1, 0, 1, 1, 0]), batch=1) < 1
            (1, True)
        """
        return max(self.context // 2, 1)

    def compiles(self, T: int) -> bool:
        # What shorter windows are shown of the text before depends on how much of it was read.
        return self.context == T

    def _before(self, state: Any, B: int, seen: bool) -> npt.NDArray[Any]:
        """The characters before, (n, B), n under `context` and the same for all sequences of the batch.

        None of them where they are not `seen`.
        """
        nothing = np.empty((0, B), np.intp)
        if state is None:
            return nothing
        state = state if isinstance(state, Tensor) else np.asarray(state)
        if state.shape != (B, self.context - 1) or state.dtype.kind not in "iu":
            raise ShapeError(
                f"TransformerLM: the state should be the last characters of {B} texts, integers "
                f"({B}, {self.context - 1}), not {state.dtype} {state.shape}"
            )
        if not seen:
            return nothing
        values = np.asarray(state)
        read = values >= 0
        if (read != read[:1]).any():
            raise ShapeError("TransformerLM: all rows of a state must hold as many characters")
        return values.T[read.all(axis=0)]

    def _scores(self, text: npt.NDArray[Any], last: int) -> Any:
        """The logits (last, B, V) of the last places of a text (T, B), T at most `context`."""
        T = len(text)
        if self.places is None:
            places = sinusoidal_positions(T, self.d_model, self.dtype)
        else:
            places = self.places.weight[:T]
        x = self.dropout(self.embedding(text) + places[:, None])
        for k, block in enumerate(self.blocks):
            with scope(f"layer={k}"):
                x = block(x)
        x = self.norm(x[T - last :])
        return linear(x, self.embedding.weight) if self.output is None else self.output(x)


def _spread(d_model: int) -> float:
    """The standard deviation of initial weights: GPT-2's 0.02 at its size of 768, and products as large."""
    return 0.02 * math.sqrt(768 / d_model)
