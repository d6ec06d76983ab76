"""What can be chosen when a file is quantized: one set of defaults for every caller."""

from __future__ import annotations

import dataclasses

from tfslim import registry, settings
from tfslim.quantization.ranges.calibration import method_names
from tfslim.quantization.repair.bias import MODES
from tfslim.quantization.repair.rounding import ROUNDINGS
from tfslim.quantization.rules.kept_float import POLICIES

# "float" takes and gives float32 as the float model does; the others take and give
# integers by the scale and zero point that the file states for its inputs and outputs.
IO = ("float", "int8", "uint8")
CORRECTIONS = ("none", *MODES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(settings.Quantizing):
    """How files are quantized.

    Attributes:
        calibration: how ranges are chosen: a name of `method_names()`. 16-bit
            activations, which have levels to spare, take "minmax" in any case.
        equalize: whether to balance channels first, where it helps.
        rounding: of weights, one of `ROUNDINGS`; kept where it helps.
        bias_correction: one of `CORRECTIONS`; kept where it helps.
        io: what static recipes make of inputs and outputs, one of `IO`. "float" costs
            a few percent of time and none of an app's code.
        layers: Keras layer name, or pattern such as "block_1*" -> "float32", or the
            recipe that this layer takes instead.
        keep_float: "xnnpack" leaves those ops float that XNNPACK runs faster so;
            "none" quantizes all that can be, for chips without float.
    """

    keep_float: str = "xnnpack"

    def __post_init__(self) -> None:
        """Checks the names.

        Raises:
            ConfigError: there is no such name.
        """
        super().__post_init__()
        for kind, name, known in (
            ("calibration", self.calibration, method_names()),
            ("rounding", self.rounding, ROUNDINGS),
            ("bias correction", self.bias_correction, CORRECTIONS),
            ("policy", self.keep_float, POLICIES),
        ):
            if name not in known:
                raise registry.unknown_name(kind, name, known)
