"""What draws the unrolled graph of a network: tensorgrad, and others beside it.

The network is a vanilla RNN with a loss at every timestep, from characters as one-hot vectors:

    h_t = tanh(W_xh x_t + b_xh + W_hh h_(t-1) + b_hh),    y_t = W_hy h_t + b_y,    h_(-1) = 0

    L_t = the softmax cross-entropy of y_t,    loss = mean of all L_t

Of each there is a function of its name, ``(T, H, V, path)``, that begins with the network and ends with the
SVG file at `path`.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.peers import Peer


@dataclass(frozen=True)
class Painter(Peer):
    """A peer, and the module here that has its function."""

    module: str


_MODULE = "benchmarks.peers.pictures_tensorgrad"
_OWN = ("tensorgrad", "tensorgrad-rnn", _MODULE)
_TORCH = "benchmarks.peers.pictures_torch"

PICTURES = {
    painter.name: painter
    for painter in (
        Painter("tensorgrad_svg", "tensorgrad, every timestep", *_OWN),
        Painter("tensorgrad_dot", "the same, by Graphviz", *_OWN),
        Painter("tensorgrad_short", "tensorgrad, as draw() has it", *_OWN),
        Painter("micrograd_style", "micrograd's style, by Graphviz", "graphviz", "graphviz", _MODULE),
        Painter("torchviz", "torchviz", "torchviz", "torchviz", _TORCH),
        Painter("torchview", "torchview", "torchview", "torchview", _TORCH),
        Painter("torchlens", "TorchLens", "torchlens", "torchlens", _TORCH),
        Painter("torchlens_rolled", "TorchLens, rolled", "torchlens", "torchlens", _TORCH),
    )
}
