"""What a saved config would run, import or read, found before Keras sees it.

Keras's own safe mode does not cover the `.h5` and SavedModel formats, tf_keras imports
any module that a `.keras` file names, and both call any function of TensorFlow by
name. So every config is walked here first, and what it names must stand in
`allowed`, or be the user's own. Keras gets the config that was checked, never the file.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfslim import errors, escape
from tfslim.loading import allowed, reasons, wiring

_LOGGER = logging.getLogger(__name__)
_shown = escape.terminal

# Wrappers of the model optimization toolkit: what takes them off.
_TFMOT = {
    "PruneLowMagnitude": "tfmot.sparsity.keras.strip_pruning(model)",
    "ClusterWeights": "tfmot.clustering.keras.strip_clustering(model)",
}
_TFMOT_QAT = {"QuantizeLayer", "QuantizeWrapper", "QuantizeWrapperV2"}
# What stands for itself, so that no object of the user's can be meant.
_NOT_NAMES = reasons.RUNS_CODE.keys() | reasons.DATA | reasons.CONSTANTS
_MAX_DEPTH = 100
# What an input of one sample may have: 256 MB of float32.
_MAX_INPUT = 2**26
_SHAPES = ("batch_input_shape", "batch_shape", "build_input_shape", "input_shape")
_MAX_RISKS = 5


def check(
    config: Any,
    *,
    source: str,
    keras: Any,
    custom_objects: Mapping[str, Any],
    allow_unsafe: bool,
    risks: Sequence[str] = (),
) -> Check:
    """Checks a model's config; says what it will run if the user vouches for it.

    Args:
        config: as parsed JSON; brought to one reading in place.
        source: where it comes from, for messages.
        keras: the module that will open it, `tf_keras` or `keras`.
        custom_objects: the user's own classes and functions by name.
        allow_unsafe: whether the user vouches for the file; then the classes that it
            names are imported from their modules.
        risks: what else such a file is opened with.

    Raises:
        ConfigError: code in it, a class that is not Keras's, the name of a file.
        DataError: it is no config.
    """
    done = Check(
        source, keras=keras, custom_objects=custom_objects, allow_unsafe=allow_unsafe
    )
    with errors.raised_as(  # A list for a name, a text for a number, ...
        errors.DataError,
        lambda cause: (
            f"'{source}' is damaged: its config cannot be read: {cause} {errors.AGAIN}"
        ),
    ):
        done.visit(config)
        wiring.check(config, source)
    if allow_unsafe:
        done.risks += risks
        done.warn()
    return done


class Check:
    """The check of one file's configs; collects what Keras needs to open it.

    Attributes:
        keras: the module that opens it, `tf_keras` or `keras`.
        objects: the custom objects to open it with.
        has_custom: whether the config names any of them.
        risks: what of the refused is in it, where the user vouches for the file.
    """

    def __init__(
        self,
        source: str,
        *,
        keras: Any,
        custom_objects: Mapping[str, Any],
        allow_unsafe: bool,
    ):
        """Starts a check, see `check`."""
        self.keras = keras
        self.objects = dict(custom_objects)
        self.has_custom = False
        self.risks: list[str] = []
        self._source = source
        self.keras = keras
        self._allow_unsafe = allow_unsafe
        self._is_first = True

    def visit(self, value: Any, depth: int = 0) -> None:
        """Checks a config as parsed JSON, which is brought to one reading in place.

        Raises:
            ConfigError: code in it, a class that is not Keras's, the name of a file.
            DataError: it is no config.
        """
        if depth > _MAX_DEPTH:
            raise errors.DataError(
                f"'{self._source}' nests more than {_MAX_DEPTH} levels deep: it is "
                "damaged. Save or copy it again."
            )
        if isinstance(value, dict):
            # The state of training is not opened.
            value.pop("compile_config", None)
            self._require_plausible(value)
            if "class_name" in value:
                self._object(value)
            for part in value.values():
                self.visit(part, depth + 1)
        elif isinstance(value, list):
            for part in value:
                self.visit(part, depth + 1)
        elif isinstance(value, str) and not value.isascii():
            self._require_text(value)

    def _require_text(self, value: str) -> None:
        """Refuses half of a character, which no file or terminal takes."""
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise errors.DataError(
                f"'{self._source}' holds the text '{_shown(value)}', which is no "
                "Unicode: it is damaged. Save or copy it again."
            ) from error

    def _require_plausible(self, value: Mapping[str, Any]) -> None:
        """Refuses inputs that would fill the memory: layers make arrays of them."""
        for key in _SHAPES:
            shape = value.get(key)
            sizes = shape if isinstance(shape, list) else []
            numbers = [s for s in sizes if isinstance(s, int | float) and s > 1]
            if math.prod(numbers) > _MAX_INPUT and not self._allow_unsafe:
                raise errors.DataError(
                    f"'{self._source}' declares an input of {_shown(shape)}, more than "
                    f"{_MAX_INPUT:,} numbers: it is damaged, or made to fill the "
                    "memory. If you trust where it comes from, open it with "
                    "allow_unsafe=True (--allow_unsafe)."
                )

    def warn(self) -> None:
        """Says what a file that the user vouches for is about to run or read."""
        if not self.risks:
            return
        risks = list(dict.fromkeys(self.risks))
        more = f" and {len(risks) - _MAX_RISKS} more" if len(risks) > _MAX_RISKS else ""
        _LOGGER.warning(
            "allow_unsafe: '%s' is opened with %s%s.",
            self._source,
            "; ".join(risks[:_MAX_RISKS]),
            more,
        )

    def _object(self, entry: dict[str, Any]) -> None:
        is_first, self._is_first = self._is_first, False
        if not isinstance(entry["class_name"], str):
            raise errors.DataError(
                f"'{self._source}' has {entry['class_name']!r:.80} for the name of a "
                "class: it is damaged. Save or copy it again."
            )
        named = _function_of_lambda(entry)
        if self._is_custom(named):
            return
        kind = named["class_name"]
        reason = reasons.find(named)
        if reason is not None:
            self._refuse(entry, reason)
            return
        if kind in reasons.DATA | reasons.CONSTANTS | {"TypeSpec"}:
            return
        self._check_activations(reasons.config(named))
        if not _is_keras(named, self.keras):
            if not self._allow_unsafe:
                raise _foreign(named, self._source, is_model=is_first)
            self._import(named)
        else:
            _settle(entry, self.keras)

    def _is_custom(self, entry: Mapping[str, Any]) -> bool:
        """Tells whether the user's own object is meant, and notes it if so."""
        name, registered = _name(entry), entry.get("registered_name")
        if entry["class_name"] in _NOT_NAMES:
            return False
        known = self.objects.get(name)
        if known is None and isinstance(registered, str):
            known = self.objects.get(registered)
            if known is None:
                known = self.keras.saving.get_registered_object(registered)
        if known is None or (name not in self.objects and _is_known(entry)):
            return False
        # Keras looks for the registered name, the user gives the plain one.
        self.objects[name] = known
        if isinstance(registered, str):
            self.objects[registered] = known
        self.has_custom = True
        return True

    def _refuse(self, entry: Mapping[str, Any], reason: str) -> None:
        kind, name = entry["class_name"], reasons.config(entry).get("name")
        what = (
            f"layer {name!r:.80} ({kind:.80})" if isinstance(name, str) else f"a {kind}"
        )
        if self._allow_unsafe:
            self.risks.append(f"{what}, which {reason}")
            return
        raise errors.ConfigError(
            f"'{self._source}': {what} {reason}. If you trust where the file comes "
            "from, open it with allow_unsafe=True (--allow_unsafe)."
        )

    def _check_activations(self, config: Mapping[str, Any]) -> None:
        for key, value in config.items():
            if (
                isinstance(value, str)
                and str(key).endswith("activation")
                and value not in allowed.ACTIVATIONS
                and not self._is_custom({"class_name": value, "registered_name": value})
                and not self._allow_unsafe
            ):
                entry = {"class_name": "function", "config": value}
                raise _foreign(entry, self._source, is_model=False)

    def _import(self, entry: Mapping[str, Any]) -> None:
        """Adds what `entry` names to the objects; without a module Keras looks."""
        module, name = entry.get("module"), _name(entry)
        if not module or module == "builtins":
            return
        self.risks.append(f"'{name}' of module '{module}', which is imported")
        try:
            value = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise errors.ConfigError(
                f"The model needs '{name}' of module '{module}', which cannot be "
                f"imported here: {error}. Run where that module is, or pass "
                "custom_objects."
            ) from error
        self.objects[name] = value
        self.objects[entry.get("registered_name") or name] = value


