"""Sequence to sequence with attention: at each step the decoder looks back at what the encoder read.

    s_i = decoder([E_t y_(i-1); a_(i-1)], s_(i-1))   a_0 = 0
    alpha_ij = softmax_j(score(s_i, h_j))
    context_i = sum_j alpha_ij h_j
    a_i = tanh(W_c [context_i; s_i])
    p(y_i | y_1 .. y_(i-1), x) = softmax(W_o a_i + b_o)

h_j are the encoder's outputs; s_i the output of the decoder's last layer. Feeding a_(i-1) back in tells the
decoder where it looked last. The score is one of `nn.AdditiveAttention` and `nn.DotProductAttention`.

Sources: Bahdanau, Cho, Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate"
(2015); Luong, Pham, Manning, "Effective Approaches to Attention-based Neural Machine Translation" (2015),
equation 5 for a_i and section 3.3 for feeding it back.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tensorgrad import nn
from tensorgrad.data import Pairs
from tensorgrad.errors import UserError
from tensorgrad.models.seq2seq import Seq2Seq
from tensorgrad.nn.attention import AdditiveAttention, DotProductAttention, Memory
from tensorgrad.ops import concatenate, tanh
from tensorgrad.random import Seed, as_generator
from tensorgrad.recording import label, no_grad
from tensorgrad.tensor import Tensor

__all__ = ["ATTENTIONS", "AttentiveSeq2Seq"]

ATTENTIONS = ("additive", "dot", "general")
"""The scores by name: v . tanh(W s + U h), s . h, and s . W h."""


class _State(NamedTuple):
    """Of the decoder, the batch on axis 0 of every part."""

    cells: tuple[Any, ...]
    attended: Any
    memory: Memory


class AttentiveSeq2Seq(Seq2Seq):
    """An encoder, and a decoder that looks back at all of the encoder's outputs.

    Args:
        attention: "additive", "dot" or "general", see `ATTENTIONS`; others are those of `Seq2Seq`.

    Attributes:
        attention: the `nn` attention; it labels its weights "alpha".
        combine: `nn.Linear(2H, H)` without bias, W_c; others are those of `Seq2Seq`.

    Raises:
        UserError: an unknown attention; others as `Seq2Seq`.

    Example:
        >>> from tensorgrad.data import reversal
        >>> model = AttentiveSeq2Seq(13, 13, hidden=8, attention="dot", seed=0)
        >>> pairs = reversal(5, lengths=(1, 3), seed=0)
        >>> model.loss(pairs).shape, model.alignment(pairs).shape
        ((), (4, 5, 3))
    """

    _read_beside = 1

    def __init__(
        self,
        source_vocab_size: int,
        target_vocab_size: int,
        hidden: int = 128,
        embedding: int = 32,
        cell: str = "gru",
        layers: int = 1,
        *,
        attention: str = "additive",
        bidirectional: bool = False,
        seed: Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        if attention not in ATTENTIONS:
            raise UserError(
                f"AttentiveSeq2Seq: attention must be one of {', '.join(ATTENTIONS)}, not {attention!r}"
            )
        rng = as_generator(seed)
        sizes = (source_vocab_size, target_vocab_size, hidden, embedding)
        super().__init__(*sizes, cell, layers, bidirectional=bidirectional, seed=rng, dtype=dtype)
        self.kind = attention
        if attention == "additive":
            self.attention: Any = AdditiveAttention(hidden, hidden, hidden, seed=rng, dtype=self.dtype)
        else:
            general = attention == "general"
            self.attention = DotProductAttention(hidden, hidden, general=general, seed=rng, dtype=self.dtype)
        self.combine = nn.Linear(2 * hidden, hidden, bias=False, seed=rng, dtype=self.dtype)

    def encode(self, source: npt.ArrayLike, lengths: npt.ArrayLike) -> _State:
        outputs, cells = self._read(source, lengths)
        attended = np.zeros(outputs.shape[1:], self.dtype)
        return _State(cells, attended, self.attention.prepare(outputs, lengths))

    def step(self, ids: npt.NDArray[Any], state: _State) -> tuple[Tensor, _State]:
        x = concatenate([self.target_embedding(ids), state.attended], axis=-1)
        s, cells = self._decode(x, state.cells)
        context, _ = self.attention(s, state.memory)
        attended = label(tanh(self.combine(concatenate([context, s], axis=-1))), "attended")
        return attended, _State(cells, attended, state.memory)

    def alignment(self, pairs: Pairs) -> npt.NDArray[Any]:
        """Where in the source the decoder looks for each id of the target; records no graph.

        Args:
            pairs: sources, and targets of which each id is read once it is written, right or wrong.

        Returns:
            alpha, (T_out, B, T_in): rows sum to 1 over the source, and padding of the source has 0.
            `viz.plots.alignment` draws it for one sequence.

        Raises:
            ShapeError, DtypeError: as `forward`.
        """
        with no_grad():
            _, roll = self(pairs)
        return np.stack([step["alpha"].numpy() for step in roll.steps])

    def config(self) -> dict[str, Any]:
        return {**super().config(), "attention": self.kind}

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.kind} attention"
