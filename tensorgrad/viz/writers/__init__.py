"""A picture as a file: SVG, DOT text and what Graphviz makes of it, or a page to walk through."""
