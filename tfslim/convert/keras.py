"""Keras → float `.tflite`: one frozen function, static shapes, builtin ops only.

The model is traced with fixed shapes and its variables are frozen into the graph
before the converter sees it. The converter's own paths, by way of a SavedModel or of
the Keras model, give the same operations at three to nine times the time; see
docs/adr/0002-conversion-by-freezing.md.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfslim import apps, errors, registry, targets, tflite
from tfslim.convert import (
    converter,
    detour,
    finite,
    formulas,
    freeze,
    fused,
    recurrent,
    seeds,
    tables,
)
from tfslim.graph import keras as graph_keras
from tfslim.graph import keras_run
from tfslim.tflite import flatbuffer, signature, upsampling
from tfslim.tflite import metadata as metadata_lib


@dataclasses.dataclass(frozen=True)
class ConvertResult:
    """A float `.tflite` and what its conversion met.

    Attributes:
        tflite: the file's bytes.
        flex_ops: TensorFlow operations that stayed, empty for a plain file; they
            need the Flex delegate in the app.
        notes: what is otherwise in the file than in the model: computed in float32,
            layers renamed, tables split off.
        tables: what was split off for the app to do, with the files to write beside
            this one; None of a model without tables of words.
    """

    tflite: bytes
    flex_ops: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tables: tables.TableSplit | None = None


def convert_model(
    model: Any,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    batch_size: int | None = None,
    allow_flex: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> ConvertResult:
    """Converts a tf_keras or Keras 3 model to a float `.tflite`.

    Batch norm is folded and activations are fused by the converter. Inputs and
    outputs carry the names they have in Keras, in the file's tensors and in its
    signature "serving_default". A model in another precision, mixed ones included,
    computes in float32 in the file; layers whose names TensorFlow does not take
    ("Conv 1") have others in it. Layers at the head that look up words are split off,
    see `split_tables`. All of it stands in the result's notes.

    Args:
        model: a built model with fixed inputs (functional or Sequential).
        input_shapes: per input name, [height, width, channels], for inputs whose
            shape the model leaves open.
        batch_size: the fixed batch of the file; None: the one the model is built for,
            1 if it takes any.
        allow_flex: keep operations that have no TFLite builtin as TensorFlow
            operations; the app then needs the Flex delegate (several MB).
        metadata: JSON-able values to write into the file, under "tfslim"; with an
            image's "preprocessing", as `Preprocessing.to_json` gives it, the standard
            TFLITE_METADATA is written beside it, with the "labels".

    Raises:
        ConfigError: no Keras model, an input's shape is open and not given, or a name
            is unknown.
        ConversionError: an operation has no builtin; names its layer.
        GraphError: the model is in another precision and cannot be rebuilt.
    """
    _, outputs = _ends(model)
    model, split = tables.split_tables(model)
    finite.require_finite(model)
    names = _names(model.inputs)  # Inputs keep them where the model is rebuilt.
    model, notes = _convertible(model)
    specs = _specs(model.inputs, input_shapes or {}, batch_size=batch_size, names=names)
    ends = [spec.name for spec in specs], outputs
    metadata = dict(metadata or {})
    if split is not None:
        metadata |= {"tables": split.entry}
        notes = (split.note, *notes)
    wanted = _Wanted(allow_flex=allow_flex, metadata=metadata)
    data, loops = _with_fused_ops(model, specs, ends=ends, wanted=wanted)
    data = apps.write_standard(data)
    content = tflite.read(data)
    _refuse_dynamic(content)
    flex = tuple(sorted({op.name for op in content.ops if op.is_flex}))
    return ConvertResult(data, flex, (*notes, *loops, *_padded(content)), split)


def _padded(content: tflite.TfliteModel) -> tuple[str, ...]:
    """Says what a non-max suppression of fixed size gives."""
    if all(op.name not in _SUPPRESSIONS for op in content.ops):
        return ()
    return (
        "non-max suppression always gives as many rows as it may: behind those that "
        "were found the number 0 is repeated; NonMaxSuppressionV4 "
        "(pad_to_max_output_size=True) says how many are valid",
    )


_SUPPRESSIONS = ("NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5")


def _with_fused_ops(
    model: Any,
    specs: Sequence[tf.TensorSpec],
    *,
    ends: tuple[Sequence[str], Sequence[str]],
    wanted: _Wanted,
) -> tuple[bytes, tuple[str, ...]]:
    """Returns the file, and what to say of recurrent layers that have no fused op."""
    with recurrent.standing_in(model) as found:
        traced = _trace(model, specs)
    for spell in (False, True):
        wanted = dataclasses.replace(wanted, spell=spell)
        try:
            for detach in (wanted.io is None, False):
                data = _convert(
                    traced, ends, wanted=wanted, detach=detach, found=found.fused
                )
                if data is not None:
                    return data, found.notes
        except errors.ConversionError:
            if spell or wanted.allow_flex or not formulas.any_in(traced):
                raise
    # With stand-ins the converter passes on every op that has no builtin. Without
    # them it says which one that is.
    data = _convert(_trace(model, specs), ends, wanted=wanted)
    return data or b"", found.notes


def convert_quantized(
    model: Any,
    *,
    target: str = targets.DEFAULT,
    io: str | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    batch_size: int | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> ConvertResult:
    """Converts a tf_keras model with fake quantization to an INT8 `.tflite`.

    Args:
        model: what quantization-aware training left; its ranges become scales and
            zero points.
        target: where the file is to run, as for `quantize_tflite`.
        io: what inputs and outputs are: "float", "int8" or "uint8"; None: what the
            target takes, "float" by default.
        input_shapes: as for `convert_model`.
        batch_size: as for `convert_model`.
        metadata: as for `convert_model`.

    Raises:
        ConfigError: as `convert_model`, or an unknown `io` or target.
        ConversionError: as `convert_model`, or the model has no fake quantization, or
            an op stays float that the target cannot run so; names its layer.
    """
    chosen = targets.get(target)
    chosen.require_scheme("static_int8", "int8")
    io = chosen.end(io)
    if io not in _IO:
        raise registry.unknown_name("io", io, known=_IO)
    inputs, outputs = _ends(model)
    specs = _specs(
        inputs, input_shapes or {}, batch_size=batch_size, names=_names(inputs)
    )
    ends = [spec.name for spec in specs], outputs
    wanted = _Wanted(metadata=metadata or {}, io=_IO[io], detours=chosen.allows_float)
    data = _convert(_trace(model, specs), ends, wanted=wanted)
    data = apps.write_standard(data or b"")
    content = tflite.read(data)
    _refuse_dynamic(content)
    if not content.is_quantized:
        raise errors.ConversionError(
            f"Model '{model.name}' has no fake quantization: convert it with "
            "convert_model, and quantize the file."
        )
    if not chosen.allows_float:
        _refuse_floats(content, chosen)
    return ConvertResult(data)


def _refuse_floats(content: tflite.TfliteModel, target: targets.Target) -> None:
    left = tflite.float_ops(content)
    if left:
        named = [f"{op.name} ('{name}')" for op, name in left]
        raise errors.ConversionError(
            f"The target '{target.name}' has no float, and {len(left)} ops stay float, "
            f"as training gave them no ranges: {', '.join(named[:8])}. Train these "
            "layers with quantization, too, or quantize a float file with samples: "
            "quantize_tflite."
        )


_IO = {"float": tf.float32, "int8": tf.int8, "uint8": tf.uint8}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What is made of a traced model.

    Attributes:
        allow_flex: whether ops may need the Flex delegate.
        metadata: entries of the file.
        io: type of inputs and outputs, where fake quantization becomes INT8.
        detours: whether ops that XNNPACK has in float alone compute in float.
        spell: whether formulas stand in for ops without a builtin.
    """

    allow_flex: bool = False
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    io: tf.DType | None = None
    detours: bool = True
    spell: bool = False


