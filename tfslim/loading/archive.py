"""Model files: `.keras` archives and HDF5 files, whichever Keras wrote them."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py

from tfslim import errors
from tfslim.loading import legacy, safety
from tfslim.loading.message import first_line


def load_archive(
    path: Path, *, custom_objects: Mapping[str, Any], allow_unsafe: bool
) -> Any:
    """Opens a `.keras` archive with the Keras that wrote it.

    Raises:
        ConfigError: it is no Keras model, or it needs code.
        DataError: it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "config.json" not in names:
                raise errors.ConfigError(
                    f"'{path}' is a zip archive without config.json: no Keras model."
                )
            config = json.loads(archive.read("config.json"))
            metadata = {}
            if "metadata.json" in names:
                metadata = json.loads(archive.read("metadata.json"))
    except errors.TfslimError:
        raise
    except Exception as error:  # Of zipfile, zlib or json.
        raise _damaged(path, error) from error
    keras = _keras_of(metadata.get("keras_version", "3"))
    objects = safety.check(
        config,
        source=str(path),
        keras=keras,
        custom_objects=custom_objects,
        allow_unsafe=allow_unsafe,
    )
    with _explained(path, keras), _named(path, ".keras") as named:
        return keras.models.load_model(
            named, custom_objects=objects, compile=False, safe_mode=not allow_unsafe
        )


def load_hdf5(
    path: Path, *, custom_objects: Mapping[str, Any], allow_unsafe: bool
) -> Any:
    """Opens an HDF5 file with the Keras that wrote it: 1 and 2 with tf_keras, or 3.

    Raises:
        ConfigError: it holds weights only or is no Keras model, or it needs code.
        DataError: it is damaged.
    """
    config, version = _read_hdf5(path)
    if version < "2":
        config = legacy.from_keras1(config)
    keras = _keras_of(version)
    objects = safety.check(
        config,
        source=str(path),
        keras=keras,
        custom_objects=custom_objects,
        allow_unsafe=allow_unsafe,
    )
    if keras.__name__ == "keras":
        hint = "Keras 3 does not reopen every .h5 that it writes; save it as .keras."
        with _explained(path, keras, hint), _named(path, ".h5") as named:
            return keras.models.load_model(
                named, custom_objects=objects, compile=False, safe_mode=not allow_unsafe
            )
    with _explained(path, keras), _named(path, ".h5") as named:
        with safety.keras2_scope(allow_unsafe):
            model = keras.models.model_from_json(json.dumps(config), objects)
        model.load_weights(named)
        return model


def _read_hdf5(path: Path) -> tuple[Any, str]:
    """Returns the model's config and the version of the Keras that wrote it."""
    try:
        with h5py.File(path) as file:
            config = file.attrs.get("model_config")
            is_weights = "layer_names" in file.attrs or path.name.endswith(
                ".weights.h5"
            )
            version = file.attrs.get("keras_version")
            if version is None and "model_weights" in file:
                version = file["model_weights"].attrs.get("keras_version")
    except Exception as error:  # h5py's have no class in common.
        raise _damaged(path, error) from error
    if config is None:
        what = "holds weights only, no model" if is_weights else "holds no Keras model"
        raise errors.ConfigError(
            f"'{path}' {what}. Give the file that model.save() wrote, or a function "
            "that builds the model and loads these weights, "
            "--model=my_module:my_function."
        )
    try:
        return json.loads(config), _text(version or "1")
    except (TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _keras_of(version: str) -> Any:
    """Returns the module that opens what Keras `version` wrote."""
    name = "tf_keras" if version.split(".")[0] in ("0", "1", "2") else "keras"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise errors.MissingExtraError(
            name, extra="tensorflow", needed_for=f"A model of Keras {version}"
        ) from error


def _damaged(path: Path, error: Exception) -> errors.DataError:
    return errors.DataError(
        f"'{path}' is damaged or cut short: {first_line(error)}. Save or copy it again."
    )


@contextlib.contextmanager
def _explained(path: Path, keras: Any, hint: str = "") -> Iterator[None]:
    """Makes one line of what Keras raises: its errors have no class in common."""
    try:
        yield
    except errors.TfslimError:
        raise
    except Exception as error:
        raise errors.DataError(
            f"{keras.__name__} {keras.__version__} cannot open '{path}': "
            f"{first_line(error)}. {hint}".strip()
        ) from error


@contextlib.contextmanager
def _named(path: Path, suffix: str) -> Iterator[str]:
    """Yields a path with the suffix that Keras insists on, to the same content."""
    if path.name.endswith(suffix) and not path.name.endswith(".weights.h5"):
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / f"model{suffix}"
        try:
            named.symlink_to(path.resolve())
        except OSError:  # Windows grants links to administrators only.
            shutil.copyfile(path, named)
        yield str(named)
