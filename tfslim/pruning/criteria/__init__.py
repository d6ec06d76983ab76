"""One criterion per file. Importing this fills `base.CRITERIA`."""

from tfslim.pruning.criteria import base, l1_norm

__all__ = ["base", "l1_norm"]
