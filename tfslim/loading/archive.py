"""Model files: `.keras` archives and HDF5 files, whichever Keras wrote them."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py

from tfslim import containers, errors
from tfslim.loading import budget, build, checkpoint_layout, legacy, safety

_CONFIG, _METADATA = "config.json", "metadata.json"
_WEIGHTS, _ASSETS = "model.weights.h5", "assets/"
_MAX_TEXT = 16 * 2**20
# In a config: each takes some 100 bytes once parsed, and configs are copied.
_MAX_VALUES = 2_000_000


def load_archive(
    path: Path, *, custom_objects: Mapping[str, Any], allow_unsafe: bool
) -> Any:
    """Opens a `.keras` archive with the Keras that wrote it.

    Raises:
        ConfigError: it is no Keras model, or it needs code.
        DataError: it is damaged.
    """
    with containers.private_folder() as folder:
        names = _unpack(path, folder)
        config = _parse((folder / _CONFIG).read_bytes(), path)
        metadata: dict[str, Any] = {}
        if _METADATA in names:
            metadata = _parse((folder / _METADATA).read_bytes(), path)
        keras = _keras_of(metadata.get("keras_version", "3"), path)
        check = safety.check(
            config,
            source=str(path),
            keras=keras,
            custom_objects=custom_objects,
            allow_unsafe=allow_unsafe,
            risks=_weight_risks(folder / _WEIGHTS),
        )
        if allow_unsafe:
            return _load_trusted(path, keras, objects=check.objects, suffix=".keras")
        if _WEIGHTS not in names:
            raise errors.DataError(
                f"'{path}' has no {_WEIGHTS}: it is damaged or of another format. Save "
                "or copy it again."
            )
        with _explained(path, keras):
            model = _build_archive(path, config, check=check, folder=folder)
            if any(name.startswith(_ASSETS) for name in names):
                # Vocabularies: Keras reads them only together with all the rest.
                clean = _pack(config, names, folder=folder)
                return keras.models.load_model(clean, check.objects, compile=False)
            return model


def _build_archive(
    path: Path, config: Any, *, check: safety.Check, folder: Path
) -> Any:
    """Builds the model and reads its weights; each is held against the other."""
    _modernize(folder / _WEIGHTS, path, config=config)
    with _opened(folder / _WEIGHTS, path) as file:
        arrays = containers.arrays(file)
        with budget.limited(check, arrays, source=str(path)):
            model = build.from_archive(check.keras, config, objects=check.objects)
        # One by one: those of an optimizer stand in it too.
        largest = max(arrays, key=lambda array: math.prod(array.shape), default=None)
        budget.require_fitting([largest] if largest else [], model, source=str(path))
    if model.built:
        model.load_weights(str(folder / _WEIGHTS))
        build.finish(model)
    elif arrays:
        raise errors.DataError(
            f"'{path}' holds {len(arrays)} arrays of weights and not the shape of the "
            "input that they are for. Call the model once, and save it again."
        )
    return model


def _modernize(weights: Path, path: Path, *, config: Any) -> None:
    """Brings the unpacked weights of Keras 2.13 and 2.14 to the layout of today."""
    with _opened(weights, path) as file:
        if not checkpoint_layout.is_old(file):
            return
    with h5py.File(weights, "r+") as file:
        checkpoint_layout.modernize(file, config)


def load_hdf5(
    path: Path, *, custom_objects: Mapping[str, Any], allow_unsafe: bool
) -> Any:
    """Opens an HDF5 file with the Keras that wrote it: 1 and 2 with tf_keras, or 3.

    Raises:
        ConfigError: it holds weights only or is no Keras model, or it needs code.
        DataError: it is damaged.
    """
    with contextlib.ExitStack() as stack:
        copy = path
        if not allow_unsafe:  # What it links to lies beside the file itself.
            folder = stack.enter_context(containers.private_folder())
            copy = containers.copy_file(path, folder / "model.h5")
        file = stack.enter_context(_opened(copy, path, is_trusted=allow_unsafe))
        config, version = _read_hdf5(file, path)
        keras = _keras_of(version, path)
        if version < "2":
            with _explained(path, keras):
                config = legacy.from_keras1(config)
        check = safety.check(
            config,
            source=str(path),
            keras=keras,
            custom_objects=custom_objects,
            allow_unsafe=allow_unsafe,
            risks=_weight_risks(copy),
        )
        if allow_unsafe:
            return _load_trusted(
                path, keras, objects=check.objects, suffix=".h5", config=config
            )
        with _explained(path, keras, suffix=".h5"):
            arrays = _listed(file)
            with budget.limited(check, arrays, source=str(path)):
                model = build.from_legacy(keras, config, objects=check.objects)
            budget.require_fitting(arrays, model, source=str(path))
            model.load_weights(str(copy))
        return model


def _listed(file: h5py.File) -> list[Any]:
    """Returns the arrays that Keras reads from an `.h5`."""
    group = file["model_weights"] if "model_weights" in file else file
    listed = [array for _, part in containers.layer_arrays(group) for array in part]
    if "top_level_model_weights" in group:
        listed += containers.arrays(group["top_level_model_weights"])
    return listed


def _weight_risks(weights: Path) -> list[str]:
    """Returns what to say of a weights file that reaches out of itself."""
    try:
        with containers.open_hdf5(weights):
            return []
    except errors.TfslimError:
        return ["weights that it takes from other files, or that it does not hold"]
    except Exception:  # It is damaged, which its opener tells.
        return []


def _load_trusted(
    path: Path,
    keras: Any,
    *,
    objects: Mapping[str, Any],
    suffix: str,
    config: Any = None,
) -> Any:
    """Opens a file that the user vouches for as Keras itself does."""
    with _explained(path, keras, suffix=suffix), _named(path, suffix) as named:
        if suffix == ".h5" and keras.__name__ == "tf_keras":
            # For `.h5` files it has no option to open Lambda layers.
            model = build.from_legacy(keras, config, objects=objects, is_trusted=True)
            model.load_weights(named)
            return model
        return keras.models.load_model(
            named, custom_objects=objects, compile=False, safe_mode=False
        )


def _unpack(path: Path, folder: Path) -> list[str]:
    """Unpacks what Keras reads of an archive, and returns the names of that."""
    with _undamaged(path), containers.open_zip(path) as archive:
        names = archive.namelist()
        if _CONFIG not in names:
            raise errors.ConfigError(
                f"'{path}' is a zip archive without {_CONFIG}: no Keras model."
            )
        _require_readable(archive, path)
        known = {_CONFIG, _METADATA, _WEIGHTS}
        names = [n for n in names if n in known or n.startswith(_ASSETS)]
        for name in names:
            archive.extract(name, folder)
        return names


def _require_readable(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuses a config that would take all memory: text grows much when it is read."""
    for name in (_CONFIG, _METADATA):
        with contextlib.suppress(KeyError):
            entry = archive.getinfo(name)
            if entry.file_size > max(_MAX_TEXT, 20 * entry.compress_size):
                raise errors.DataError(
                    f"'{path}': {name} declares {entry.file_size:,} bytes of text in "
                    f"{entry.compress_size:,}: it is made to fill the memory."
                )


