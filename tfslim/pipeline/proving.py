"""The files of an export in the programs that will run them: variant by consumer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfslim import consumers, tflite
from tfslim.pipeline import structure
from tfslim.preprocessing import Preprocessing

OnStep = Callable[[str], None]
# Enough to see another class in one of 50; emulated CPUs take a while.
_SAMPLES = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Truth:
    """A model's answers.

    Attributes:
        inputs: an array for each input, in the order of the file's; None: nobody
            knows any, and samples are made up.
        outputs: an array for each output; the first rows are those of the inputs.
        name: of the model, in the result: "keras", "given".
    """

    inputs: Sequence[np.ndarray] | None
    outputs: Sequence[np.ndarray] = ()
    name: str = "keras"


def require(names: Sequence[str]) -> None:
    """Raises ConfigError for a consumer that is unknown or not on this machine."""
    for name in names:
        consumers.CONSUMERS.get(name).require()


def prove(
    contents: Mapping[str, bytes],
    names: Sequence[str],
    *,
    truth: Truth,
    on_step: OnStep,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Runs every file in every consumer on the same samples.

    Args:
        contents: variant -> file.
        names: consumers; none: nothing is run.
        truth: what the files are held to beside the Interpreter.
        on_step: called with a line of text before each file.

    Returns:
        Variant -> consumer -> what `consumers.verify` says; {} without consumers.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for variant, content in contents.items() if names else ():
        on_step(f"running {variant} in {', '.join(names)}")
        inputs, outputs = consumers.made_up(content), None
        if truth.inputs is not None:
            named = tflite.read(content).input_names
            inputs = dict(zip(named, truth.inputs, strict=True))
            outputs = [array[: len(truth.inputs[0])] for array in truth.outputs]
        found[variant] = consumers.verify(
            content, inputs, names=names, expected=outputs, expected_of=truth.name
        )
    return found


def warnings(matrix: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Returns what consumers get wrong, with the advice."""
    lines = []
    for variant, rows in matrix.items():
        for name, row in rows.items():
            if row["status"] == "wrong":
                advice = " Give the GPU float16." if name == "gpu" else ""
                reason = row["reason"].rstrip(".")
                lines.append(f"{variant} is wrong in {name}: {reason}.{advice}")
            elif row["status"] == "refused":
                lines.append(f"{name} refuses {variant}: {row['reason']}")
    return lines


def first_inputs(
    batches: Iterable[tuple[Any, Any]], names: Sequence[str]
) -> list[np.ndarray]:
    """Returns the first examples of batches: an array for each input.

    Args:
        batches: of (x, targets); x as the model takes it.
        names: of the model's inputs, in the order that is wanted.
    """
    parts: list[list[np.ndarray]] = []
    for x, _ in batches:
        x = structure.in_order(x, names, what="inputs") if isinstance(x, dict) else x
        parts.append(
            [np.asarray(t) for t in (x if isinstance(x, list | tuple) else [x])]
        )
        if sum(len(part[0]) for part in parts) >= _SAMPLES:
            break
    return [np.concatenate(arrays)[:_SAMPLES] for arrays in zip(*parts, strict=True)]


def as_pictures(
    inputs: Sequence[np.ndarray], prepare: Preprocessing | None
) -> list[np.ndarray]:
    """Returns images as 8-bit pictures give them: some programs take nothing else.

    Resizing leaves pixels that are no whole numbers.

    Args:
        inputs: an array for each input.
        prepare: how pixels become the one input; None: they stay as they are.
    """
    if prepare is None or not prepare.is_image or len(inputs) != 1:
        return list(inputs)
    whole = np.rint(prepare.undo(inputs[0])).clip(0, 255)
    return [prepare.apply(whole.astype(np.uint8))]
