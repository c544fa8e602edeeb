"""A character-level language model: recurrent layers from characters to a softmax over the next.

    x_t = onehot(c_t), or an embedding of c_t
    h_t, state_t = cell(x_t, state_(t-1))            in each layer, its x_t being the layer's below h_t
    y_t = W_hy h_t + b_y
    p(c_(t+1) | c_1 .. c_t) = softmax(y_t)

Sources: Sutskever, Martens, Hinton, "Generating Text with Recurrent Neural Networks" (2011); Karpathy, "The
Unreasonable Effectiveness of Recurrent Neural Networks" (2015).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tensorgrad import functional as F
from tensorgrad import nn, tree
from tensorgrad.data import Vocabulary
from tensorgrad.errors import CheckpointError, UserError
from tensorgrad.models.language import LanguageModel, Run, whole
from tensorgrad.random import Seed
from tensorgrad.recording import label
from tensorgrad.tensor import Tensor

__all__ = ["CharLM"]


class CharLM(LanguageModel):
    """Predicts the next character with recurrent layers of any cell.

    The weights start as the cells and `nn.Linear` draw them: for the usual cells uniform within 1 / sqrt(H),
    as in PyTorch.

    Args:
        vocabulary: the V characters it knows.
        cell: a name in `nn.CELLS`, such as "rnn", "lstm" or "gru".
        hidden: H, the size of each layer's recurrent state.
        layers: how many layers stand on one another.
        embedding: size of a learned vector for each character; None for one-hot inputs.
        tied: the embedding is also the output layer's weight; its size must then be H, and is if not given.
        dropout: probability of zeroing, in training, each input of a layer above the first and of the output
            layer.
        cell_options: further arguments of the cell, such as {"forget_bias": 1.0} for an LSTM.
        seed: an int or a Generator for the initial weights and dropout.
        dtype: float32 or float64.

    Attributes:
        rnn: the `nn.Recurrent` layers.
        output: `nn.Linear(H, V)`.
        embedding: `nn.Embedding(V, size)`, or None.

    Raises:
        UserError: an unknown cell or option of it, a number out of its range, another dtype, an embedding
            that cannot be tied.
        ValueError: an option of the cell has a value that the cell does not know.

    Example:
        >>> model = CharLM(Vocabulary("hello"), hidden=8, seed=0)
        >>> model.loss(np.array([[0], [1]]), np.array([[1], [2]])).loss.shape
        ()
        >>> "".join(model.sample("hell", length=5, seed=0))
        'lheeo'
        >>> options = {"forget_bias": 1.0}
        >>> deep = CharLM(Vocabulary("hello"), "lstm", 8, layers=2, tied=True, cell_options=options)
        >>> deep.output.weight is deep.embedding.weight
        True
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        cell: str = "rnn",
        hidden: int = 128,
        *,
        layers: int = 1,
        embedding: int | None = None,
        tied: bool = False,
        dropout: float = 0.0,
        cell_options: Mapping[str, Any] | None = None,
        seed: Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(vocabulary, seed, dtype)
        hidden = whole("number of hidden units", hidden)
        layers = whole("number of layers", layers)
        if embedding is not None:
            embedding = whole("size of the embedding", embedding)
        if not 0 <= dropout <= 1:
            raise UserError(f"the dropout is a probability, 0 to 1, not {dropout}")
        if tied and embedding not in (None, hidden):
            raise UserError(
                f"a tied embedding is the output layer's weight too, so its size must be {hidden}, the "
                f"number of hidden units, not {embedding}"
            )
        self.cell, self.hidden, self.layers, self.tied = cell, hidden, layers, tied
        self.cell_options = dict(cell_options or {})
        for option in ("name", "input_size", "hidden_size", "seed", "dtype"):
            if option in self.cell_options:
                raise UserError(f"{option!r} is an argument of the model, not an option of the cell")
        size = hidden if tied else embedding
        V, rng = len(vocabulary), self.rng
        self.embedding = nn.Embedding(V, size, seed=rng, dtype=self.dtype) if size else None

        def make_cell(D: int) -> Any:
            try:
                return nn.make_cell(cell, D, hidden, seed=rng, dtype=self.dtype, **self.cell_options)
            except TypeError as error:
                given = ", ".join(f"{name}={value!r}" for name, value in self.cell_options.items())
                raise UserError(f"the cell {cell!r} cannot be made with {given}: {error}") from error

        self.rnn = nn.Recurrent(make_cell, size or V, layers, dropout=dropout, seed=rng)
        self.output = nn.Linear(hidden, V, seed=rng, dtype=self.dtype)
        if self.embedding is not None and tied:
            # An embedding starts with a spread of 1, far too much for the output layer's weight.
            self.embedding.weight.data = self.output.weight.numpy()
            self.output.weight = self.embedding.weight

    def config(self) -> dict[str, Any]:
        return {
            **super().config(),
            "cell": self.cell,
            "hidden": self.hidden,
            "layers": self.layers,
            "embedding": None if self.embedding is None else self.embedding.weight.shape[1],
            "tied": self.tied,
            "dropout": self.rnn.dropout,
            "cell_options": self.cell_options,
        }

    @classmethod
    def check_config(cls, arguments: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
        V, shape = len(arguments["vocabulary"]), np.shape(weights.get("output.weight", ()))
        hidden, layers, embedding = (arguments.get(key) for key in ("hidden", "layers", "embedding"))
        if type(hidden) is not int or shape != (V, hidden):
            raise CheckpointError(
                f"it describes {V} characters and {hidden!r} hidden units, but its output layer has "
                f"shape {shape}"
            )
        if type(layers) is not int or layers > len(weights):
            raise CheckpointError(f"it describes {layers!r} layers, but has only {len(weights)} weights")
        if embedding is not None and np.shape(weights.get("embedding.weight", ())) != (V, embedding):
            raise CheckpointError(f"it describes an embedding of size {embedding!r} that is not in it")

    def summary(self) -> str:
        """The cell and the sizes in a few words.

        Example:
            >>> CharLM(Vocabulary("ab"), "gru", hidden=3, layers=2).summary()
            'gru, 2 layers of 3 hidden units'
        """
        layers = f"{self.layers} layers of " if self.layers > 1 else ""
        return f"{self.cell}, {layers}{self.hidden:,} hidden units"

    def remedy(self) -> str:
        # Measured: up to a tenth of the identity forgets soon enough.
        if self.cell != "irnn" or self.cell_options.get("scale", 1.0) <= 0.1:
            return ""
        return (
            "an irnn adds up all that it reads, and a lower learning rate only puts this off; start anew "
            "with the cell option scale=0.01, so that it forgets"
        )

    def extra_repr(self) -> str:
        return f"{len(self.vocabulary)} characters"

    def initial_state(self, batch: int) -> Any:
        """The state before any text: for each layer what its cell starts from, zeros (B, H) for most.

        Args:
            batch: B.

        Example:
            >>> CharLM(Vocabulary("ab"), hidden=3).initial_state(2)[0].shape
            (2, 3)
        """
        return tree.map(Tensor, self.rnn.initial_state(np.zeros((batch, self.rnn.input_size), self.dtype)))

    def forward(self, ids: npt.ArrayLike, state: Any = None) -> Run:
        """The scores of every next character.

        Args:
            ids: (T, B) integers.
            state: what an earlier run left behind; None for the start of a text.

        Returns:
            The logits, (T, B, V), the state of each layer, and the run over time.

        Raises:
            ShapeError: an id that is no character, a state of another size.
        """
        if self.embedding is None:
            xs: Any = F.one_hot(ids, len(self.vocabulary), self.dtype)
        else:
            xs = self.embedding(ids)
        roll = self.rnn.unroll(xs, state)
        outputs = F.dropout(roll.outputs, self.rnn.dropout, self.training, self.rng)
        return Run(label(self.output(outputs), "y"), roll.state, roll)
