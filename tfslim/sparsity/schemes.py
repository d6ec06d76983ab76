"""What TF-MOT quantizes in which layer, with zeros or clusters kept on the way.

TF-MOT's registries stop at a layer that they do not know, and those that keep zeros
or clusters know Dense and Conv2D alone. Here an unknown layer computes in float, and
what it gives is quantized.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from typing import Any

import tf_keras
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_configs as configs,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_layout_transform as layout,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_registry as registry,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_scheme as scheme,
)

from tfslim.sparsity import quantizers

# What these give has the scale of what they read in a `.tflite`; TF-MOT gives them
# one of their own, and the converter refuses two of them in a row.
_SAME_SCALE = (
    tf_keras.layers.AveragePooling1D,
    tf_keras.layers.AveragePooling2D,
    tf_keras.layers.AveragePooling3D,
    tf_keras.layers.UpSampling2D,
)
# What a trained kernel has that quantization is to keep.
KEEP = ("nothing", "zeros", "clusters", "both")


class OutputConfig(configs.Default8BitOutputQuantizeConfig):
    """Quantizes what a layer gives."""

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        """Returns the quantizer of the result."""
        return [quantizers.RunningRange()] if self.quantize_output else []


class Scheme(scheme.Default8BitQuantizeScheme):
    """TF-MOT's 8-bit scheme with our registry."""

    def __init__(self, keep: str, unwrapped: Collection[str] = ()):
        """Takes one of `KEEP`, and the names of layers that cannot be wrapped."""
        self._keep = keep
        self._unwrapped = unwrapped

    def get_layout_transformer(self) -> Any:
        """Returns what puts layers together that the converter will fuse."""
        return _Layout(self._keep)

    def get_quantize_registry(self) -> Any:
        """Returns what says how a layer is quantized."""
        return _Registry(self._keep, self._unwrapped)


class _Registry(registry.Default8BitQuantizeRegistry):
    def __init__(self, keep: str, unwrapped: Collection[str]):
        super().__init__()
        self._keep = keep
        self._unwrapped = unwrapped

    def supports(self, layer: Any) -> bool:
        return layer.name not in self._unwrapped

    def get_quantize_config(self, layer: Any) -> Any:
        if isinstance(layer, tf_keras.layers.Activation):
            known = layer.activation.__name__ in (
                "linear",
                "sigmoid",
                "softmax",
                "tanh",
            )
            return configs.NoOpQuantizeConfig() if known else OutputConfig()
        if isinstance(layer, _SAME_SCALE):
            return configs.NoOpQuantizeConfig()
        if super()._is_supported_layer(layer.__class__):
            return _adapted(super().get_quantize_config(layer), self._keep)
        return OutputConfig()


class _Layout(layout.Default8BitQuantizeLayoutTransform):
    """Gives the configs that the transformations chose our quantizers, too."""

    def __init__(self, keep: str):
        self._keep = keep

    def apply(self, model: Any, layer_quantize_map: Any) -> tuple[Any, Any]:
        model, chosen = super().apply(model, layer_quantize_map)
        for metadata in chosen.values():
            if metadata.get("quantize_config") is not None:
                config = _adapted(metadata["quantize_config"], self._keep)
                metadata["quantize_config"] = config
        return model, chosen


def _adapted(config: Any, keep: str) -> Any:
    """Returns a config of TF-MOT's with our quantizers in it."""
    if type(config) is configs.Default8BitOutputQuantizeConfig:
        return OutputConfig(config.quantize_output)
    if not isinstance(config, registry.Default8BitQuantizeConfig):
        return config
    # Configs are shared between layers; the quantizers that keep something are not.
    config = copy.copy(config)
    config.activation_quantizer = quantizers.RunningRange()
    if config.weight_attrs == ["kernel"] and keep != "nothing":
        config.weight_quantizer = _KEEPING[type(config)][keep]()
    return config


_KEEPING: dict[type, dict[str, Callable[[], Any]]] = {
    registry.Default8BitQuantizeConfig: {
        "zeros": quantizers.DenseZeros,
        "clusters": lambda: quantizers.DenseClusters(False),
        "both": lambda: quantizers.DenseClusters(True),
    },
    registry.Default8BitConvQuantizeConfig: {
        "zeros": quantizers.ConvZeros,
        "clusters": lambda: quantizers.ConvClusters(False),
        "both": lambda: quantizers.ConvClusters(True),
    },
    registry.Default8BitConvTransposeQuantizeConfig: {
        "zeros": quantizers.TransposedZeros,
        "clusters": lambda: quantizers.DenseClusters(False),
        "both": lambda: quantizers.DenseClusters(True),
    },
}
