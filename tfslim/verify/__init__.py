"""Does the produced file still do what the model it came from does?"""

from tfslim.verify.parity import MAX_RELATIVE_ERROR, Parity, compare, require_parity
from tfslim.verify.predict import Predictor
from tfslim.verify.sick import require_healthy

__all__ = [
    "MAX_RELATIVE_ERROR",
    "Parity",
    "Predictor",
    "compare",
    "require_healthy",
    "require_parity",
]
