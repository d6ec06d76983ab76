"""Opens a Keras model, whatever it is called and whichever Keras wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfslim import errors, models, registry
from tfslim.loading import source as source_lib

_ZIP, _HDF5 = b"PK", b"\x89HDF\r\n\x1a\n"
_CHECKPOINT = "It is a checkpoint, weights only; save the model with model.save()."
_PICKLE = "A pickle runs code when it is opened; save the model with model.save()."
_PYTORCH = "It is PyTorch's; convert it to Keras first."
# Suffix -> what to do instead.
_OTHER_FILES = {
    ".ckpt": _CHECKPOINT,
    ".index": _CHECKPOINT,
    ".joblib": _PICKLE,
    ".json": "It has no weights; save the model with model.save().",
    ".onnx": "Convert it to Keras first.",
    ".pb": "Give the folder that it stands in.",
    ".pickle": _PICKLE,
    ".pkl": _PICKLE,
    ".pt": _PYTORCH,
    ".pth": _PYTORCH,
    ".py": "Name the function in it: FILE.py:function.",
    ".tflite": "It is already converted; tfslim starts from the Keras model.",
}
_KINDS = "a .keras, .h5 or .hdf5 file or a SavedModel folder"


def load_model(
    source: str | Path,
    *,
    input_shape: Sequence[int] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    allow_unsafe: bool = False,
    **options: Any,
) -> Any:
    """Opens or builds a Keras model.

    The result is a plain functional or Sequential model, not compiled: optimizer
    state is dropped. Nothing is registered with Keras.

    Args:
        source: one of
            - a `.keras`, `.h5` or `.hdf5` file of Keras 1, 2 or 3 (recognized by its
              content, not its name), or a SavedModel folder of tf.keras;
            - "module:function" or "file.py:function", which runs your own code and
              returns a model; a subclassed one is converted where its `call` is a
              plain chain of layers;
            - "keras.applications.MobileNetV2" (Keras 3) or
              "tf_keras.applications.MobileNetV2" (Keras 2), by default with
              ImageNet's weights as there: pass `weights=None` for random ones;
            - a name of the zoo, as in `build_model`.
        input_shape: [height, width, channels] without the batch, for a model that
            leaves it open, or to have another one.
        custom_objects: your own classes and functions by name, that the file needs.
        allow_unsafe: also open files that run code of their own when opened (Lambda
            layers) or import modules that they name; only for files you trust.
        **options: arguments of the function, application or zoo model.

    Returns:
        A tf_keras model for files of Keras 1 and 2 and for the zoo, a Keras 3 model
        for files of Keras 3.

    Raises:
        ConfigError: there is no such model, it needs code that is refused, or it
            cannot be written as a functional model; says what to do.
        DataError: the file is damaged, or weights cannot be downloaded.

    Example:
        >>> load_model("tf_keras.applications.MobileNetV2", weights=None).output_shape
        (None, 1000)
    """
    name = str(source)
    if isinstance(source, str) and name in models.MODELS:
        return models.build_model(name, input_shape=_tuple(input_shape), **options)
    if not source_lib.is_known(name):
        raise _unknown(name)
    # Late: each opener imports the Keras that it needs.
    from tfslim.loading import builder, functional

    path = Path(source)
    application = source_lib.as_application(name)
    function = source_lib.as_function(name)
    if name and path.exists():
        if options:
            raise errors.ConfigError(
                f"'{name}' is a saved model, which has no options; got "
                f"'{next(iter(options))}'. Only input_shape can be given."
            )
        model = _open(path, dict(custom_objects or {}), allow_unsafe=allow_unsafe)
    elif application is not None:
        if input_shape:
            options["input_shape"] = _tuple(input_shape)
        return builder.build_application(*application, options)
    elif function is not None:
        model = builder.build(*function, options)
    else:
        raise _unknown(name)
    return functional.to_functional(model, source=name, input_shape=input_shape)


def _tuple(shape: Sequence[int] | None) -> tuple[int, ...] | None:
    return tuple(shape) if shape else None


def _open(path: Path, custom_objects: dict[str, Any], *, allow_unsafe: bool) -> Any:
    from tfslim.loading import archive

    if path.is_dir():
        return _open_folder(path, custom_objects, allow_unsafe=allow_unsafe)
    if not path.is_file():
        raise errors.ConfigError(f"'{path}' is no plain file; expected {_KINDS}.")
    with path.open("rb") as file:
        start = file.read(len(_HDF5))
    if start.startswith(_ZIP):
        opener = archive.load_archive
    elif start == _HDF5:
        opener = archive.load_hdf5
    else:
        raise _no_model(path)
    return opener(path, custom_objects=custom_objects, allow_unsafe=allow_unsafe)


def _no_model(path: Path) -> errors.TfslimError:
    hint = _OTHER_FILES.get(path.suffix, "")
    if path.suffix in (".keras", ".h5", ".hdf5"):
        size = path.stat().st_size
        return errors.DataError(
            f"'{path}' ({size} bytes) does not begin like a {path.suffix} file: it is "
            "damaged, or was not downloaded whole. Save or copy it again."
        )
    return errors.ConfigError(
        " ".join(f"'{path}' is no Keras model; expected {_KINDS}. {hint}".split())
    )


def _open_folder(
    path: Path, custom_objects: dict[str, Any], *, allow_unsafe: bool
) -> Any:
    if (path / "saved_model.pb").is_file():
        from tfslim.loading import saved_model

        return saved_model.load(
            path, custom_objects=custom_objects, allow_unsafe=allow_unsafe
        )
    inside = sorted(
        file
        for file in path.iterdir()
        if file.suffix in (".keras", ".h5", ".hdf5")
        or (file / "saved_model.pb").exists()
    )
    hint = f" Did you mean '{inside[0]}'?" if inside else ""
    raise errors.ConfigError(
        f"Folder '{path}' holds no SavedModel (there is no saved_model.pb).{hint}"
    )


def _unknown(name: str) -> errors.ConfigError:
    if Path(name).suffix in {".keras", ".h5", ".hdf5", *_OTHER_FILES} or (
        "/" in name or "\\" in name
    ):
        return errors.ConfigError(f"There is no file or folder '{name}'.")
    return errors.ConfigError(
        f"{registry.unknown_name('model', name, known=models.MODELS.names())} Or give "
        f"{_KINDS}, module:function, or keras.applications.NAME."
    )
