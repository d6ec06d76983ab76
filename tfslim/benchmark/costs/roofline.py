"""The roofline of a device, measured through XNNPACK itself.

What its best kernels reach, not what the data sheet says: multiply-accumulates in
float and in INT8, and bytes of weights out of the memory. Source: Williams, Waterman
and Patterson, "Roofline", 2009, https://doi.org/10.1145/1498765.1498785.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from tfslim.benchmark.costs.measure import Meter
from tfslim.benchmark.costs.spec import OpSpec, dense
from tfslim.benchmark.costs.table import CostTable

OnStep = Callable[[str], None]

# Rows, inputs and outputs of products that fit into the caches.
_PRODUCTS = ((128, 256, 256), (256, 512, 512), (64, 1024, 1024))
# Weights of a product with one row, in bytes: more than a cache holds.
_LEAST_STREAM, _MOST_STREAM = 2**25, 2**28
# Weights that stay in a cache.
_CACHED = 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peaks:
    """What a device reaches at best, on the threads of its table.

    Attributes:
        float_macs_per_us: multiply-accumulates in float32 a microsecond.
        int8_macs_per_us: the same in INT8.
        bytes_per_us: of weights out of the memory.
        cache_bytes_per_us: of weights that stay in the caches.
    """

    float_macs_per_us: float
    int8_macs_per_us: float
    bytes_per_us: float
    cache_bytes_per_us: float


def measure_peaks(meter: Meter, on_step: OnStep = lambda text: None) -> Peaks:
    """Returns the roofline of a device, measured once and kept in its table."""
    table = meter.table
    names = [field.name for field in dataclasses.fields(Peaks)]
    if all(name in table.peaks for name in names):
        return Peaks(**{name: table.peaks[name] for name in names})
    on_step("measuring the roofline, once")
    products = {
        dtype: [
            (rows * inputs * outputs, dense(inputs, outputs, rows=rows, dtype=dtype))
            for rows, inputs, outputs in _PRODUCTS
        ]
        for dtype in ("float32", "int8")
    }
    stream = _stream(table.device.cache_bytes or 0)
    cached = dense(1024, _CACHED // 4 // 1024)
    every = [spec for rows in products.values() for _, spec in rows]
    meter.measure([*every, stream, cached])
    table.peaks = {
        "float_macs_per_us": _best(table, products["float32"]),
        "int8_macs_per_us": _best(table, products["int8"]),
        "bytes_per_us": _best(table, [(stream.inputs[1].num_bytes, stream)]),
        "cache_bytes_per_us": _best(table, [(cached.inputs[1].num_bytes, cached)]),
    }
    table.save()
    return Peaks(**table.peaks)


def _stream(cache_bytes: int) -> OpSpec:
    size = min(max(2 * cache_bytes, _LEAST_STREAM), _MOST_STREAM)
    return dense(2048, size // 4 // 2048)


def _best(table: CostTable, rows: list[tuple[int, OpSpec]]) -> float:
    speeds = []
    for work, spec in rows:
        cost = table.get(spec.key)
        if cost is not None and cost.us:
            speeds.append(work / cost.us)
    return max(speeds, default=float("nan"))
