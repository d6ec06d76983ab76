"""Models that a function builds: the user's own, or one of keras.applications."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from tfslim import errors, registry
from tfslim.graph import keras as graph_keras


def build_application(package: str, name: str, options: Mapping[str, Any]) -> Any:
    """Builds a model of `keras.applications`, with the options it has there.

    Args:
        package: "keras" or "tf_keras".
        name: e.g. "MobileNetV2".
        options: e.g. `weights=None`; as in Keras, ImageNet's are the default.

    Raises:
        ConfigError: no such model, or an option that it refuses.
        DataError: its weights cannot be downloaded.
    """
    if package == "tf.keras":
        raise errors.ConfigError(
            f"tf.keras can be either Keras. Write keras.applications.{name} (Keras 3) "
            f"or tf_keras.applications.{name}."
        )
    applications = importlib.import_module(f"{package}.applications")
    known = [key for key in dir(applications) if key[0].isupper()]
    if name not in known:
        raise registry.unknown_name(
            f"model of {package}.applications", name, known=known
        )
    try:
        return getattr(applications, name)(**options)
    except (TypeError, ValueError) as error:
        raise errors.ConfigError(
            f"{package}.applications.{name}: {errors.first_line(error)}"
        ) from error
    except Exception as error:  # A bare Exception without a network.
        raise errors.DataError(
            f"The weights of {package}.applications.{name} cannot be downloaded: "
            f"{errors.first_line(error)} Check the network, or take weights=None."
        ) from error


def build(module: str, function: str, options: Mapping[str, Any]) -> Any:
    """Calls the user's own function, and returns the model it builds.

    Args:
        module: an importable module, or the path of a Python file.
        function: a function in it that returns a Keras model, or a model.
        options: its keyword arguments.

    Raises:
        ConfigError: no such module or function, it fails, or returns no model.
    """
    found = getattr(_import(module), function, None)
    if found is None:
        raise errors.ConfigError(
            f"Module '{module}' has no '{function}'. Give a function that returns a "
            "Keras model, --model=module:function."
        )
    if inspect.isclass(found) or not _is_model(found):
        found = _call(found, f"{module}:{function}", options=options)
    if not _is_model(found):
        raise errors.ConfigError(
            f"'{module}:{function}' returns a {type(found).__name__}, no Keras model."
        )
    return found


def _is_model(value: Any) -> bool:
    try:
        graph_keras.keras_of(value)
    except errors.GraphError:
        return False
    return hasattr(value, "layers")


def _call(function: Any, source: str, *, options: Mapping[str, Any]) -> Any:
    try:
        return function(**options)
    except errors.TfslimError:
        raise
    except Exception as error:
        raise errors.ConfigError(
            f"'{source}' failed: {type(error).__name__}: {errors.first_line(error)}"
        ) from error


def _import(name: str) -> ModuleType:
    if name.endswith(".py"):
        return _import_file(Path(name))
    folder = str(Path.cwd())
    # As `python -m` has it; an installed command does not.
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise errors.ConfigError(
            f"Module '{name}' cannot be imported: {type(error).__name__}: "
            f"{errors.first_line(error)}"
        ) from error
    finally:
        sys.path.remove(folder)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise errors.ConfigError(f"There is no Python file '{path}'.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise errors.ConfigError(f"'{path}' is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise errors.ConfigError(
            f"'{path}' failed: {type(error).__name__}: {errors.first_line(error)}"
        ) from error
    return module