def _pack(config: Any, names: list[str], *, folder: Path) -> str:
    """Packs what was unpacked again, with the config that was checked."""
    clean = folder / "clean.keras"
    (folder / _CONFIG).write_text(json.dumps(config), encoding="utf-8")
    with zipfile.ZipFile(clean, "w") as archive:
        for name in names:
            archive.write(folder / name, name)
    return str(clean)


def _parse(text: bytes | str, path: Path) -> dict[str, Any]:
    with _undamaged(path):
        commas = text.count(b",") if isinstance(text, bytes) else text.count(",")
        if commas > _MAX_VALUES:
            raise ValueError(f"a config of more than {_MAX_VALUES:,} values")
        value = json.loads(text)
        if not isinstance(value, dict):
            raise TypeError(f"a {type(value).__name__} for a config")
        return value


def _read_hdf5(file: h5py.File, path: Path) -> tuple[Any, Any]:
    """Returns the model's config and the version of the Keras that wrote it."""
    with _undamaged(path):
        config = file.attrs.get("model_config")
        is_weights = "layer_names" in file.attrs or path.name.endswith(".weights.h5")
        version = file.attrs.get("keras_version")
        if version is None and "model_weights" in file:
            version = file["model_weights"].attrs.get("keras_version")
    if config is None:
        what = "holds weights only, no model" if is_weights else "holds no Keras model"
        raise errors.ConfigError(
            f"'{path}' {what}. Give the file that model.save() wrote, or a function "
            "that builds the model and loads these weights, "
            "--model=my_module:my_function."
        )
    if isinstance(version, bytes):
        version = version.decode("utf-8", "replace")
    return _parse(config, path), "1" if version is None else version


def _keras_of(version: Any, path: Path) -> Any:
    """Returns the module that opens what Keras `version` wrote."""
    if not isinstance(version, str):
        raise errors.DataError(
            f"'{path}' gives {version!r:.80} for the version of Keras that wrote it, "
            "not a text such as '3.5.0': it is damaged. Save or copy it again."
        )
    name = "tf_keras" if version.split(".")[0] in ("0", "1", "2") else "keras"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise errors.MissingExtraError(
            name, extra="tensorflow", needed_for=f"A model of Keras {version}"
        ) from error


def _undamaged(path: Path) -> contextlib.AbstractContextManager[None]:
    """Explains what zipfile, zlib, h5py and json raise: no class in common."""
    return errors.raised_as(
        errors.DataError,
        lambda cause: f"'{path}' is damaged or cut short: {cause} {errors.AGAIN}",
    )


@contextlib.contextmanager
def _opened(copy: Path, path: Path, *, is_trusted: bool = False) -> Iterator[h5py.File]:
    """Yields an HDF5 file; messages call it `path`."""
    with contextlib.ExitStack() as stack:
        with _undamaged(path):
            opener = h5py.File(copy) if is_trusted else containers.open_hdf5(copy, path)
            file = stack.enter_context(opener)
        yield file


@contextlib.contextmanager
def _explained(path: Path, keras: Any, *, suffix: str = "") -> Iterator[None]:
    """Makes one line of what Keras raises: its errors have no class in common."""
    hint = ""
    if suffix == ".h5" and keras.__name__ == "keras":
        hint = "Keras 3 does not reopen every .h5 that it writes; save it as .keras."
    try:
        yield
    except errors.TfslimError:
        raise
    except Exception as error:
        reason = errors.first_line(error)
        if isinstance(error, IndexError):
            reason = "it names an output that a layer does not have."
        raise errors.DataError(
            f"{keras.__name__} {keras.__version__} cannot open '{path}': "
            f"{reason} {hint}".strip()
        ) from error


@contextlib.contextmanager
def _named(path: Path, suffix: str) -> Iterator[str]:
    """Yields a path with the suffix that Keras insists on, to the same content."""
    if path.name.endswith(suffix) and not path.name.endswith(".weights.h5"):
        yield str(path)
        return
    with containers.private_folder() as folder:
        named = folder / f"model{suffix}"
        try:
            named.symlink_to(path.resolve())
        except OSError:  # Windows grants links to administrators only.
            shutil.copyfile(path, named)
        yield str(named)
