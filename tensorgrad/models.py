"""The models, which in a checkout stand beside the package.

An installed package holds them in a folder of this name, which Python prefers to this file.
"""

from pathlib import Path

__path__ = [str(Path(__file__).parents[1] / "models")]
