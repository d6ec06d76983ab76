"""How many samples a run may take without changing a bit of any activation."""

from __future__ import annotations

import numpy as np

from tfslim import errors, tflite

# Samples of a run; as many single ones are spent on the proof.
_COUNT = 8
# Bytes of all activations of such a run: about what a processor's cache holds.
_MOST_BYTES = 2**23


def take_groups(runner: tflite.Runner, activations: list[tflite.Tensor]) -> bool:
    """Makes a run take several samples, where that is worth it and changes nothing.

    A small network's run is short against the handling of its tensors. It stays at one
    sample where the activations are large, where an op does not follow the first
    dimension, or where the runtime computes other bits for a sample among others.

    Args:
        runner: keeps all tensors.
        activations: those that will be read.

    Returns:
        Whether the runner is still of use; if not, its file takes one at a time.
    """
    if not _is_worth_it(runner.model, activations):
        return True
    try:
        return _is_same(runner, activations)
    except errors.ConversionError:
        return False


def readable(
    runner: tflite.Runner, activations: list[tflite.Tensor]
) -> list[tflite.Tensor]:
    """Returns those that can be looked at after a run.

    The runtime does not keep what it makes of constants for nobody.
    """

    def is_kept(tensor: tflite.Tensor) -> bool:
        try:
            runner.interpreter.tensor(tensor.index)()
        except ValueError:
            return False
        return True

    return [tensor for tensor in activations if is_kept(tensor)]


def _is_worth_it(model: tflite.TfliteModel, activations: list[tflite.Tensor]) -> bool:
    graph = model.graphs[0]
    if len(model.graphs) > 1 or any(t.is_variable for t in graph.tensors):
        return False
    if 4 * _COUNT * sum(tensor.size for tensor in activations) > _MOST_BYTES:
        return False
    return all(
        t.dtype == "float32"
        and t.shape[:1] == (1,)
        and t.shape[1:] == t.shape_signature[1:]
        for t in (*graph.inputs, *activations)
    )


def _is_same(runner: tflite.Runner, activations: list[tflite.Tensor]) -> bool:
    """Sets the batch, and tells whether random samples give the same bits in it.

    They are random, not the user's, so that no two are alike, and what is found does
    not depend on the order of the samples.
    """
    random = np.random.default_rng(0)
    names = runner.model.input_names
    samples = [
        {
            name: random.random(runner.model.tensors[index].shape, np.float32)
            for name, index in names.items()
        }
        for _ in range(_COUNT)
    ]
    alone: list[list[np.ndarray]] = []
    for sample in samples:
        runner.set_inputs(sample)
        runner.invoke()
        activations = activations if alone else readable(runner, activations)
        alone.append([runner.interpreter.get_tensor(t.index) for t in activations])
    runner.set_batch(_COUNT)
    for row, sample in enumerate(samples):
        runner.set_inputs(sample, row)
    runner.invoke()
    return all(
        np.array_equal(np.concatenate(rows), runner.interpreter.get_tensor(t.index))
        for rows, t in zip(zip(*alone, strict=True), activations, strict=True)
    )
