"""tensorgrad and its peers on the same work, in one run, as ratios: ``python -m benchmarks``.

In reading order: ``problem`` (the work), ``peers`` (one file each: the same training step in each library),
``session`` (what runs in a peer's own process), ``harness`` (the processes), ``report`` (tables, targets,
JSON), ``parts`` (what is measured) and ``__main__`` (the command line).
"""
