"""What networks must learn, each task in a process of its own: figures of merit, not of speed.

A task is a class: made with its arguments, its ``run()`` returns a dict with ``reached``, the figure that is
held against the target, and whatever else is worth keeping.
"""
