"""What works in docs/coverage.md still works: a fast slice of `make coverage`."""

import json

import keras
import pytest

from benchmarks import coverage, record, wild
from tests.graph import op_table

RESULTS = sorted(record.RESULTS.glob("coverage_wild_*.json"))
OPS = record.RESULTS / "coverage_ops_keras.json"
# Kinds that share no code with each other, each in a second or two.
SLICE = (
    "lstm_regression",
    "text_embedding",
    "image_and_numbers",
    "detector_heads",
    "temporal_convolutions",
    "transformer_encoder",
)
# These take ten seconds, and have tests of their own in tests/convert.
_SLOW = {"lstm_regression"}

# Functions: elementwise, moving, reducing, without a builtin, outside the vocabulary.
OPS_SLICE = ("abs", "argmax", "einsum", "stack", "tan", "where", "x[..., None]")


def _rows(path):
    content = json.loads(path.read_text("utf-8"))
    return content["conditions"]["keras"], content["rows"]


def test_there_are_many_architectures():
    assert len(wild.WILD) >= 50
    for path in RESULTS:
        assert set(_rows(path)[1]) <= set(wild.WILD)


@pytest.mark.parametrize("path", [*RESULTS, OPS], ids=lambda path: path.stem)
def test_no_cell_is_a_crash(path):
    cells = [cell for row in _rows(path)[1].values() for cell in row.values()]
    assert not [c for c in cells if isinstance(c, str) and c.startswith("CRASH")]


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in _SLOW else ()) for n in SLICE],
)
@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_what_worked_works(path, name):
    package, rows = _rows(path)
    if name not in rows:
        pytest.skip("make coverage was ended before it")
    k = pytest.importorskip(package)
    columns = tuple(c for c in coverage.COLUMNS if coverage.works(c, rows[name][c]))
    assert columns
    k.utils.set_random_seed(0)
    found = coverage.try_model(wild.WILD[name](k), columns)
    fallen = {c: found[c] for c in columns if not coverage.works(c, found[c])}
    assert not fallen


def test_every_function_has_a_row_or_a_reason():
    there = {name for name in dir(keras.ops) if not name.startswith("_")}
    there |= {f"image.{n}" for n in dir(keras.ops.image) if not n.startswith("_")}
    known = {row.name for row in op_table.ROWS} | set(op_table.NO_ROW)
    assert not sorted(there - known)
    names = [row.name for row in op_table.ROWS]
    assert len(names) == len(set(names))
    # Versions of Keras have others; what the file has is of one of them.
    assert set(_rows(OPS)[1]) <= set(names)


@pytest.mark.parametrize("name", OPS_SLICE)
def test_function_that_worked_works(name):
    _, rows = _rows(OPS)
    columns = tuple(c for c in coverage.COLUMNS if coverage.works(c, rows[name][c]))
    assert columns
    [row] = [row for row in op_table.ROWS if row.name == name]
    keras.utils.set_random_seed(0)
    found = coverage.try_model(op_table.build(row, keras), columns)
    assert all(coverage.works(c, found[c]) for c in columns), found
