"""Every method does what the table says, to every kind of layer and every model."""

import json
import re

import pytest

from tests.sparsity import tfmot_matrix as matrix

TABLE = json.loads(matrix.TABLE.read_text())
NAMES = [
    name for name in [*matrix.TINY, *matrix.ZOO, *matrix.APPLICATIONS] if name in TABLE
]


# All methods on all models are too slow for every day.
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_row(name):
    assert matrix.row(name) == TABLE[name]


def test_table_has_no_fault_and_every_method():
    assert {*matrix.TINY} <= TABLE.keys()
    for cells in TABLE.values():
        assert [*cells] == [*matrix.METHODS]
        assert {cell["status"] for cell in cells.values()} <= {"works", "refused"}


def test_only_the_form_for_sparse_kernels_is_refused():
    refused = {
        method
        for cells in TABLE.values()
        for method, cell in cells.items()
        if cell["status"] == "refused"
    }
    assert refused <= {"xnnpack"}


def test_documentation_shows_the_table():
    page = (matrix.TABLE.parents[2] / "docs" / "sparsity.md").read_text()
    assert matrix.markdown(TABLE) in page
    missing = {*matrix.ZOO, *matrix.APPLICATIONS} - TABLE.keys()
    [line] = re.findall("Not run yet: (.*)", page) or [""]
    assert set(re.findall("`([A-Za-z0-9_]+)`", line)) - {"python"} == missing
