"""One file, the same inputs, several programs: who gives the Interpreter's answers?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfslim import checks, errors, tflite
from tfslim.consumers import verdict
from tfslim.consumers.base import CONSUMERS, Consumer, ConsumerError, Outcome
from tfslim.consumers.samples import Samples
from tfslim.tflite import metadata

REFERENCE = "interpreter"
RIGHT, WRONG, REFUSED, COMPILED = "right", "wrong", "refused", "compiled"

OnStep = Callable[[str], None]


def available() -> list[str]:
    """Returns the names of the consumers that are on this machine."""
    return [name for name in CONSUMERS.names() if not CONSUMERS.get(name).missing()]


@checks.by_name
def run(content: bytes, inputs: Samples, *, name: str) -> Outcome:
    """Runs a file in one program.

    Args:
        content: the file.
        inputs: input name -> array [samples, ...] of real numbers.
        name: of the consumer.

    Raises:
        ConfigError: there is no such consumer, or it is not on this machine; or the
            inputs are not those of the file.
        ConsumerError: the program refuses the file.
    """
    consumer = CONSUMERS.get(name)
    consumer.require()
    return consumer.run(content, inputs)


@checks.by_name
def verify(
    content: bytes,
    inputs: Samples,
    *,
    names: Iterable[str],
    expected: Sequence[np.ndarray] | None = None,
    expected_of: str = "keras",
    on_step: OnStep = lambda text: None,
) -> dict[str, dict[str, Any]]:
    """Runs a file in several programs and compares their outputs.

    Args:
        content: the file.
        inputs: input name -> array [samples, ...] of real numbers; 16 samples or more.
        names: consumers; the Interpreter is added, as the others are held against it.
        expected: the original model's outputs for the same inputs, in the file's order.
        expected_of: what that model is called in the result.
        on_step: called with a line of text before each program.

    Returns:
        Consumer -> plain data: "status" (right, wrong, refused, compiled), "reason",
        "is_fully_accelerated", "fell_back", "against" (reference -> the fields of
        `Verdict`), "versions", "conditions", "seconds".

    Raises:
        ConfigError: a consumer is unknown or not on this machine, or the inputs are
            not those of the file.
        ConsumerError: the Interpreter itself refuses the file.
    """
    chosen = [CONSUMERS.get(name) for name in dict.fromkeys([REFERENCE, *names])]
    for consumer in chosen:
        consumer.require()
    truth, rows = None, {}
    original = {} if expected is None else {expected_of: expected}
    for consumer in chosen:
        on_step(f"running it in {consumer.name}: {consumer.what}")
        outcome = _outcome(
            consumer, content, inputs=inputs, may_refuse=truth is not None
        )
        if isinstance(outcome, str):
            rows[consumer.name] = _row(REFUSED, outcome)
            continue
        truth = truth or outcome
        rows[consumer.name] = _compared(
            content, truth, outcome=outcome, original=original
        )
    return rows


@checks.by_name
def matrix(
    contents: Mapping[str, bytes],
    inputs: Samples,
    *,
    names: Sequence[str],
    **options: Any,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns variant -> consumer -> what `verify` says; `options` go to `verify`."""
    return {
        variant: verify(content, inputs, names=names, **options)
        for variant, content in contents.items()
    }


def _outcome(
    consumer: Consumer, content: bytes, *, inputs: Samples, may_refuse: bool
) -> Outcome | str:
    try:
        return consumer.run(content, inputs)
    except (ConsumerError, errors.ConversionError) as error:
        if not may_refuse:
            raise
        return str(error)


def _compared(
    content: bytes,
    truth: Outcome,
    *,
    outcome: Outcome,
    original: Mapping[str, Sequence[np.ndarray]],
) -> dict[str, Any]:
    known = {
        "is_fully_accelerated": outcome.is_fully_accelerated,
        "fell_back": list(outcome.fell_back),
        "versions": dict(outcome.versions),
        "conditions": dict(outcome.conditions),
        "seconds": round(outcome.seconds, 2),
    }
    if not outcome.outputs:
        return _row(COMPILED, "", **known)
    entry = metadata.get_json(tflite.read(content)) or {}
    classes = verdict.has_classes(truth.outputs, entry)
    own = verdict.judge(
        truth.outputs, outcome.outputs, against=REFERENCE, classes=classes
    )
    against = {REFERENCE: dataclasses.asdict(own)}
    reason = own.reason
    for name, expected in original.items():
        named = dict(zip(truth.outputs, expected, strict=True))
        other, base = (
            verdict.judge(named, outputs, against=name, classes=classes)
            for outputs in (outcome.outputs, truth.outputs)
        )
        against[name] = dataclasses.asdict(other)
        if verdict.is_no_worse(other, base, count=len(expected[0])):
            reason = ""
    return _row(WRONG if reason else RIGHT, reason, against=against, **known)


def _row(status: str, reason: str, **fields: Any) -> dict[str, Any]:
    return {
        "status": status,
        "reason": reason,
        "is_fully_accelerated": None,
        "fell_back": [],
        "against": {},
        "versions": {},
        "conditions": {},
        "seconds": None,
        **fields,
    }
