"""Does the produced file still do what the model it came from does?"""

from tfslim.verify.chance import (
    Doubt,
    chance_level,
    is_chance,
    preprocessing_doubt,
    useless_level,
)
from tfslim.verify.collapse import one_answer, require_healthy, symptom_of
from tfslim.verify.columns import MOST_DB, UNLIKE, ColumnErrors, Columns
from tfslim.verify.parity import (
    MAX_RELATIVE_ERROR,
    Parity,
    compare,
    noise_floor,
    require_parity,
)
from tfslim.verify.places import is_picture
from tfslim.verify.predict import Predictor

__all__ = [
    "MAX_RELATIVE_ERROR",
    "MOST_DB",
    "UNLIKE",
    "ColumnErrors",
    "Columns",
    "Doubt",
    "Parity",
    "Predictor",
    "chance_level",
    "compare",
    "is_chance",
    "is_picture",
    "noise_floor",
    "one_answer",
    "preprocessing_doubt",
    "require_healthy",
    "require_parity",
    "symptom_of",
    "useless_level",
]
