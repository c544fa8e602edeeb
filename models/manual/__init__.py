"""Forward and backward passes written by hand in NumPy alone.

Nothing in this package imports tensorgrad: these gradients are what the engine is checked against, and a
check against code that shares the engine's rules would agree with the engine's mistakes.
"""
