"""Models built on tensorgrad, and beside them the same models with the backward pass written by hand."""
