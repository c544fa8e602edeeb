"""What draws graphs of PyTorch, given the network of ``benchmarks.peers.pictures`` written out there."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.peers import torch_weights

torch_weights.set_threads()


class Unrolled(nn.Module):  # type: ignore[misc]
    """The mean loss of a text of T characters; every operation is called by itself, none hides in a cell."""

    def __init__(self, H: int, V: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.output = nn.RNNCell(V, H), nn.Linear(H, V)

    def forward(self, xs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        cell = self.cell
        h = torch.zeros(1, cell.hidden_size)
        losses = []
        for x, target in zip(xs, targets, strict=True):
            a = F.linear(x, cell.weight_ih, cell.bias_ih) + F.linear(h, cell.weight_hh, cell.bias_hh)
            h = torch.tanh(a)
            losses.append(F.cross_entropy(self.output(h), target))
        return torch.stack(losses).mean()


def network(T: int, H: int, V: int) -> tuple[Unrolled, tuple[torch.Tensor, torch.Tensor]]:
    """The network and its input: a random text, one-hot (T, 1, V), and the next characters (T, 1)."""
    text = torch.randint(V, (T + 1, 1), generator=torch.Generator().manual_seed(0))
    return Unrolled(H, V), (F.one_hot(text[:-1], V).float(), text[1:])


def torchviz(T: int, H: int, V: int, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from torchviz import make_dot

        model, inputs = network(T, H, V)
        picture = make_dot(model(*inputs), params=dict(model.named_parameters()))
    picture.render(outfile=path, format="svg")


def torchview(T: int, H: int, V: int, path: Path) -> None:
    from torchview import draw_graph

    model, inputs = network(T, H, V)
    draw_graph(model, input_data=inputs).visual_graph.render(outfile=path, format="svg")


def torchlens(T: int, H: int, V: int, path: Path) -> None:
    _torchlens(T, H, V, path, "unrolled")


def torchlens_rolled(T: int, H: int, V: int, path: Path) -> None:
    _torchlens(T, H, V, path, "rolled")


def _torchlens(T: int, H: int, V: int, path: Path, view: str) -> None:
    import torchlens as tl

    model, inputs = network(T, H, V)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace = tl.trace(model, list(inputs))
        trace.draw(
            vis_mode=view, vis_outpath=str(path.with_suffix("")), vis_fileformat="svg", vis_save_only=True
        )
