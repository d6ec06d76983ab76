"""`tfds:NAME`: image classification sets of TensorFlow Datasets."""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfslim import errors, files
from tfslim.data.examples import Examples, decode_image
from tfslim.data.sources import base

_PROBE_SECONDS = 5.0
_SPLITS = ("train", "validation", "test")


def load_tfds(argument: str, options: base.LoadOptions) -> base.Dataset:
    """Loads a dataset of https://www.tensorflow.org/datasets/catalog by its name.

    It is prepared in `options.data_dir` (by default TensorFlow Datasets' own) the
    first time; without a network that works if the archives lie under their original
    names in DATA_DIR/downloads/manual. The encoded images are then gathered in one
    file beside it, because TensorFlow Datasets can only be read from front to back.
    """
    if not argument:
        raise errors.ConfigError("The source 'tfds' needs a name: 'tfds:mnist'.")
    tfds = _import_tfds()
    builder = _builder(tfds, argument, options=options)
    image_key, label_key = _supervised_keys(tfds, builder, name=argument)
    if not Path(builder.data_dir).exists():
        _prepare(tfds, builder, name=argument)
    found: dict[str, Examples] = {}
    for split in _SPLITS:
        if split in builder.info.splits:
            folder = _gather(
                tfds, builder, split=split, image_key=image_key, label_key=label_key
            )
            found[split] = PackedExamples(folder)
    if "train" not in found:
        raise errors.DataError(
            f"tfds:{argument} has no split 'train', only "
            f"{', '.join(sorted(builder.info.splits))}."
        )
    return base.Dataset(
        name=f"tfds:{argument}",
        **base.fill_splits(found, options, stratify=True),
        class_names=tuple(builder.info.features[label_key].names),
    )


class PackedExamples:
    """Encoded images end to end in one file, with their places and targets."""

    def __init__(self, folder: Path):
        """Opens what `_gather` wrote."""
        with np.load(folder / "index.npz", allow_pickle=False) as index:
            self._offsets = index["offsets"]
            self.targets: np.ndarray = index["targets"]
        self._path = folder / "images.bin"

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.targets)

    def inputs(self, indices: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Returns uint8 arrays [height, width, channels]."""
        images = []
        with self._path.open("rb") as file:
            for index in indices:
                start, end = self._offsets[index : index + 2]
                file.seek(start)
                encoded = io.BytesIO(file.read(end - start))
                images.append(decode_image(encoded, f"{self._path}[{index}]"))
        return images


def _import_tfds() -> Any:
    try:
        import tensorflow_datasets as tfds  # Takes seconds; the base install lacks it.
    except ImportError as error:
        raise errors.MissingExtraError(
            error.name or "tensorflow_datasets",
            extra="tensorflow",
            needed_for="The data source 'tfds'",
        ) from error
    return tfds


def _builder(tfds: Any, name: str, *, options: base.LoadOptions) -> Any:
    if ":" in name:
        raise errors.ConfigError(
            f"Community datasets such as 'tfds:{name}' are not supported; prepare it "
            "yourself and pass it as 'npz:' or 'folder:'."
        )
    data_dir = None if options.data_dir is None else str(options.data_dir)
    try:
        return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.registered.DatasetNotFoundError as error:
        # Listing community datasets as well would try the network for minutes.
        known = tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise errors.ConfigError(
            f"Unknown TensorFlow dataset '{name}'.{hint} They are listed at "
            "https://www.tensorflow.org/datasets/catalog."
        ) from error
    except ModuleNotFoundError as error:
        raise errors.MissingExtraError(
            error.name or "?", extra="tensorflow", needed_for=f"tfds:{name}"
        ) from error
    except (ValueError, RuntimeError, AttributeError, OSError) as error:
        raise errors.DataError(f"tfds:{name}: {_first_line(error)}") from error


def _supervised_keys(tfds: Any, builder: Any, *, name: str) -> tuple[str, str]:
    keys = builder.info.supervised_keys
    if keys and len(keys) == 2:
        image, label = (builder.info.features[key] for key in keys)
        if isinstance(image, tfds.features.Image) and isinstance(
            label, tfds.features.ClassLabel
        ):
            return keys[0], keys[1]
    raise errors.DataError(
        f"tfds:{name} is no image classification set: its supervised keys are {keys}."
    )


def _prepare(tfds: Any, builder: Any, *, name: str) -> None:
    _probe_network(builder, name)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        # It reports on stdout, which belongs to our caller's results.
        with contextlib.redirect_stdout(sys.stderr):
            builder.download_and_prepare()
    except Exception as error:  # Downloads fail in too many ways to name them.
        raise errors.DataError(
            f"tfds:{name} cannot be prepared: {_first_line(error)}"
        ) from error


def _probe_network(builder: Any, name: str) -> None:
    """Fails in seconds where TensorFlow Datasets retries for minutes."""
    import requests  # A dependency of tensorflow-datasets, not of the base install.

    # data_dir is ROOT/name[/config]/version.
    depth = builder.info.full_name.count("/")
    downloads = Path(builder.data_dir).parents[depth] / "downloads"
    missing = _missing_downloads(builder.url_infos, downloads)
    if not missing:
        return
    url, file_name = missing[0]
    try:
        requests.head(url, timeout=_PROBE_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        raise errors.DataError(
            f"tfds:{name} needs {url}, and there is no connection to it. Connect, or "
            f"put the file into {downloads / 'manual'} as {file_name}."
        ) from error


def _missing_downloads(url_infos: Any, downloads: Path) -> list[tuple[str, str]]:
    cached: set[str] = set()
    for info in downloads.rglob("*.INFO"):
        cached |= set(json.loads(info.read_text()).get("urls", ()))
    return [
        (url, info.filename)
        for url, info in url_infos.items()
        if url not in cached and not (downloads / "manual" / info.filename).exists()
    ]


def _gather(
    tfds: Any, builder: Any, *, split: str, image_key: str, label_key: str
) -> Path:
    target = Path(builder.data_dir) / f"tfslim-{split}"
    if target.exists():
        return target
    rows = tfds.as_numpy(
        builder.as_dataset(
            split=split,
            decoders={image_key: tfds.decode.SkipDecoding()},
            shuffle_files=False,
        )
    )
    offsets, targets = [0], []
    with files.whole_folder(target) as folder:
        with (folder / "images.bin").open("wb") as images:
            for row in rows:
                offsets.append(offsets[-1] + images.write(row[image_key]))
                targets.append(row[label_key])
        np.savez(
            folder / "index.npz",
            offsets=np.array(offsets, np.int64),
            targets=np.array(targets, np.int64),
        )
    return target


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
