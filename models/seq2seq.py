"""Sequence to sequence: one recurrent network reads the source, another writes the target.

    h_j = encoder(E_s x_j, h_(j-1))                  j = 1 .. T_in
    s_0 = h_(T_in)
    s_i = decoder(E_t y_(i-1), s_(i-1))              y_0 = START
    p(y_i | y_1 .. y_(i-1), x) = softmax(W_o s_i + b_o)

All that the decoder knows of the source is the encoder's last state; `models.attention` lets it look back.

Sources: Sutskever, Vinyals, Le, "Sequence to Sequence Learning with Neural Networks" (2014); Cho et al.,
"Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation" (2014).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tensorgrad import functional as F
from tensorgrad import nn, tree
from tensorgrad.context import context
from tensorgrad.data import END, PAD, START, Pairs
from tensorgrad.data.arguments import integer
from tensorgrad.errors import CheckpointError, DtypeError, ShapeError, UserError
from tensorgrad.models.decoding import Hypothesis, beam_search
from tensorgrad.models.files import Saved
from tensorgrad.ops import concatenate, where
from tensorgrad.random import Seed, as_generator
from tensorgrad.recording import label, no_grad, scope
from tensorgrad.tensor import Tensor

__all__ = ["Seq2Seq", "Written"]

Ids = npt.NDArray[np.intp]

# Stands among the decoder's inputs where it is fed what it would have written itself.
_OWN = -1


class Written(NamedTuple):
    """What a decoder wrote.

    Attributes:
        ids: (T_out, B), each sequence up to its `END` and `PAD` from there on.
        lengths: (B,), with the `END` where there is one.
    """

    ids: Ids
    lengths: Ids


class Seq2Seq(Saved):
    """An encoder and a decoder, trained together.

    Ids 0, 1 and 2 of the target's vocabulary are `PAD`, `END` and `START`, as `tensorgrad.data` has them.

    Args:
        source_vocab_size: how many ids a source may hold.
        target_vocab_size: V, how many ids a target may hold.
        hidden: H, the size of every layer's state.
        embedding: the size of the learned vector of each id.
        cell: a name in `nn.CELLS`, such as "gru" or "lstm".
        layers: how many layers the encoder has, and the decoder.
        bidirectional: the encoder reads the source from both ends, each direction with H / 2 units, and what
            they make of it stands side by side. Its state is as large as that of one direction.
        seed: an int or a Generator for the initial weights.
        dtype: float32 or float64.

    Attributes:
        encoder: the `nn.Recurrent` layers.
        decoder: the cells, one for each layer.
        source_embedding, target_embedding: `nn.Embedding`.
        output: `nn.Linear(H, V)`.

    Raises:
        UserError: an unknown cell, a size out of range, an odd `hidden` for two directions.
        DtypeError: another dtype.

    Example:
        >>> from tensorgrad.data import reversal
        >>> model = Seq2Seq(13, 13, hidden=8, embedding=4, seed=0)
        >>> pairs = reversal(5, lengths=(1, 3), seed=0)
        >>> model.loss(pairs).shape
        ()
        >>> model.greedy(pairs.source, pairs.source_lengths, max_length=4).ids.shape
        (4, 5)
    """

    # The size of what the decoder reads beside the embedding of the id before it, as a multiple of H.
    _read_beside = 0

    def __init__(
        self,
        source_vocab_size: int,
        target_vocab_size: int,
        hidden: int = 128,
        embedding: int = 32,
        cell: str = "gru",
        layers: int = 1,
        *,
        bidirectional: bool = False,
        seed: Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        name = type(self).__name__
        integer(name, "source_vocab_size", source_vocab_size, 1)
        integer(name, "target_vocab_size", target_vocab_size, START + 1)
        integer(name, "hidden", hidden, 1)
        integer(name, "embedding", embedding, 1)
        integer(name, "layers", layers, 1)
        if bidirectional and hidden % 2:
            raise UserError(f"{name}: two directions share hidden={hidden} units; give an even number")
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise DtypeError(f"{name}: dtype must be float32 or float64, not {self.dtype}")
        self.hidden, self.cell, self.layers, self.bidirectional = hidden, cell, layers, bidirectional
        rng = as_generator(seed)

        def make_cell(input_size: int, size: int) -> Any:
            return nn.make_cell(cell, input_size, size, seed=rng, dtype=self.dtype)

        self.source_embedding = nn.Embedding(source_vocab_size, embedding, seed=rng, dtype=self.dtype)
        self.target_embedding = nn.Embedding(target_vocab_size, embedding, seed=rng, dtype=self.dtype)
        share = hidden // 2 if bidirectional else hidden
        self.encoder = nn.Recurrent(
            lambda D: make_cell(D, share), embedding, layers, bidirectional=bidirectional
        )
        first = embedding + self._read_beside * hidden
        self.decoder = [make_cell(hidden if k else first, hidden) for k in range(layers)]
        self.output = nn.Linear(hidden, target_vocab_size, seed=rng, dtype=self.dtype)

    # --- the network -------------------------------------------------------------------------------------
    def encode(self, source: npt.ArrayLike, lengths: npt.ArrayLike) -> Any:
        """Read the sources.

        Args:
            source: (T_in, B) integers; what stands in the padding does not matter.
            lengths: (B,) integers, at least 1.

        Returns:
            The state that the decoder starts from, a tree with the batch on axis 0 of every part.

        Raises:
            ShapeError: ids or lengths out of range or of another shape.
            DtypeError: ids or lengths that are no integers.
        """
        return self._read(source, lengths)[1]

    def step(self, ids: npt.NDArray[Any], state: Any) -> tuple[Tensor, Any]:
        """One step of the decoder.

        Args:
            ids: (B,) integers, what each sequence was last fed.
            state: what `encode` or the step before returned.

        Returns:
            The features that `output` turns into the scores of the next id, (B, H), and the state.
        """
        return self._decode(self.target_embedding(ids), state)

    def _read(self, source: npt.ArrayLike, lengths: npt.ArrayLike) -> tuple[Tensor, tuple[Any, ...]]:
        """The encoder's outputs (T_in, B, H), and its last state as the decoder has it, layer by layer."""
        V = self.source_embedding.weight.shape[0]
        source, lengths = _checked(f"{type(self).__name__}: source", source, lengths, V)
        with scope("encoder"):
            outputs, states = self.encoder(self.source_embedding(source), lengths=lengths)
        if self.bidirectional:
            both = zip(states[::2], states[1::2], strict=True)
            states = tuple(tree.map(lambda *ends: concatenate(ends, axis=-1), *pair) for pair in both)
        return outputs, states

    def _decode(self, x: Any, states: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """All layers of the decoder, one step: what the last gives, (B, H), and their states."""
        after = []
        for cell, state in zip(self.decoder, states, strict=True):
            x, state = cell(x, state)
            after.append(state)
        return x, tuple(after)

    # --- training ----------------------------------------------------------------------------------------
    def forward(
        self, pairs: Pairs, teacher_forcing: float = 1.0, seed: Seed = None
    ) -> tuple[Tensor, nn.Unrolled]:
        """The scores of every id of the targets, given those before it.

        Args:
            pairs: sources and targets.
            teacher_forcing: the probability with which the decoder reads, at each place of each target, the
                id that should stand before it; otherwise it reads the one that it would have written there.
            seed: an int or a Generator for these draws; by default tensorgrad's own.

        Returns:
            The logits, (T_out, B, V), and the decoder's run, with every labelled tensor of every step.

        Raises:
            ShapeError, DtypeError: as `encode`, for sources and targets.
            UserError: a teacher-forcing ratio outside 0 to 1.

        Source:
            Bengio et al., "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks" (2015).
        """
        if not 0 <= teacher_forcing <= 1:
            raise UserError(f"teacher_forcing is a probability, from 0 to 1, not {teacher_forcing}")
        target, _ = self._targets(pairs)
        fed = np.concatenate([np.full((1, target.shape[1]), START), target[:-1]])
        if teacher_forcing < 1:
            fed[1:][as_generator(seed).random(fed[1:].shape) >= teacher_forcing] = _OWN

        def cell(x: Tensor, state: tuple[Any, Any]) -> tuple[Tensor, tuple[Any, Any]]:
            inner, features = state
            # While compiling values are not known; nor are they needed where every id is given.
            ids: Any = x if teacher_forcing == 1 and context().tracer is not None else x.numpy()
            if teacher_forcing < 1 and (ids == _OWN).any():
                ids = np.where(ids == _OWN, self._likeliest(features), ids)
            features, inner = self.step(ids, inner)
            return features, (inner, features)

        nothing = np.zeros((target.shape[1], self.hidden), self.dtype)
        state = self.encode(pairs.source, pairs.source_lengths), nothing
        with scope("decoder"):
            roll = nn.unroll(cell, fed, state)
        return label(self.output(roll.outputs), "y"), roll

    def loss(self, pairs: Pairs, teacher_forcing: float = 1.0, seed: Seed = None) -> Tensor:
        """The mean cross-entropy of the targets, in nats per id, `END` included and padding not.

        The arguments, and what is raised, are those of `forward`.
        """
        target, alive = self._targets(pairs)
        logits, _ = self(pairs, teacher_forcing, seed)
        return label(F.cross_entropy(logits, target, mask=alive), "loss")

    def _targets(self, pairs: Pairs) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """The targets with their padding cleared, and where it is not, both (T_out, B)."""
        name, V = f"{type(self).__name__}: target", self.target_embedding.weight.shape[0]
        target, lengths = _checked(name, pairs.target, pairs.target_lengths, V)
        sequences = np.shape(pairs.source)[-1]
        if target.shape[1] != sequences:
            raise ShapeError(f"{name} has {target.shape[1]} sequences, but the source {sequences}")
        return target, np.arange(target.shape[0])[:, None] < lengths

    def _likeliest(self, features: Any) -> Ids:
        """The id with the highest score for each row of features, (B, H) to (B,)."""
        with no_grad():
            return np.asarray(self.output(features).numpy().argmax(axis=-1))

    # --- decoding ----------------------------------------------------------------------------------------
    def greedy(self, source: npt.ArrayLike, lengths: npt.ArrayLike, max_length: int) -> Written:
        """Write, at each step, the id with the highest score; records no graph.

        Args:
            source, lengths: as for `encode`.
            max_length: how many ids to write at most, at least 1.

        Raises:
            ShapeError, DtypeError: as `encode`.
            UserError: a length under 1.
        """
        integer(type(self).__name__, "max_length", max_length, 1)
        written: list[Ids] = []
        with no_grad():
            state = self.encode(source, lengths)
            ids = np.full(np.shape(source)[1], START)
            alive = np.ones(len(ids), bool)
            out_lengths = np.zeros(len(ids), np.intp)
            while alive.any() and len(written) < max_length:
                features, state = self.step(ids, state)
                ids = np.where(alive, self._likeliest(features), PAD)
                written.append(ids)
                out_lengths += alive
                alive &= ids != END
        return Written(np.array(written), out_lengths)

    def beam(
        self,
        source: npt.ArrayLike,
        lengths: npt.ArrayLike,
        width: int,
        max_length: int,
        length_penalty: float = 0.0,
    ) -> list[list[Hypothesis]]:
        """Search for likely targets, keeping the `width` best beginnings of each; records no graph.

        Args:
            source, lengths: as for `encode`.
            width, max_length, length_penalty: see `models.decoding.beam_search`.

        Returns:
            For each source its hypotheses, the best first.

        Raises:
            ShapeError, DtypeError: as `encode`.
            UserError: a width, length or penalty out of range.

        Example:
            >>> model = Seq2Seq(13, 13, hidden=8, seed=0)
            >>> best, *others = model.beam([[3], [4]], [2], width=3, max_length=4)[0]
            >>> best.log_probability >= others[0].log_probability
            True
        """

        def step(ids: Ids, state: Any) -> tuple[Any, Any]:
            features, state = self.step(ids, state)
            return self.output(features), state

        with no_grad():
            state = self.encode(source, lengths)
        start = np.full(np.shape(source)[1], START)
        return beam_search(
            step, state, start, width=width, length=max_length, end=END, length_penalty=length_penalty
        )

    def exact_match(self, pairs: Pairs) -> float:
        """The share of sources whose target greedy decoding writes without a mistake, `END` included.

        Raises:
            ShapeError, DtypeError: as `forward`.
        """
        target, _ = self._targets(pairs)
        ids, _ = self.greedy(pairs.source, pairs.source_lengths, len(target))
        ids = np.pad(ids, [(0, len(target) - len(ids)), (0, 0)], constant_values=PAD)
        return float((ids == target).all(axis=0).mean())

    # --- files -------------------------------------------------------------------------------------------
    def config(self) -> dict[str, Any]:
        return {
            "source_vocab_size": self.source_embedding.weight.shape[0],
            "target_vocab_size": self.target_embedding.weight.shape[0],
            "hidden": self.hidden,
            "embedding": self.source_embedding.weight.shape[1],
            "cell": self.cell,
            "layers": self.layers,
            "bidirectional": self.bidirectional,
            "dtype": self.dtype.name,
        }

    @classmethod
    def check_config(cls, arguments: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
        claims = {
            "source_embedding.weight": ("source_vocab_size", "embedding"),
            "output.weight": ("target_vocab_size", "hidden"),
        }
        for name, sizes in claims.items():
            claimed, found = tuple(arguments.get(size) for size in sizes), np.shape(weights.get(name, ()))
            if claimed != found:
                raise CheckpointError(
                    f"{' and '.join(sizes)} are said to be {claimed}, but {name} is {found}"
                )
        layers = arguments.get("layers")
        if type(layers) is not int or layers > len(weights):
            raise CheckpointError(f"it describes {layers!r} layers in {len(weights)} tensors")

    def extra_repr(self) -> str:
        return f"{self.cell}, {self.layers} layers{', bidirectional' if self.bidirectional else ''}"


def _checked(what: str, ids: Any, lengths: Any, V: int) -> tuple[Ids, Ids]:
    """The ids (T, B) with `PAD` in their padding, and the lengths (B,)."""
    traced = context().tracer is not None and isinstance(ids, Tensor)
    if not traced:
        ids, lengths = np.asarray(ids), np.asarray(lengths)
    for name, array in (("", ids), ("_lengths", lengths)):
        if array.dtype.kind not in "iu":
            raise DtypeError(f"{what}{name} must be integers, not {array.dtype}")
    if ids.ndim != 2 or not ids.size:
        raise ShapeError(f"{what} must be (T, B), with at least one timestep and sequence, not {ids.shape}")
    T, B = ids.shape
    if lengths.shape != (B,):
        raise ShapeError(f"{what}_lengths must be ({B},), one for each sequence, not {lengths.shape}")
    if traced:
        # The values are checked when the compiled program runs, by the embedding and the encoder.
        return where(np.arange(T)[:, None] < lengths, ids, PAD), lengths
    wrong = (lengths < 1) | (lengths > T)
    if wrong.any():
        b = int(wrong.argmax())
        raise ShapeError(f"{what}_lengths must lie in 1..{T}, but that of sequence {b} is {lengths[b]}")
    ids = np.where(np.arange(T)[:, None] < lengths, ids, PAD)
    wrong = (ids < 0) | (ids >= V)
    if wrong.any():
        t, b = (int(i) for i in np.argwhere(wrong)[0])
        raise ShapeError(f"{what} holds the id {ids[t, b]} at step {t} of sequence {b}; known are 0..{V - 1}")
    return ids, lengths
