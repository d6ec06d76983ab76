"""Removing channels from Keras models, with the proof that nothing else changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfslim import checks, errors
from tfslim.graph import count, ir
from tfslim.graph import keras as graph_keras
from tfslim.pruning import (
    batch_statistics,
    constants,
    criteria,
    output_error,
    proof,
    surgery,
)
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import ratios as ratios_lib
from tfslim.pruning import scores as scores_lib
from tfslim.training import training

# Limit of a budget -> the sum of `graph.count` that a removal is to save.
_SAVED = {"max_params": "params", "max_weight_bytes": "weight_bytes"}


@dataclasses.dataclass(frozen=True)
class PruneReport:
    """What pruning did to a model, and how far that is proved.

    Attributes:
        cut: layer by layer, before and after.
        keep: for each group, which channels stayed.
        error: largest relative difference between the cut model and the original with
            the same channels masked, on random and on given inputs.
        folding: what became of removed channels that are constant; None if not asked.
        skipped: layers and groups that stayed whole, with the reason.
        notes: what the user should know before the next step.
    """

    cut: surgery.CutReport
    keep: Mapping[str, channels_lib.Mask]
    error: float
    folding: constants.Folding | None
    skipped: Mapping[str, str]
    notes: tuple[str, ...]
    left_alone = checks.renamed("left_alone", "skipped")

    def __str__(self) -> str:
        """The table of layers, the proof, what was skipped and the notes."""
        lines = [
            *self.cut.lines(),
            f"proof: cut equals masked within {self.error:.1e}",
            *(f"skipped: {name}: {why}" for name, why in self.skipped.items()),
            *self.notes,
        ]
        return "\n".join(lines)


def prune_channels(
    model: Any,
    *,
    pruning_ratio: float | None = None,
    criterion: str | criteria.Criterion | scores_lib.Scoring = "l1_norm",
    budget: budget_lib.Budget | None = None,
    ratios: Mapping[str, float] | None = None,
    data: Iterable[Any] | None = None,
    loss: Any = None,
    fold: str = "exact",
) -> tuple[Any, PruneReport]:
    """Removes the least important channels of a Keras model.

    The result is a plain functional model of the same Keras, smaller and not
    compiled; the model itself is not changed. Before it is returned, it is compared
    with the original in which the same channels are masked, saved and loaded.

    Args:
        model: a functional or Sequential model of tf_keras or Keras 3.
        pruning_ratio: share of channels to remove from every group, in [0, 1).
        criterion: a registered name, a function (see `pruning.criteria.base`), or a
            `Scoring` with all its options. `reconstruction` removes what the layers
            behind can be fitted to do without (see `output_error.score`): with data
            without labels, `Budget(scope="global")` and then `reconstruct_kernels`
            it needs no training.
        budget: limits, patterns and widths, in place of `pruning_ratio`.
        ratios: name or pattern of a layer -> share of its channels to remove, in place
            of both, see `ratios_from_sparsity`. Layers whose channels fall together
            lose the mean of theirs.
        data: batches `(inputs, targets)`, or of inputs alone; the proof runs on the
            first one, and criteria that need gradients run on all.
        loss: a Keras loss or its name, for criteria that need gradients.
        fold: what to do with removed channels that are constant: `exact` moves them
            into the next bias where that changes nothing, `all` also where it errs at
            the border of padded convolutions, `none` drops them.

    Returns:
        The smaller model and the report.

    Raises:
        ConfigError: an option, or a limit that cannot be met.
        GraphError: the model cannot be read or rebuilt.
        VerificationError: the cut model differs from the masked one, or cannot be
            saved and loaded while the original can.

    Example:
        smaller, report = prune_channels(model, pruning_ratio=0.5)
        print(report)
    """
    constants.check_mode(fold)
    kind = graph_keras.keras_of(model)
    graph = graph_keras.read(model)
    budget, unused = _budget(graph, pruning_ratio, budget=budget, ratios=ratios)
    batches = None if data is None else list(data)
    channels = budget_lib.analyze(graph, budget)
    limit = budget_lib.limit_of(budget)
    scores = score_by(
        channels, kind, criterion=criterion, batches=batches, loss=loss, limit=limit
    )
    keep = budget_lib.plan(channels, scores, budget=budget)
    return cut_and_prove(
        channels,
        keep,
        kind=kind,
        batches=batches or (),
        fold=fold,
        skipped={**unused, **scores.unscored, **whole_groups(keep, budget)},
        original=model,
    )


def cut_and_prove(
    channels: channels_lib.Channels,
    keep: Mapping[str, channels_lib.Mask],
    *,
    kind: graph_keras.KerasName,
    batches: Sequence[Any] = (),
    fold: str = "exact",
    skipped: Mapping[str, str] | None = None,
    original: Any = None,
) -> tuple[Any, PruneReport]:
    """Cuts what was chosen and compares with the original, masked.

    Args:
        channels: the analysis of the model's graph.
        keep: for each group to cut, one bool per channel.
        kind: the Keras to build the smaller model in.
        batches: the proof runs on the first, besides random inputs.
        fold: as for `prune_channels`.
        skipped: what was not cut, with reasons for the report.
        original: the model that the graph was read from, if there is one.

    Raises:
        VerificationError: the cut model differs from the masked one, or cannot be
            saved and loaded while the original can.
    """
    graph = channels.graph
    folding = None
    whole = graph
    if fold != "none":
        whole, folding = constants.fold_constants(
            graph, keep, channels=channels, same_padding=fold == "all"
        )
    whole_channels = dataclasses.replace(channels, graph=whole)
    smaller, cut = surgery.cut_channels(whole, keep, channels=whole_channels)
    # What folding added to the biases was not in the model that the user had.
    cut = dataclasses.replace(cut, before=count.count(graph))
    masked = surgery.mask_channels(whole, keep, channels=whole_channels)
    written = graph_keras.write(smaller, kind)
    inputs = [proof.random_inputs(graph)]
    if batches:
        inputs.append(proof.flat(training.inputs_of(batches[0])))
    error = proof.prove(masked, smaller, kind=kind, inputs=inputs)
    lost = proof.check_savable(written, smaller, original=original, inputs=inputs[-1])
    report = PruneReport(
        cut=cut,
        keep=keep,
        error=error,
        folding=folding,
        skipped=skipped or {},
        notes=_notes(folding, lost),
    )
    return written, report


def budget_of(
    pruning_ratio: float | None, budget: budget_lib.Budget | None
) -> budget_lib.Budget:
    """Returns the one of both that was given, as a budget."""
    if (pruning_ratio is None) == (budget is None):
        raise errors.ConfigError(
            "Pass either pruning_ratio (0.5 removes half of the channels) or a Budget."
        )
    return budget or budget_lib.Budget(pruning_ratio=pruning_ratio)


def _budget(
    graph: ir.Graph,
    pruning_ratio: float | None,
    *,
    budget: budget_lib.Budget | None,
    ratios: Mapping[str, float] | None,
) -> tuple[budget_lib.Budget, dict[str, str]]:
    """Returns the budget, and why ratios of layers were not used."""
    if [pruning_ratio, budget, ratios].count(None) != 2:
        raise errors.ConfigError(
            "Pass one of pruning_ratio (0.5 removes half of the channels), a Budget, "
            "and ratios by layer."
        )
    if ratios is None:
        return budget_of(pruning_ratio, budget), {}
    used, unused = ratios_lib.group_ratios(channels_lib.analyze(graph), ratios)
    # Groups without a ratio stay whole.
    return budget_lib.Budget(pruning_ratio=0.0, ratios=used), unused


def score_by(
    channels: channels_lib.Channels,
    kind: graph_keras.KerasName,
    *,
    criterion: str | criteria.Criterion | scores_lib.Scoring,
    batches: Sequence[Any] | None,
    loss: Any,
    limit: str | None = None,
) -> scores_lib.Scores:
    """Scores the channels of a model.

    Arguments are as for `prune_channels`; `limit` is that of the budget, which says
    what a removal is to save.
    """
    if criterion == output_error.NAME:
        per = _SAVED.get(limit or "", "macs")
        return output_error.score(channels, kind, batches=batches or (), per=per)
    scoring = criterion
    if not isinstance(scoring, scores_lib.Scoring):
        scoring = scores_lib.Scoring(criterion=scoring)
    needs = criteria.needed_arrays(criteria.resolve(scoring.criterion))
    if needs & criteria.DATA_ARRAYS and not scoring.statistics:
        if not batches:
            raise errors.ConfigError(
                f"This criterion looks at {', '.join(sorted(needs))}: pass data, "
                "batches of inputs and targets, and the loss if it looks at gradients."
            )
        found = batch_statistics.gather(
            channels.graph, kind, batches=batches, needs=needs, loss=loss
        )
        scoring = dataclasses.replace(scoring, statistics=found)
    return scores_lib.score_channels(channels, scoring)


def check_criterion(name: str) -> None:
    """Raises ConfigError unless a criterion has this name."""
    if name != output_error.NAME:
        criteria.CRITERIA.get(name)


def whole_groups(
    keep: Mapping[str, channels_lib.Mask], budget: budget_lib.Budget
) -> dict[str, str]:
    """Returns the groups that a budget leaves whole, with the reason."""
    return {
        name: f"its {len(kept)} channels are the fewest that the ratio, "
        f"divisor={budget.divisor} and min_channels={budget.min_channels} allow"
        for name, kept in keep.items()
        if kept.all()
    }


def _notes(folding: constants.Folding | None, lost: str | None) -> tuple[str, ...]:
    notes = ["The model is not compiled: its optimizer's state fits the old weights."]
    if lost:
        notes.append(f"The model does not load from a file, as before: {lost}.")
    if folding and folding.padded:
        notes.append(
            "Constants were folded across zero padding, which errs at the border: "
            + ", ".join(folding.padded)
        )
    if folding and folding.left:
        notes.append(
            "Constant channels were dropped, not folded, before: "
            + ", ".join(folding.left)
            + ". Recalibrate or fine-tune, or pass fold='all'."
        )
    return tuple(notes)


def scale_width(
    model: Any,
    alpha: float,
    *,
    criterion: str | criteria.Criterion | scores_lib.Scoring = "l1_norm",
    divisor: int = 8,
) -> tuple[Any, PruneReport]:
    """Multiplies the width of every layer that can be cut, keeping the best channels.

    Args:
        model: as for `prune_channels`.
        alpha: width multiplier, in (0, 1].
        criterion: what the best channels are.
        divisor: widths are rounded up to a multiple of it; 8 is MobileNet's.

    Raises:
        ConfigError: `alpha` is out of range.
    """
    checks.number(
        "alpha",
        alpha,
        span="(0, 1]",
        hint="0.5 halves every layer's width; a wider model has to be built and "
        "trained.",
    )
    budget = budget_lib.Budget(pruning_ratio=1.0 - alpha, divisor=divisor)
    return prune_channels(model, criterion=criterion, budget=budget)
