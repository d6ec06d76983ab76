"""One rule per op: how it carries channels. Importing this fills `base.RULES`."""

from tfslim.pruning.rules import attention as attention
from tfslim.pruning.rules import elementwise as elementwise
from tfslim.pruning.rules import linear as linear
from tfslim.pruning.rules import merge as merge
from tfslim.pruning.rules import normalization as normalization
from tfslim.pruning.rules import position as position
from tfslim.pruning.rules import recurrent as recurrent
from tfslim.pruning.rules import shape as shape
