"""What can be chosen when a file is quantized: one set of defaults for every caller."""

from __future__ import annotations

import dataclasses

from tfslim import errors, registry, settings, targets
from tfslim.quantization.ranges.calibration import method_names
from tfslim.quantization.repair.bias import MODES
from tfslim.quantization.repair.rounding import ROUNDINGS

# "float" takes and gives float32 as the float model does; the others take and give
# integers by the scale and zero point that the file states for its inputs and outputs.
IO = ("float", "int8", "uint8")
# "xnnpack" leaves to the target what stays float; "none" quantizes all that can be.
POLICIES = ("xnnpack", "none")
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
        target: where the file is to run: a name of `targets.names()`, or the path of
            a .json of your own.
        io: what static recipes make of inputs and outputs, one of `IO`; None: as the
            target has it. "float" costs a few percent of time and none of an app's
            code.
        layers: Keras layer name, or pattern such as "block_1*" -> "float32", or the
            recipe that this layer takes instead.
        keep_float: "xnnpack" leaves those ops float that the target runs better so;
            "none" quantizes all that can be.
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
                raise registry.unknown_name(kind, name, known=known)
        targets.get(self.target)

    def for_target(self, scheme: str, recipe_name: str) -> Options:
        """Returns them with what the target leaves open filled in.

        Args:
            scheme: of the file's recipe.
            recipe_name: what to call it.

        Raises:
            ConfigError: the target does not go with the recipe, the inputs and outputs
                or the layers.
        """
        target = targets.get(self.target)
        target.require_scheme(scheme, recipe_name)
        is_static = scheme == "static_int8"
        io = target.end(self.io) if is_static else self.io or "float"
        if self.layers and is_static and not target.allows_float:
            raise errors.ConfigError(
                f"The target '{target.name}' has no float: no layer can take a recipe "
                f"of its own, and '{next(iter(self.layers))}' is to."
            )
        return dataclasses.replace(self, io=io)

    @property
    def placed(self) -> targets.Target:
        """Where the file is to run, without what `keep_float` overrules."""
        target = targets.get(self.target)
        return target.quantizing_all() if self.keep_float == "none" else target
