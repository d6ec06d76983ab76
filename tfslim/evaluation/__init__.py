"""Does a model still do what it did? Anything callable over data, and its verdict."""

from tfslim.evaluation.chance import (
    Doubt,
    chance_level,
    is_chance,
    preprocessing_doubt,
    useless_level,
)
from tfslim.evaluation.collapse import one_answer, require_healthy, symptom_of
from tfslim.evaluation.columns import MOST_DB, UNLIKE, ColumnErrors, Columns
from tfslim.evaluation.evaluator import Batches, Evaluator, Predict, metric_of
from tfslim.evaluation.file_test import FileTest
from tfslim.evaluation.goal import Goal, goal_of
from tfslim.evaluation.parity import (
    MAX_RELATIVE_ERROR,
    Parity,
    compare,
    noise_floor,
    require_parity,
)
from tfslim.evaluation.places import is_picture
from tfslim.evaluation.predict import Predictor

__all__ = [
    "MAX_RELATIVE_ERROR",
    "MOST_DB",
    "UNLIKE",
    "Batches",
    "ColumnErrors",
    "Columns",
    "Doubt",
    "Evaluator",
    "FileTest",
    "Goal",
    "Parity",
    "Predict",
    "Predictor",
    "chance_level",
    "compare",
    "goal_of",
    "is_chance",
    "is_picture",
    "metric_of",
    "noise_floor",
    "one_answer",
    "preprocessing_doubt",
    "require_healthy",
    "require_parity",
    "symptom_of",
    "useless_level",
]
