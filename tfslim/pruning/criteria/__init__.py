"""Importance criteria: one file each, all numpy, none that knows a model.

A group of channels is scored in three steps, each a table of its own:

1. a criterion scores each member of the group: `score(criterion, arrays,
   channel_axis=axis)` gives [channels];
2. `REDUCTIONS` makes one score out of the members': [members, channels] to [channels];
3. `NORMALIZATIONS` makes the groups of a model comparable: [channels] to [channels].
"""

from tfslim.pruning.criteria import activation as activation
from tfslim.pruning.criteria import bn_scale as bn_scale
from tfslim.pruning.criteria import fisher as fisher
from tfslim.pruning.criteria import geometric_median as geometric_median
from tfslim.pruning.criteria import hessian_diag as hessian_diag
from tfslim.pruning.criteria import l1_norm as l1_norm
from tfslim.pruning.criteria import l2_norm as l2_norm
from tfslim.pruning.criteria import random as random
from tfslim.pruning.criteria import taylor as taylor
from tfslim.pruning.criteria.base import (
    ARRAYS,
    CRITERIA,
    DATA_ARRAYS,
    Criterion,
    Scores,
    needed_arrays,
    resolve,
    score,
)
from tfslim.pruning.criteria.normalizations import NORMALIZATIONS, Normalization
from tfslim.pruning.criteria.reductions import REDUCTIONS, Reduction

__all__ = [
    "ARRAYS",
    "CRITERIA",
    "DATA_ARRAYS",
    "NORMALIZATIONS",
    "REDUCTIONS",
    "Criterion",
    "Normalization",
    "Reduction",
    "Scores",
    "needed_arrays",
    "resolve",
    "score",
]
