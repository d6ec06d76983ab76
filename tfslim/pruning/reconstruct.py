"""Accuracy back without training: kernels re-fitted to what the original computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfslim import checks, errors
from tfslim.graph import ir, keras_run, segment
from tfslim.graph import keras as graph_keras
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import least_squares, patches, places, proof
from tfslim.training import training

# Rows of the least-squares problem per unknown: below two the fit follows noise, and
# those of one image are alike.
_ROWS_PER_UNKNOWN = 20
_MAX_ROWS = 20_000
# A layer that lost nothing is fitted to what reaches it now if it has so many.
_LEAST_ROWS_PER_UNKNOWN = 2
# Channels that a normalization scales by less, relative to its largest, say nothing.
_LEAST_SCALE = 1e-4


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """What a reconstruction did.

    Attributes:
        errors: layer -> relative error of what it gives, behind its batch
            normalization, against the original's on the samples, before and after the
            fit. Where it is added to a shortcut, what it has to give is what the
            shortcut now lacks of the original's sum.
        skipped: layer that lost inputs, or whose inputs are others now -> why it was
            not fitted.
    """

    errors: Mapping[str, tuple[float, float]]
    skipped: Mapping[str, str]
    left_alone = checks.renamed("left_alone", "skipped")


@checks.by_name
def reconstruct_kernels(
    original: Any,
    smaller: Any,
    *,
    keep: Mapping[str, channels_lib.Mask],
    data: Iterable[Any],
    ridge: float = 1e-3,
    seed: int = 0,
) -> tuple[Any, Reconstruction]:
    """Re-fits every layer behind a cut to what it gave in the original.

    Layer by layer in the order of the graph: kernel and bias are the ridge regression
    from what reaches the layer now, after the layers before it were fitted, to what it
    gave before the cut. A layer that ends a residual branch is fitted to the original's
    sum, so that it also makes up for what the shortcut lost. The regularization is
    towards the cut kernel, not zero, so that few samples do little harm. Without a bias
    the constant goes into the mean of the batch normalization that follows.
    Source: He et al., "Channel Pruning for Accelerating Very Deep Neural Networks",
    ICCV 2017, https://arxiv.org/abs/1707.06168, section 3.1, step (ii), and 3.3.

    Args:
        original: the model before the cut.
        smaller: what `prune_channels` made of it; not changed.
        keep: the report's `keep`.
        data: batches of inputs or `(inputs, targets)`; some hundred samples.
        ridge: weight of the regularization, in units of the mean squared input.
        seed: of the choice of positions.

    Returns:
        The fitted model, not compiled, and what was done.

    Raises:
        DataError: there are no batches.
    """
    kind = graph_keras.keras_of(smaller)
    before, after = graph_keras.read(original), graph_keras.read(smaller)
    batches = [training.inputs_of(batch) for batch in data]
    if not batches:
        raise errors.DataError("Reconstruction needs data: there was no batch.")
    kept, lost, skipped = _layers_behind_cuts(before, keep)
    problems = [
        _Problem(before, after, name=name, outputs=outputs, num_batches=len(batches))
        for name, outputs in kept.items()
    ]
    _correct_sums(after, problems)
    _look_at_original(before, kind, problems=problems, batches=batches, seed=seed)
    flow = _Flow(kind, [p.wanted for p in problems], batches=_by_ref(after, batches))
    found: dict[str, tuple[float, float]] = {}
    for problem in problems:
        tensors = flow.advance(after)
        if problem.name not in lost and problem.has_few_rows():
            skipped[problem.name] = "has too few samples to be fitted to other inputs"
            continue
        changed, found[problem.name] = problem.solve(after, tensors, ridge=ridge)
        after = after.with_layers(changed)
    return graph_keras.write(after, kind), Reconstruction(found, skipped)


def _layers_behind_cuts(
    graph: ir.Graph, keep: Mapping[str, channels_lib.Mask]
) -> tuple[dict[str, channels_lib.Mask], set[str], dict[str, str]]:
    """Finds the layers that lost inputs, and those that get others.

    Returns:
        Layer to fit -> which of its outputs were kept; those of them that lost inputs;
        and layer that lost inputs -> why it is not fitted.
    """
    channels = channels_lib.analyze(graph)
    mask = channels.mask(keep)
    calls = places.Places(graph)
    fitted: dict[str, channels_lib.Mask] = {}
    lost: set[str] = set()
    skipped: dict[str, str] = {}
    changed: set[int] = set()
    for number, (node, wiring) in enumerate(
        zip(graph.nodes, channels.wirings, strict=True)
    ):
        layer = graph.layer_of(node)
        summed = wiring.sums.get("kernel")
        taken = None if summed is None else wiring.weights["kernel"][summed]
        has_lost = taken is not None and not mask[taken].all()
        if not has_lost and not changed & {ref.node for ref in node.inputs}:
            continue
        changed.add(number)
        why = patches.why_not(layer, calls)
        if why is None:
            outputs = wiring.weights.get("kernel", (None,))[-1]
            width = layer.weights["kernel"].shape[-1]
            everything = np.ones(width, bool)
            fitted[layer.name] = everything if outputs is None else mask[outputs]
            lost |= {layer.name} if has_lost else set()
        elif has_lost:
            skipped[layer.name] = why
    return fitted, lost, skipped


def _correct_sums(graph: ir.Graph, problems: Sequence[_Problem]) -> None:
    """Lets a layer make up for a shortcut only if all before the sum is fitted."""
    fitted = {problem.place.node for problem in problems}
    for problem in problems:
        needed, _ = segment.needed(graph, (), wanted=problem.place.others)
        if any(node > problem.place.node for node in fitted & set(needed)):
            problem.fit_alone()


def _look_at_original(
    graph: ir.Graph,
    kind: graph_keras.KerasName,
    *,
    problems: Sequence[_Problem],
    batches: Sequence[Any],
    seed: int,
) -> None:
    """Brings every problem what the original reads and gives, at chosen positions."""
    looks = [problem.looks_at for problem in problems]
    # The model's own outputs too: writing leaves out what no output needs.
    ends = [*(ref for refs in looks for ref in refs), *graph.output_refs]
    model = keras_run.write(dataclasses.replace(graph, outputs=ends), kind)
    for number, batch in enumerate(batches):
        tensors = iter(model(batch, training=False))
        random = np.random.default_rng([seed, number])
        for problem, refs in zip(problems, looks, strict=True):
            problem.add_targets([np.asarray(next(tensors)) for _ in refs], random)


def _by_ref(
    graph: ir.Graph, batches: Sequence[Any]
) -> Iterator[dict[ir.TensorRef, Any]]:
    """Yields the batches, each as a tensor by its place in the graph."""
    for batch in batches:
        if isinstance(batch, Mapping) and not isinstance(graph.inputs, Mapping):
            layers = {graph.nodes[ref.node].layer: ref for ref in graph.input_refs}
            yield {layers[name]: array for name, array in batch.items()}
        elif isinstance(batch, Mapping):
            yield {graph.inputs[name]: array for name, array in batch.items()}
        else:
            yield dict(zip(graph.input_refs, proof.flat(batch), strict=True))


class _Flow:
    """Runs the smaller model for one layer's inputs after the other's.

    Only what lies between two layers is run, with the weights that the graph has then.
    """

    def __init__(
        self,
        kind: graph_keras.KerasName,
        wanted: Sequence[tuple[ir.TensorRef, ...]],
        *,
        batches: Iterable[dict[ir.TensorRef, Any]],
    ):
        self._kind, self._wanted = kind, list(wanted)
        self._batches = list(batches)

    def advance(self, graph: ir.Graph) -> list[list[ir.Array]]:
        """Returns the tensors that are wanted next, for each batch."""
        wanted = self._wanted.pop(0)
        known = self._batches[0].keys()
        new = [ref for ref in dict.fromkeys(wanted) if ref not in known]
        if new:
            part, read = segment.between(graph, known, wanted=new)
            model = keras_run.write(part, self._kind)
            for batch in self._batches:
                got = model([batch[ref] for ref in read], training=False)
                got = got if isinstance(got, list | tuple) else [got]
                batch.update(zip(new, map(np.asarray, got), strict=True))
        tensors = [[batch[ref] for ref in wanted] for batch in self._batches]
        later = [ref for refs in self._wanted for ref in refs]
        _, used = segment.needed(graph, self._batches[0].keys(), wanted=later)
        self._batches = [{ref: batch[ref] for ref in used} for batch in self._batches]
        return tensors


class _Problem:
    """The least squares of one layer, on positions chosen at random."""

    def __init__(
        self,
        before: ir.Graph,
        after: ir.Graph,
        *,
        name: str,
        outputs: channels_lib.Mask,
        num_batches: int,
    ):
        self.name = name
        self.place = places.Places(after).of(name)
        self._layer, self._outputs = before.layers[name], outputs
        self._place_before = places.Places(before).of(name)
        norm = self._place_before.norm
        width = self._layer.weights["kernel"].shape[-1]
        self._affine = places.Affine.of(before.layers[norm] if norm else None, width)
        self._unknowns = int(np.prod(after.layers[name].weights["kernel"].shape[:-1]))
        total = min(_MAX_ROWS, _ROWS_PER_UNKNOWN * (self._unknowns + 1))
        self._rows_per_batch = -(-total // num_batches)
        self._chosen: list[ir.Array] = []
        self._targets: list[ir.Array] = []
        if (self._place_before.total is None) != (self.place.total is None):
            self.fit_alone()

    def fit_alone(self) -> None:
        """Gives up to make up for a shortcut."""
        self.place, self._place_before = (
            dataclasses.replace(place, total=None, others=())
            for place in (self.place, self._place_before)
        )

    @property
    def wanted(self) -> tuple[ir.TensorRef, ...]:
        """What has to be known of the smaller model."""
        return (self.place.inputs, *self.place.others)

    @property
    def looks_at(self) -> tuple[ir.TensorRef, ...]:
        """What has to be known of the original."""
        total = self._place_before.total
        return (self._place_before.inputs, *([] if total is None else [total]))

    def has_few_rows(self) -> bool:
        """Tells whether there are too few positions for so many unknowns."""
        rows = sum(map(len, self._chosen))
        return rows < _LEAST_ROWS_PER_UNKNOWN * self._unknowns

    def add_targets(
        self, tensors: Sequence[ir.Array], random: np.random.Generator
    ) -> None:
        """Chooses positions of a batch, and adds what the original gives there."""
        inputs, *total = tensors
        count = patches.num_positions(self._layer, inputs)
        if count > self._rows_per_batch:
            chosen = random.choice(count, self._rows_per_batch, replace=False)
        else:
            chosen = np.arange(count)
        if total:
            target = patches.outputs(self._layer, total[0])[chosen]
        else:
            weights = self._layer.weights
            rows = patches.patches(self._layer, inputs, positions=chosen)
            target = rows @ patches.matrix(weights["kernel"]) + weights.get("bias", 0.0)
            target = target * self._affine.scale + self._affine.shift
        self._chosen.append(chosen)
        self._targets.append(target[:, self._outputs])

    def solve(
        self, graph: ir.Graph, tensors: Sequence[Sequence[ir.Array]], *, ridge: float
    ) -> tuple[dict[str, ir.Layer], tuple[float, float]]:
        """Returns the layers that changed, and the relative error before and after.

        Args:
            graph: the smaller model now.
            tensors: what is `wanted`, for each batch.
            ridge: as for `reconstruct_kernels`.
        """
        layer = graph.layers[self.name]
        norm = graph.layers[self.place.norm] if self.place.norm else None
        kernel, bias = layer.weights["kernel"], layer.weights.get("bias")
        affine = places.Affine.of(norm, kernel.shape[-1])
        rows, target = self._rows(layer, tensors)
        start = patches.matrix(kernel).astype(np.float64) * affine.scale
        level = affine.shift + (0.0 if bias is None else bias * affine.scale)
        fitted, constant = least_squares.fit(
            rows,
            target,
            start=start,
            ridge=ridge,
            has_intercept=bias is not None or norm is not None,
        )
        if bias is None and norm is None:
            constant = level
        scale = np.linalg.norm(target) or 1.0
        error = (
            float(np.linalg.norm(target - rows @ start - level) / scale),
            float(np.linalg.norm(target - rows @ fitted - constant) / scale),
        )
        if not error[1] < error[0]:
            return {}, (error[0], error[0])
        return _with_map(
            layer, norm, affine=affine, fitted=fitted, constant=constant
        ), error

    def _rows(
        self, layer: ir.Layer, tensors: Sequence[Sequence[ir.Array]]
    ) -> tuple[ir.Array, ir.Array]:
        """Returns what reaches the chosen positions, and what is to come of it."""
        rows, targets = [], []
        for (inputs, *others), chosen, target in zip(
            tensors, self._chosen, self._targets, strict=True
        ):
            rows.append(patches.patches(layer, inputs, positions=chosen))
            for other in others:
                target = target - patches.outputs(layer, other)[chosen]
            targets.append(target)
        return np.concatenate(rows), np.concatenate(targets)


def _with_map(
    layer: ir.Layer,
    norm: ir.Layer | None,
    *,
    affine: places.Affine,
    fitted: ir.Array,
    constant: ir.Array,
) -> dict[str, ir.Layer]:
    """Returns layer and normalization that together give an affine map.

    Channels that the normalization hardly lets pass stay as they are.
    """
    size = np.abs(affine.scale)
    passes = size > _LEAST_SCALE * size.max(initial=0.0)
    scale = np.where(passes, affine.scale, 1.0)
    weights = dict(layer.weights)
    shape, dtype = weights["kernel"].shape, weights["kernel"].dtype
    kernel = np.where(passes, fitted / scale, patches.matrix(weights["kernel"]))
    weights["kernel"] = kernel.reshape(shape).astype(dtype)
    rest = (constant - affine.shift) / scale
    changed = {layer.name: layer}
    if "bias" in weights:
        weights["bias"] = np.where(passes, rest, weights["bias"]).astype(dtype)
    elif norm is not None:
        mean = norm.weights["moving_mean"]
        moved = np.where(passes, mean - rest, mean).astype(mean.dtype)
        changed[norm.name] = dataclasses.replace(
            norm, weights={**norm.weights, "moving_mean": moved}
        )
    changed[layer.name] = dataclasses.replace(layer, weights=weights)
    return changed
