"""What works in docs/coverage.md still works: a fast slice of `make coverage`."""

import json

import pytest

from benchmarks import coverage, record, wild

RESULTS = sorted(record.RESULTS.glob("coverage_wild_*.json"))
# Kinds that share no code with each other, each in a second or two.
SLICE = (
    "lstm_regression",
    "text_embedding",
    "image_and_numbers",
    "detector_heads",
    "temporal_convolutions",
    "transformer_encoder",
)


def _rows(path):
    content = json.loads(path.read_text("utf-8"))
    return content["conditions"]["keras"], content["rows"]


def test_there_are_many_architectures():
    assert len(wild.WILD) >= 50
    for path in RESULTS:
        assert set(_rows(path)[1]) <= set(wild.WILD)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_no_cell_is_a_crash(path):
    cells = [cell for row in _rows(path)[1].values() for cell in row.values()]
    assert not [c for c in cells if isinstance(c, str) and c.startswith("CRASH")]


@pytest.mark.parametrize("name", SLICE)
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
