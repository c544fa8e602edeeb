"""One module per peer, each imported in its own process only.

Every module defines ``prepare(problem) -> Step``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """Names of a peer: its module here, how tables call it, what it imports and what pip calls that."""

    name: str
    label: str
    requires: str
    distribution: str

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.requires) is not None


@dataclass(frozen=True)
class StepPeer(Peer):
    """A peer that does training steps.

    Attributes:
        cells: the networks it can do, as ``benchmarks.problem`` calls them.
        openblas: whether its matrix products are NumPy's.
    """

    cells: Sequence[str] = ("rnn",)
    openblas: bool = False


SHIPPED = ("rnn", "lstm", "gru")
NAIVE = ("layernorm_lstm",)
ALL = (*SHIPPED, *NAIVE)


PEERS = {
    peer.name: peer
    for peer in (
        StepPeer("handwritten", "hand-written NumPy", "numpy", "numpy", openblas=True),
        StepPeer("tensorgrad_eager", "tensorgrad, eager", "tensorgrad", "tensorgrad-rnn", ALL, openblas=True),
        StepPeer(
            "tensorgrad_compiled", "tensorgrad, compiled", "tensorgrad", "tensorgrad-rnn", ALL, openblas=True
        ),
        StepPeer(
            "tensorgrad_fast", "tensorgrad, compiled kernels", "numba", "tensorgrad-rnn", ALL, openblas=True
        ),
        StepPeer("torch_unrolled", "PyTorch, cell unrolled", "torch", "torch"),
        StepPeer("torch_naive", "PyTorch, Python loop", "torch", "torch", NAIVE),
        StepPeer("torch_rnn", "PyTorch nn.RNN/LSTM/GRU", "torch", "torch", SHIPPED),
        StepPeer("jax_scan", "JAX, jit and scan", "jax", "jax", ALL),
        StepPeer("hips_autograd", "HIPS autograd", "autograd", "autograd"),
        StepPeer("mygrad_eager", "MyGrad", "mygrad", "mygrad"),
    )
}
