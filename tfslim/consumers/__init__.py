"""The same `.tflite` in the programs that will run it, each in a process of its own."""

from tfslim.consumers.base import (
    CONSUMERS,
    Consumer,
    ConsumerError,
    MissingConsumerError,
    Outcome,
)
from tfslim.consumers.running import available, matrix, run, verify
from tfslim.consumers.samples import Samples, made_up
from tfslim.consumers.verdict import Verdict

__all__ = [
    "CONSUMERS",
    "Consumer",
    "ConsumerError",
    "MissingConsumerError",
    "Outcome",
    "Samples",
    "Verdict",
    "available",
    "made_up",
    "matrix",
    "run",
    "verify",
]
