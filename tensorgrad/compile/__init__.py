"""Compiling: a function of Tensors to a page of plain NumPy, its gradients included.

In the order in which a function passes through them: `trace` and `staging` write down what it does, `lower`
and `rules` make equations of that, `generalise` puts symbols in the places of T and B, the `passes` improve
the program, `emit` prints it, and `api` keeps it for the next call.
"""

from tensorgrad.compile.api import Compiled, compile

__all__ = ["Compiled", "compile"]
