"""What a saved config would run or import, found before Keras sees it.

Keras's own safe mode does not cover the `.h5` and SavedModel formats, and tf_keras
imports any module that a `.keras` file names. So every config is walked here first:
code and foreign classes are refused unless the user vouches for the file.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tfslim import errors

# Classes that run code, or load further files, from inside a config.
_RUNS_CODE = {
    "Lambda": "holds Python bytecode, which runs when the file is opened",
    "__lambda__": "holds Python bytecode, which runs when the file is opened",
    "TFSMLayer": "loads a further SavedModel and runs its operations",
    "TorchModuleWrapper": "holds a pickle, which runs when the file is opened",
    "JaxLayer": "holds serialized code",
    "FlaxLayer": "holds serialized code",
    "TensorFlowOpLayer": "holds a raw operation, which can reach outside the model",
}
# Layers and models that configs name though they are not in `layers`.
_HIDDEN_LAYERS = {
    "BatchNormalizationV1",
    "BatchNormalizationV2",
    "ClassMethod",
    "CuDNNGRU",
    "CuDNNLSTM",
    "Functional",
    "GRUV1",
    "GRUV2",
    "InstanceMethod",
    "InstanceProperty",
    "LSTMV1",
    "LSTMV2",
    "Model",
    "Sequential",
    "SlicingOpLambda",
    "SyncBatchNormalization",
    "TFOpLambda",
    "TensorFlowOpLayer",
}
# Parts of Keras that a config may name things of; not keras.utils with its get_file.
_KERAS_FUNCTIONS = {
    "activations",
    "constraints",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "ops",
    "regularizers",
}
_KERAS_CLASSES = _KERAS_FUNCTIONS | {
    "",
    "dtype_policies",
    "engine",
    "mixed_precision",
    "models",
    "optimizers",
    "quantizers",
    "random",
}
# Parts of TensorFlow that neither touch files nor load libraries, "" being its top.
_TF_MODULES = {
    "",
    "__operators__",
    "bitwise",
    "image",
    "linalg",
    "math",
    "nn",
    "quantization",
    "ragged",
    "random",
    "signal",
    "sparse",
    "strings",
}
_TF_REFUSED = ("load_", "py_func", "numpy_function")
_TF_CLASSES = {"RaggedTensor", "SparseTensor", "sparse.SparseTensor", "TensorShape"}


def check(
    config: Any,
    *,
    source: str,
    keras: Any,
    custom_objects: Mapping[str, Any],
    allow_unsafe: bool,
) -> dict[str, Any]:
    """Refuses a config that would run code, and finds the classes that it needs.

    Args:
        config: a model's config as parsed JSON.
        source: where it comes from, for messages.
        keras: the module that will open it, `tf_keras` or `keras`.
        custom_objects: the user's own classes and functions by name.
        allow_unsafe: whether the user vouches for the file; then the classes that
            it names are imported from their modules.

    Returns:
        The custom objects to open it with.

    Raises:
        ConfigError: code in the config, or a class that is not Keras's.
    """
    found = dict(custom_objects)
    for index, (entry, is_layer) in enumerate(_objects(config, in_layers=True)):
        entry = _function_of_lambda(entry)
        registered = str(entry.get("registered_name") or "")
        known = found.get(_name(entry), found.get(registered))
        if known is None and registered:
            known = keras.saving.get_registered_object(registered)
        if known is not None:
            # Keras looks for the registered name, the user gives the plain one.
            found[registered or _name(entry)] = known
            continue
        if not allow_unsafe:
            _refuse_code(entry, source)
        if _is_foreign(entry, keras, is_layer=is_layer):
            if not allow_unsafe:
                raise _foreign(entry, source, is_model=index == 0)
            _import(entry, found)
        elif keras.__name__ == "tf_keras":
            _find_moved(entry, found)
    return found


def keras2_scope(allow_unsafe: bool) -> Any:
    """Returns a context in which tf_keras opens Lambda layers or refuses them.

    Its functions for `.h5` files and SavedModels have no option for that.
    """
    library = importlib.import_module("tf_keras.src.saving.serialization_lib")
    return library.SafeModeScope(safe_mode=not allow_unsafe)


def _objects(value: Any, *, in_layers: bool) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yields the serialized objects in a config, and whether each is a layer."""
    if isinstance(value, Mapping):
        if isinstance(value.get("class_name"), str):
            yield dict(value), in_layers
        for key, part in value.items():
            # A Sequential model of Keras 1 has its layers as a list for a config.
            layers = key in ("layers", "layer") or (
                key == "config" and isinstance(part, list)
            )
            yield from _objects(part, in_layers=layers)
    elif isinstance(value, list):
        for part in value:
            yield from _objects(part, in_layers=in_layers)


