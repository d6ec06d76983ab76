"""Which layers lose most by quantization."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from tfslim import checks, errors, tflite
from tfslim.quantization.candidate_files import Candidates
from tfslim.quantization.layers.layer_names import LayerNames
from tfslim.quantization.options import Options
from tfslim.quantization.quantize import quantize
from tfslim.quantization.ranges.calibration import Calibration, check_ranges_of
from tfslim.quantization.ranges.collect import Samples, kept_singles
from tfslim.quantization.rules import kept_float, recipe
from tfslim.quantization.rules.preprocess_model import prepare

OnStep = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class LayerError:
    """What quantizing one op alone does to the model's output.

    Attributes:
        op: its name, e.g. "CONV_2D".
        layer: Keras layer that it comes from, "" where the file does not tell.
        tensor: name of its first output.
        sqnr_db: of the worst output, all other ops in float; small is bad.
        worst_sample_db: the same of the worst sample.
    """

    op: str
    layer: str
    tensor: str
    sqnr_db: float
    worst_sample_db: float


@checks.by_name
def rank_layers(
    model: bytes,
    calibration: Calibration,
    *,
    samples: Samples,
    recipe_name: str | recipe.Recipe = "int8",
    on_step: OnStep = lambda text: None,
) -> list[LayerError]:
    """Quantizes one op at a time and measures the model's output.

    Args:
        model: the float `.tflite`.
        calibration: ranges for it.
        samples: what to measure on, about 32; all are kept in memory.
        recipe_name: a static recipe.
        on_step: called with a line of text before each op.

    Returns:
        A row for each op that the recipe quantizes, the worst first.

    Raises:
        ConfigError: `calibration` is of another model, or there is no sample.
    """
    source = prepare(model)
    check_ranges_of(calibration, source)
    files = Candidates(source, kept_singles(samples, tflite.read(source)))
    chosen = recipe.get(recipe_name)
    options = Options().for_target(chosen.scheme, chosen.name)
    done = quantize(source, chosen, options=options, ranges=calibration)
    stays_float = {row.tensor for row in done.kept_float}
    names = LayerNames(tflite.read(files.source))
    rows = []
    for op in files.graph.ops:
        tensor = files.graph.tensors[op.outputs[0]].name
        scope = kept_float.scope(op, files.graph)
        rule = recipe.deciding(done.rules, op.name, scope=scope)
        if tensor in stays_float or rule is None:
            continue
        on_step(f"quantizing {op.name} {op.index + 1} of {len(files.graph.ops)} alone")
        alone = {**rule, **kept_float.rule_of(op, files.graph)}
        try:
            measured = files.measure(files.quantize(calibration.ranges, [alone]))
        except errors.TfslimError as error:
            # litert-quantizer or the runtime has no integers for it: it stays float.
            on_step(f"{op.name} is left out: {error}")
            continue
        rows.append(LayerError(op.name, names.first(op), tensor, *measured))
    return sorted(rows, key=lambda row: row.sqnr_db)
