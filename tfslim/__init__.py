"""tfslim: any Keras model in, the smallest and fastest `.tflite` out, with proof.

Everything public is named here and imported on first use, so that `import tfslim`
does not import TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Modules that are used by their own name: `tfslim.callbacks.NetworkSlimming`.
_MODULES = frozenset({"callbacks", "optimizers"})
# Public name -> the place where it stands.
_PUBLIC: dict[str, str] = {
    "Budget": "tfslim.pruning.budget:Budget",
    "Scoring": "tfslim.pruning.scores:Scoring",
    "TfslimError": "tfslim.errors:TfslimError",
    "Training": "tfslim.training.training:Training",
    "activation_pruning": "tfslim.activation.activation_pruning:activation_pruning",
    "build_model": "tfslim.models.build:build_model",
    "convert_model": "tfslim.convert:convert_model",
    "count_activations": "tfslim.activation.counts:count_activations",
    "distill": "tfslim.distillation.distill:distill",
    "distillation_loss": "tfslim.distillation.losses:distillation_loss",
    "convert_quantized": "tfslim.convert:convert_quantized",
    "export_model": "tfslim.pipeline:export_model",
    "factorize_model": "tfslim.factorization.factorize_model:factorize_model",
    "fit": "tfslim.training:fit",
    "load_darknet": "tfslim.detection.darknet:load_darknet",
    "load_data": "tfslim.data:load",
    "load_model": "tfslim.loading:load_model",
    "merge_units": "tfslim.activation.merge:merge_units",
    "to_keras3": "tfslim.graph.keras:to_keras3",
    "to_tf_keras": "tfslim.graph.keras:to_tf_keras",
    "prune_channels": "tfslim.pruning.prune:prune_channels",
    "prune_iteratively": "tfslim.pruning.iterative:prune_iteratively",
    "recalibrate_batch_norm": "tfslim.pruning.recalibrate:recalibrate_batch_norm",
    "reconstruct_kernels": "tfslim.pruning.reconstruct:reconstruct_kernels",
    "slim_network": "tfslim.slimming.slim_network:slim_network",
    "save_darknet": "tfslim.detection.darknet:save_darknet",
    "scale_width": "tfslim.pruning.prune:scale_width",
    "start_workers": "tfslim.training:start_workers",
    "prox_sg": "tfslim.proximal.prox_sg:prox_sg",
    "ratios_from_sparsity": "tfslim.pruning.ratios:ratios_from_sparsity",
    "sparsify": "tfslim.sparsity.sparsify:sparsify",
    "quantize_tflite": "tfslim.quantization:quantize_tflite",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"tfslim.{name}")
    place = _PUBLIC.get(name)
    if place is None:
        raise AttributeError(f"module 'tfslim' has no attribute {name!r}")
    module, attribute = place.split(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES, *_PUBLIC])
