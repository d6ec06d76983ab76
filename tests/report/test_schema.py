"""`result.json` keeps to its published schema."""

import copy
import json
from pathlib import Path

import jsonschema
import pages
import pytest

import tfslim.report

SCHEMA = json.loads(Path(tfslim.report.__file__).with_name("schema.json").read_text())


def test_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_a_recorded_result_is_valid():
    jsonschema.validate(pages.recorded(), SCHEMA)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda r: r.pop("task"),
        lambda r: r.update(schema_version=2),
        lambda r: r["variants"][0].pop("parity"),
        lambda r: r["variants"][0].update(size_bytes="12 kB"),
        lambda r: r["variants"][0]["change"].update(verdict="fine"),
        lambda r: r["variants"][0]["change"].update(low=-7.0),
        lambda r: r["variants"][0]["comparison"].update(ratio=0),
        lambda r: r["original"]["benchmark"].pop("latency"),
        lambda r: r["slimming"][0].update(params=[1]),
        lambda r: r.update(variants=[]),
    ],
)
def test_what_is_missing_or_wrong_is_found(break_it):
    result = copy.deepcopy(pages.recorded())
    break_it(result)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(result, SCHEMA)
