"""Pruning single weights while a model trains, with TF-MOT's schedules and masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tf_keras
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_wrapper

from tfslim import checks, errors, registry
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras
from tfslim.sparsity import kernels, padding, wrapped
from tfslim.sparsity.library import tfmot
from tfslim.sparsity.masks import Pattern, PatternPruneLowMagnitude

SCHEDULES = ("polynomial", "constant")
_SHARE = "It is the share of zeros: 0.8 leaves a fifth of the weights."
# A mask is made anew this often while sparsity rises.
_UPDATES = 100


def prune_magnitude(
    model: Any,
    *,
    target: float = 0.8,
    schedule: str = "polynomial",
    steps: int,
    ignore: str | Iterable[str] = (),
) -> wrapped.Wrapped:
    """Zeroes the smallest weights of each kernel while the model trains.

    Within the context, compile and fit `training.model` with `training.callbacks`;
    after it, `training.result` is the plain model. Depthwise kernels stay whole, as
    TF-MOT has it. Source: Zhu and Gupta, "To prune, or not to prune", 2017,
    https://arxiv.org/abs/1710.01878.

    Args:
        model: a functional or Sequential model of tf_keras or Keras 3, trained;
            not changed.
        target: share of zeros in every kernel at the end, in (0, 1).
        schedule: "polynomial" raises the sparsity from 0 to `target` within `steps`,
            fast at first; "constant" prunes to `target` at the first step and chooses
            the weights anew until `steps`.
        steps: training steps after which the masks stay. Train on after them: that is
            when accuracy comes back.
        ignore: names of layers, or patterns such as "stem*", or one of them, to
            leave whole.

    Raises:
        ConfigError: a number is out of range, a name unknown, or no layer can be
            pruned; on leaving, that no training step ran.
        GraphError: the model cannot be read.
    """
    checks.number("target", target, span="(0, 1)", hint=_SHARE)
    wrap = _wrapper(make_schedule(schedule, target, steps=steps))
    return _pruned(model, f"Pruned to {target:.0%} zeros", wrap=wrap, ignore=ignore)


def prune_m_by_n(
    model: Any, *, m: int = 2, n: int = 4, ignore: str | Iterable[str] = ()
) -> wrapped.Wrapped:
    """Zeroes m of every n consecutive inputs of each output, from the first step on.

    The groups lie along the last axis of the kernel in a `.tflite`. Kernels with
    fewer than n input channels stay whole. Used as `prune_magnitude`. Source: Mishra
    et al., "Accelerating sparse deep neural networks", 2021,
    https://arxiv.org/abs/2104.08378.

    Args:
        model: as for `prune_magnitude`.
        m: zeros in each group, at least 1.
        n: weights in each group, above `m`.
        ignore: names or patterns of layers to leave whole.

    Raises:
        ConfigError: as `prune_magnitude`.
        GraphError: the model cannot be read.
    """
    if not 0 < m < n:
        raise errors.ConfigError(f"m and n must be 0 < m < n, got {m} and {n}.")

    def refusal(layer: ir.Layer) -> str | None:
        inputs = kernels.num_inputs(layer)
        if inputs < n:
            return f"{inputs} input channels make no group of {n}"
        return None

    wrap = _wrapper(make_schedule("constant", m / n, steps=1), Pattern(m_by_n=(m, n)))
    name = f"Pruned {m} of every {n} weights"
    return _pruned(model, name, wrap=wrap, ignore=ignore, refusal=refusal)


def prune_blocks(
    model: Any,
    *,
    target: float = 0.8,
    block: tuple[int, int] = (1, 4),
    schedule: str = "polynomial",
    steps: int,
    ignore: str | Iterable[str] = (),
) -> wrapped.Wrapped:
    """Zeroes blocks of weights, those with the smallest mean magnitude first.

    TF-MOT takes blocks for Dense layers only; here convolutions have them too, at
    each position of the kernel. Used as `prune_magnitude`.

    Args:
        model: as for `prune_magnitude`.
        target: share of zero blocks in every kernel at the end, in (0, 1).
        block: (inputs, outputs) of a block. XNNPACK's sparse kernels take (1, 2) and
            (1, 4).
        schedule: as for `prune_magnitude`.
        steps: as for `prune_magnitude`.
        ignore: names or patterns of layers to leave whole.

    Raises:
        ConfigError: as `prune_magnitude`.
        GraphError: the model cannot be read.
    """
    checks.number("target", target, span="(0, 1)", hint=_SHARE)
    if len(block) != 2 or min(block) < 1 or tuple(block) == (1, 1):
        raise errors.ConfigError(
            f"block must be two numbers (inputs, outputs), not both 1, got {block}."
        )

    def refusal(layer: ir.Layer) -> str | None:
        if kernels.kernel_of(layer).size < 2 * block[0] * block[1]:
            return f"its kernel is smaller than two blocks of {block[0]}x{block[1]}"
        return None

    wrap = _wrapper(make_schedule(schedule, target, steps=steps), Pattern(block=block))
    name = f"Pruned to {target:.0%} zero blocks of {block[0]}x{block[1]}"
    return _pruned(model, name, wrap=wrap, ignore=ignore, refusal=refusal)


def prune_for_xnnpack(
    model: Any,
    *,
    target: float = 0.8,
    schedule: str = "polynomial",
    steps: int,
    symmetric_padding: bool = False,
    ignore: str | Iterable[str] = (),
) -> wrapped.Wrapped:
    """Prunes the 1x1 convolutions alone, where XNNPACK's sparse kernels could run.

    TF-MOT's `PruneForLatencyOnXNNPack` first checks that the model has the form these
    kernels need: a 3x3 convolution with stride 2 over 3 channels, padded by 1 on each
    side, at the start; 1x1 and such depthwise convolutions; global average pooling.
    Used as `prune_magnitude`. Source: Elsen et al., "Fast Sparse ConvNets", CVPR 2020,
    https://arxiv.org/abs/1911.09723.

    Args:
        model: as for `prune_magnitude`.
        target: as for `prune_magnitude`; XNNPACK wants more than two thirds.
        schedule: as for `prune_magnitude`.
        steps: as for `prune_magnitude`.
        symmetric_padding: first pad convolutions with stride 2 alike on both sides.
            It moves their grid by a pixel, which the training must make good.
        ignore: names or patterns of layers to leave whole.

    Raises:
        ConfigError: as `prune_magnitude`, and if the model has another form.
        GraphError: the model cannot be read.
    """
    checks.number("target", target, span="(0, 1)", hint=_SHARE)
    graph = graph_keras.read(model)
    if symmetric_padding:
        graph = padding.symmetric(graph)
    policy = tfmot.sparsity.keras.PruneForLatencyOnXNNPack()
    try:
        shown = graph.with_layers(_as_the_policy_knows(graph))
        policy.ensure_model_supports_pruning(graph_keras.write(shown, "tf_keras"))
    except ValueError as error:
        raise errors.ConfigError(
            f"'{graph.name}' has not the form of XNNPACK's sparse inference: "
            f"{' '.join(str(error).split())}. symmetric_padding mends the padding of "
            "strided convolutions; for the rest use prune_magnitude."
        ) from None

    def refusal(layer: ir.Layer) -> str | None:
        size = kernels.kernel_of(layer).shape[:2]
        return None if layer.op == "Conv2D" and size == (1, 1) else "no 1x1 convolution"

    wrap = _wrapper(make_schedule(schedule, target, steps=steps))
    name = f"Pruned to {target:.0%} zeros in 1x1 convolutions"
    return _pruned(model, name, wrap=wrap, ignore=ignore, refusal=refusal, graph=graph)


def make_schedule(name: str, target: float, *, steps: int) -> Any:
    """Returns TF-MOT's schedule whose last update is not after step `steps`.

    Raises:
        ConfigError: there is no such schedule, or `steps` is below 1.
    """
    checks.whole("steps", steps)
    frequency = max(1, steps // _UPDATES)
    if name == "polynomial":
        # It updates at multiples of the frequency alone: the last must have the target.
        return tfmot.sparsity.keras.PolynomialDecay(
            initial_sparsity=0.0,
            final_sparsity=target,
            begin_step=0,
            end_step=steps // frequency * frequency,
            frequency=frequency,
        )
    if name == "constant":
        # The wrapper counts from 1.
        return tfmot.sparsity.keras.ConstantSparsity(
            target, begin_step=1, end_step=steps, frequency=frequency
        )
    raise registry.unknown_name("schedule", name, known=SCHEDULES)


def _as_the_policy_knows(graph: ir.Graph) -> dict[str, ir.Layer]:
    """Returns stand-ins for layers that XNNPACK runs and the policy has not heard of.

    A Rescaling, as in a hard swish, is a multiplication and an addition in the file.
    """
    config = {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}
    return {
        name: ir.Layer(name, "ReLU", {"dtype": "float32", **config})
        for name, layer in graph.layers.items()
        if layer.op == "Rescaling"
    }


def _unfinished(schedule: Any, trained: int) -> tuple[str, ...]:
    """Says that the training ended before the sparsity had risen."""
    rises = isinstance(schedule, tfmot.sparsity.keras.PolynomialDecay)
    if not rises or trained >= schedule.end_step:
        return ()
    return (
        f"The target was not reached: {trained} of {schedule.end_step} steps were "
        "trained.",
    )


def _wrapper(schedule: Any, pattern: Pattern | None = None) -> Callable[[Any], Any]:
    def wrap(layer: Any) -> Any:
        if pattern is None:
            return pruning_wrapper.PruneLowMagnitude(layer, schedule)
        return PatternPruneLowMagnitude(
            layer, pattern=pattern, pruning_schedule=schedule
        )

    return wrap


def _steps_run(wrapper: Any) -> int:
    """Returns how many steps a wrapped layer was trained for; at least one."""
    trained = int(wrapper.pruning_step.numpy())
    if trained < 1:
        raise errors.ConfigError(
            "Nothing was pruned: no training step ran inside the context. Fit "
            "training.model there."
        )
    return trained


def _pruned(
    model: Any,
    method: str,
    *,
    wrap: Callable[[Any], Any],
    ignore: str | Iterable[str],
    refusal: Callable[[ir.Layer], str | None] = lambda layer: None,
    graph: ir.Graph | None = None,
) -> wrapped.Wrapped:
    graph = graph or graph_keras.read(model)
    chosen, skipped = kernels.choose(
        graph, ignore, known=kernels.PRUNABLE, refusal=refusal
    )
    copy = graph_keras.write(graph, "tf_keras")
    variables = graph_keras.variables(graph, copy)
    clone = tf_keras.models.clone_model(
        copy, clone_function=lambda n: wrap(n) if n.name in chosen else n
    )
    wrappers = pruning_wrapper.collect_prunable_layers(clone)
    for wrapper in wrappers:
        # TF-MOT's callback does this; so a loop of one's own, or a fit without the
        # callback, prunes as well.
        wrapper.pruning_step.assign(0)

    def mask() -> None:
        for wrapper in wrappers:
            wrapper.pruning_obj.weight_mask_op()

    def finish() -> tuple[Any, wrapped.SparsityReport]:
        trained = _steps_run(wrappers[0])
        mask()
        values = wrapped.values_of(variables)
        pruned = {
            name: f"{np.mean(kernels.kernel_in(graph.layers[name], values) == 0):.1%} "
            "zeros"
            for name in chosen
        }
        result = wrapped.with_weights(graph, values, keras=graph_keras.keras_of(model))
        notes = _unfinished(wrappers[0].pruning_schedule, trained)
        return result, wrapped.SparsityReport(method, pruned, skipped, notes)

    return wrapped.Wrapped(
        clone,
        finish,
        callbacks=[tfmot.sparsity.keras.UpdatePruningStep()],
        after_step=mask,
    )
