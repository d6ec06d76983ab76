"""The command `python -m tfslim.quantize`."""

from tfslim.quantize.command import main

__all__ = ["main"]
