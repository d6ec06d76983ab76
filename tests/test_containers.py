"""Zip and HDF5 files that name other files, or declare what they do not hold."""

import contextlib
import os
import zipfile

import h5py
import numpy as np
import pytest

from tfslim import containers, errors

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def _external(file, folder):
    (folder / "secret").write_bytes(VALUES.tobytes())
    file.create_dataset("w", (2, 3), "f4", external=[(str(folder / "secret"), 0, 24)])


def _virtual(file, folder):
    with h5py.File(folder / "private.h5", "w") as private:
        private["values"] = VALUES
    layout = h5py.VirtualLayout((2, 3), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "private.h5"), "values", (2, 3))
    file.create_virtual_dataset("w", layout)


def _external_link(file, folder):
    file["deep/w"] = h5py.ExternalLink(str(folder / "private.h5"), "/values")


def _soft_link(file, folder):
    file["kept"] = VALUES
    file["w"] = h5py.SoftLink("/kept")


def _filter(file, folder):
    created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    created.set_chunk((2, 3))
    created.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
    space = h5py.h5s.create_simple((2, 3))
    h5py.h5d.create(file.id, b"w", h5py.h5t.NATIVE_FLOAT, space, created)


def _never_written(file, folder):
    file.create_dataset("w", (10_000, 10_000), "f4", chunks=(100, 100))


def _overflowing(file, folder):
    file.create_dataset("w", (2**31, 2**31, 2**31), "f4", chunks=(1, 1, 8))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_external, "takes its content from other files"),
        (_virtual, "takes its content from other files"),
        (_external_link, "'/deep/w' is a link"),
        (_soft_link, "'/w' is a link"),
        (_filter, "is packed by a filter"),
        (_never_written, "declares 400,000,000 bytes"),
        (_overflowing, "more than such a file holds"),
    ],
)
def test_hdf5_that_is_not_what_it_holds(tmp_path, write, message):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        write(file, tmp_path)
    with (
        pytest.raises(errors.DataError, match=message) as error,
        containers.open_hdf5(tmp_path / "f.h5", "what the user gave"),
    ):
        pass
    assert str(error.value).startswith("'what the user gave'")


def test_a_good_hdf5_opens(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["a/w"] = VALUES
        file["a/loop"] = file["/"]  # A hard link may lead back.
        file.create_dataset("packed", data=VALUES, compression="gzip", shuffle=True)
    with containers.open_hdf5(tmp_path / "f.h5") as file:
        found = {array.name: array.shape for array in containers.arrays(file)}
    assert found == {"/a/w": (2, 3), "/packed": (2, 3)}


@pytest.mark.parametrize(
    "dtype",
    [
        h5py.string_dtype(),
        h5py.vlen_dtype("f4"),
        h5py.ref_dtype,
        np.dtype([("a", "f4"), ("b", "f4")]),
        np.dtype(("f4", (1000,))),
        np.dtype("V64"),
        np.dtype("c8"),
    ],
)
def test_only_numbers_are_weights(tmp_path, dtype):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("w", (2,), dtype)
    with (
        containers.open_hdf5(tmp_path / "f.h5") as file,
        pytest.raises(ValueError, match="no plain numbers"),
    ):
        containers.arrays(file)


def test_bfloat16_is_a_number(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("w", (2,), "V2")
    with containers.open_hdf5(tmp_path / "f.h5") as file:
        assert containers.arrays(file) == [("/w", (2,))]


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        ("../evil", 0, "leads outside"),
        ("a/../../evil", 0, "leads outside"),
        ("/tmp/evil", 0, "leads outside"),
        ("..\\evil", 0, "leads outside"),
        ("C:evil", 0, "leads outside"),
        ("assets/link", 0o120777, "is no plain file"),
        ("twice", 0, "stands twice"),
    ],
)
def test_zip_entries_stay_inside(tmp_path, name, mode, message):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    with (
        zipfile.ZipFile(tmp_path / "f.zip", "w") as archive,
        pytest.warns(UserWarning) if name == "twice" else contextlib.nullcontext(),
    ):
        archive.writestr("twice", "x")
        archive.writestr(entry, "x")
    with (
        pytest.raises(errors.DataError, match=message),
        containers.open_zip(tmp_path / "f.zip"),
    ):
        pass


def test_zip_bomb(tmp_path):
    path = tmp_path / "f.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(150 * 2**20))
    with (
        pytest.raises(errors.DataError, match="declares 157,286,400 bytes"),
        containers.open_zip(path),
    ):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(errors.ConfigError, match="no plain file"):
        containers.copy_file(tmp_path / "pipe", tmp_path / "copy")