def _convert(
    traced: Any,
    ends: tuple[Sequence[str], Sequence[str]],
    *,
    wanted: _Wanted,
    detach: bool = False,
    found: Sequence[recurrent.Recurrent] = (),
) -> bytes | None:
    """Returns the finished file, None if what was detached did not come through.

    `found` is what stand-ins in the function stand for.
    """
    io, metadata = wanted.io, wanted.metadata
    with errors.raised_as(
        errors.ConversionError,
        lambda cause: (
            f"The model cannot be frozen: {cause} A layer may draw random numbers, or "
            "change its weights, in inference, too: leave it out."
        ),
    ):
        frozen, detached = freeze.freeze(traced, detach=detach, spell=wanted.spell)
    content = converter.run(frozen, wanted.allow_flex, io=io, has_stand_ins=bool(found))
    flat = flatbuffer.unpack(content)
    keras_run.forget_kernels()
    if not (freeze.attach(flat, detached) and fused.install(flat, found)):
        return None
    upsampling.use_resize(flat, of_joined=False)
    if io is not None and wanted.detours:
        detour.add_detours(flat)
    signature.set_signature(flat, *ends)
    metadata_lib.insert(flat, {metadata_lib.NAME: metadata_lib.encode(dict(metadata))})
    flatbuffer.share_buffers(flat)
    return flatbuffer.pack(flat)


