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
from tfslim.pruning.criteria.base import ARRAYS as ARRAYS
from tfslim.pruning.criteria.base import CRITERIA as CRITERIA
from tfslim.pruning.criteria.base import DATA_ARRAYS as DATA_ARRAYS
from tfslim.pruning.criteria.base import Criterion as Criterion
from tfslim.pruning.criteria.base import Scores as Scores
from tfslim.pruning.criteria.base import needed_arrays as needed_arrays
from tfslim.pruning.criteria.base import resolve as resolve
from tfslim.pruning.criteria.base import score as score
from tfslim.pruning.criteria.normalizations import NORMALIZATIONS as NORMALIZATIONS
from tfslim.pruning.criteria.normalizations import Normalization as Normalization
from tfslim.pruning.criteria.reductions import REDUCTIONS as REDUCTIONS
from tfslim.pruning.criteria.reductions import Reduction as Reduction