def _config(entry: dict[str, Any]) -> Mapping[str, Any]:
    inner = entry.get("config")
    return inner if isinstance(inner, Mapping) else {}


def _function_of_lambda(entry: dict[str, Any]) -> dict[str, Any]:
    """Returns a Lambda layer that only names its function as that function."""
    function = _config(entry).get("function")
    if entry["class_name"] != "Lambda" or function is None:
        return entry
    if isinstance(function, Mapping) and function.get("class_name") == "function":
        return dict(function)
    if _config(entry).get("function_type") != "function":
        return entry
    module = _config(entry).get("module")
    return {"class_name": "function", "config": function, "module": module}


def _name(entry: dict[str, Any]) -> str:
    is_function = entry["class_name"] == "function"
    return str(entry.get("config") if is_function else entry["class_name"])


def _refuse_code(entry: dict[str, Any], source: str) -> None:
    why = _code(entry["class_name"], _config(entry))
    if why is None:
        return
    kind, name = entry["class_name"], _config(entry).get("name")
    raise errors.ConfigError(
        f"'{source}': {f'layer {name!r} ({kind})' if name else f'a {kind}'} {why}. "
        "If you trust where the file comes from, open it with allow_unsafe=True "
        "(--allow_unsafe)."
    )


def _code(kind: str, config: Mapping[str, Any]) -> str | None:
    """Returns what an object would do that it must not, None if nothing."""
    if kind in ("TFOpLambda", "SlicingOpLambda"):
        symbol = str(config.get("function", "")).removeprefix("compat.v1.")
        module, _, function = symbol.rpartition(".")
        if module.split(".")[0] in _TF_MODULES and not function.startswith(_TF_REFUSED):
            return None
        return f"calls tf.{symbol}, which can reach outside the model"
    if kind == "ClassMethod" and config.get("cls_symbol") not in _TF_CLASSES:
        return f"calls a method of tf.{config.get('cls_symbol')}"
    if kind in ("InstanceProperty", "InstanceMethod"):
        attribute = str(config.get("attr_name", ""))
        return f"reads '{attribute}'" if attribute.startswith("_") else None
    return _RUNS_CODE.get(kind)


def _is_foreign(entry: dict[str, Any], keras: Any, *, is_layer: bool) -> bool:
    """Tells whether `entry` names a class or function that is not Keras's own."""
    kind, module = entry["class_name"], entry.get("module")
    is_function = kind == "function"
    if module == "builtins" and is_function:
        places = [getattr(keras, part, None) for part in _KERAS_FUNCTIONS]
        return not any(hasattr(place, _name(entry)) for place in places)
    if kind in _RUNS_CODE or module == "builtins":
        return False
    if not module:
        # Without a module Keras looks in its own tables: there, or nowhere.
        is_known = kind in _HIDDEN_LAYERS or hasattr(keras.layers, kind)
        return is_function or (is_layer and not is_known)
    package, *parts = [part for part in str(module).split(".") if part != "src"]
    allowed = _KERAS_FUNCTIONS if is_function else _KERAS_CLASSES
    return package not in ("keras", "tf_keras") or "".join(parts[:1]) not in allowed


def _foreign(
    entry: dict[str, Any], source: str, *, is_model: bool
) -> errors.ConfigError:
    name, module = _name(entry), entry.get("module")
    place = f" of module '{module}'" if module else ""
    if is_model:
        what = f"is a subclassed model, '{name}'{place}: its code is not in the file"
    else:
        what = f"needs '{name}'{place}, which is no part of Keras nor of the file"
    return errors.ConfigError(
        f"'{source}' {what}. Give a function that returns the model, "
        f"--model=my_module:my_function, or pass custom_objects={{'{name}': {name}}}. "
        "If you trust the file and its module can be imported here, "
        "allow_unsafe=True (--allow_unsafe) does that."
    )


def _find_moved(entry: dict[str, Any], found: dict[str, Any]) -> None:
    """Adds a class of Keras 2.12 or older, which had no `src` in its modules."""
    module, name = str(entry.get("module")), entry["class_name"]
    if not re.fullmatch(r"keras(\.\w+){2,}", module) or module.startswith("keras.src."):
        return
    with contextlib.suppress(ImportError, AttributeError):
        moved = importlib.import_module(f"tf_keras.src.{module.removeprefix('keras.')}")
        found[entry.get("registered_name") or name] = getattr(moved, name)


def _import(entry: dict[str, Any], found: dict[str, Any]) -> None:
    """Adds what `entry` names to `found`; without a module it is left to Keras."""
    module, name = entry.get("module"), _name(entry)
    if not module:
        return
    try:
        value = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise errors.ConfigError(
            f"The model needs '{name}' of module '{module}', which cannot be imported "
            f"here: {error}. Run where that module is, or pass custom_objects."
        ) from error
    found[name] = value
    found[entry.get("registered_name") or name] = value