def _ends(model: Any) -> tuple[list[Any], list[str]]:
    """Returns the model's input tensors and the names of its outputs."""
    if not hasattr(model, "layers"):
        raise errors.ConfigError(
            "model must be a model of tf_keras or Keras 3, got a "
            f"{type(model).__name__}. Of a result, pass its `.model`."
        )
    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise errors.ConversionError(
            f"Model '{model.name}' has no fixed inputs. Build it as a functional or "
            "Sequential model with an Input, or call it once and wrap it in one."
        )
    # A Sequential model of Keras 3 has one output and no name for it.
    found = getattr(model, "output_names", None) or [model.layers[-1].name]
    names: list[str] = []
    for name in found:
        number = sum(known.split(":")[0] == name for known in names)
        names.append(f"{name}:{number}" if number else name)
    return list(inputs), names


def _convertible(model: Any) -> tuple[Any, tuple[str, ...]]:
    """Returns the model as it can be traced in float32, and what was changed."""
    notes = []
    if graph_keras.backend_of(model) != "tensorflow":
        model = graph_keras.to_tf_keras(model)
    model, precisions = graph_keras.to_float32(model)
    if precisions:
        notes.append(f"computes in float32, the model in {', '.join(precisions)}")
    model, renamed = graph_keras.to_scoped_names(model)
    if renamed:
        pairs = ", ".join(f"'{old}' -> '{new}'" for old, new in renamed.items())
        notes.append(f"layers renamed, as TensorFlow takes no such names: {pairs}")
    return model, tuple(notes)


def _names(inputs: Sequence[Any]) -> list[str]:
    return [re.sub(r"[^A-Za-z0-9_.\-]", "_", i.name.split(":")[0]) for i in inputs]


def _specs(
    inputs: Sequence[Any],
    shapes: Mapping[str, Sequence[int]],
    *,
    batch_size: int | None,
    names: Sequence[str],
) -> list[tf.TensorSpec]:
    unknown = sorted(set(shapes) - set(names))
    if unknown:
        raise errors.ConfigError(
            f"input_shapes names '{unknown[0]}', which is no input of the model. "
            f"Its inputs: {', '.join(names)}."
        )
    specs = []
    for name, tensor in zip(names, inputs, strict=True):
        shape = list(shapes.get(name, tensor.shape[1:]))
        if any(size is None for size in shape):
            raise errors.ConfigError(
                f"Input '{name}' has the open shape {tuple(tensor.shape)}; a mobile "
                "file needs a fixed one. Give it, e.g. "
                f"input_shapes={{'{name}': (224, 224, 3)}}."
            )
        dtype = tf.as_dtype(tensor.dtype)
        batch = batch_size or tensor.shape[0] or 1
        specs.append(tf.TensorSpec((batch, *shape), dtype, name=name))
    return specs


def _trace(model: Any, specs: Sequence[tf.TensorSpec]) -> Any:
    def serve(*tensors: Any) -> Any:
        arguments = graph_keras.pack_inputs(model, tensors)
        with seeds.standing_still(model):
            return tf.nest.flatten(model(arguments, training=False))

    try:
        traced = tf.function(serve, autograph=False).get_concrete_function(*specs)
    except errors.ConversionError:
        raise
    except Exception as error:
        raise errors.ConversionError(
            f"Model '{model.name}' cannot be traced for inputs of the shapes "
            f"{', '.join(str(tuple(spec.shape)) for spec in specs)}: "
            f"{errors.first_line(error)} Call it on such inputs to see more."
        ) from error
    seeds.require_unused(model, traced)
    return traced


def _refuse_dynamic(content: tflite.TfliteModel) -> None:
    for tensor in content.tensors:
        if tensor.is_dynamic:
            raise errors.ConversionError(
                f"Tensor '{tensor.name}' has a size known only at run time, "
                f"{tuple(tensor.shape_signature)}; delegates refuse such files. Make "
                "the layer's output shape static, e.g. a non-max suppression by "
                "tf.image.non_max_suppression or tf.raw_ops.NonMaxSuppressionV4 with "
                "pad_to_max_output_size=True."
            )
