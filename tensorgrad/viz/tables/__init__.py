"""A graph and a model as tables, in a terminal and in a notebook."""
