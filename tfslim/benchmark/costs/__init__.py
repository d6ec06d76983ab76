"""The measured cost of single ops by device, and what follows for whole files."""

from tfslim.benchmark.costs.measure import (
    Meter,
    measure_android,
    measure_host,
    phone_device,
)
from tfslim.benchmark.costs.prediction import (
    OpPrediction,
    Prediction,
    border,
    is_fused,
    op_us,
    predict,
    specs_of,
    streaming_share,
)
from tfslim.benchmark.costs.single_file import build
from tfslim.benchmark.costs.spec import (
    OpSpec,
    Piece,
    TensorSpec,
    dense,
    is_unpacking,
    of_op,
)
from tfslim.benchmark.costs.table import (
    CostTable,
    Device,
    OpCost,
    read_file,
    this_device,
)

__all__ = [
    "CostTable",
    "Device",
    "Meter",
    "OpCost",
    "OpPrediction",
    "OpSpec",
    "Piece",
    "Prediction",
    "TensorSpec",
    "border",
    "build",
    "dense",
    "is_fused",
    "is_unpacking",
    "measure_android",
    "measure_host",
    "of_op",
    "op_us",
    "phone_device",
    "predict",
    "read_file",
    "specs_of",
    "streaming_share",
    "this_device",
]