def _function_of_lambda(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a Lambda layer that only names its function as that function."""
    config = reasons.config(entry)
    function = config.get("function")
    if entry["class_name"] != "Lambda" or function is None:
        return entry
    kinds = {config.get("output_shape_type"), config.get("mask_type")}
    if not kinds <= {None, "raw"}:
        return entry
    if isinstance(function, Mapping) and function.get("class_name") == "function":
        return function
    if config.get("function_type") != "function" or not isinstance(function, str):
        return entry
    module = config.get("module")
    return {"class_name": "function", "config": function, "module": module}


def _name(entry: Mapping[str, Any]) -> str:
    is_function = entry["class_name"] == "function"
    return str(entry.get("config") if is_function else entry["class_name"])


def _is_known(entry: Mapping[str, Any]) -> bool:
    """Tells whether Keras has a class of that name, whatever it is registered as."""
    return entry["class_name"] in allowed.LAYERS | allowed.OPERATIONS | {"function"}


def _is_keras(entry: Mapping[str, Any], keras: Any) -> bool:
    """Tells whether `entry` names one of Keras's own parts, and nothing else."""
    kind, module = entry["class_name"], entry.get("module")
    is_function = kind == "function"
    if is_function and _name(entry) not in allowed.FUNCTIONS:
        return False
    names = allowed.LAYERS | allowed.PARTS
    names |= allowed.OPERATIONS if keras.__name__ == "tf_keras" else allowed.OPS
    if not is_function and kind not in names:
        return False
    if not module:
        # Without a module Keras looks in its own tables: there, or nowhere.
        return not is_function
    if module == "builtins":
        return is_function
    package, *parts = [part for part in str(module).split(".") if part != "src"]
    return package in ("keras", "tf_keras") and (
        not parts or parts[0] in allowed.MODULES
    )


def _foreign(
    entry: Mapping[str, Any], source: str, *, is_model: bool
) -> errors.ConfigError:
    name, module = (
        _shown(_name(entry)),
        _shown(entry.get("module") or ""),
    )
    if name in _TFMOT:
        return errors.ConfigError(
            f"'{source}' still has the wrapper {name} of the model optimization "
            f"toolkit around its layers. Save what {_TFMOT[name]} returns."
        )
    if name in _TFMOT_QAT:
        return errors.ConfigError(
            f"'{source}' was made by quantize_model of the model optimization toolkit. "
            "Save the float model that it was made from; "
            "tfslim.sparsify(method='qat') trains it for quantization."
        )
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


def _settle(entry: dict[str, Any], keras: Any) -> None:
    """Leaves one way to find what `entry` names: Keras tries several.

    Modules of Keras 2.12 or older, which had no `src` in them, get their new names.
    """
    if entry.get("registered_name"):
        is_function = entry["class_name"] == "function"
        entry["registered_name"] = entry["config"] if is_function else None
    package, *parts = str(entry.get("module")).split(".")
    if keras.__name__ == "tf_keras" and package == "keras" and len(parts) > 1:
        if parts[0] == "src":
            return
        moved = ".".join(["tf_keras", "src", *parts])
        with contextlib.suppress(ImportError):
            if hasattr(importlib.import_module(moved), entry["class_name"]):
                entry["module"] = moved
