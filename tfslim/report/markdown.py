"""`report.md`: the result of an export for people, with the conditions beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfslim import escape
from tfslim.report import consumers_table, latency, table, verdict
from tfslim.report.rows import file_preprocessing

Result = Mapping[str, Any]


def to_markdown(result: Result) -> str:
    """Returns the whole report as Markdown."""
    model = result["model"]
    parts = [
        f"# {escape.markdown(model['name'])}",
        "\n".join(escape.markdown(line) for line in verdict.sentences(result)),
        *(f"> {escape.markdown(remark)}" for remark in table.remarks(result)),
        _facts(result),
        *(_step(step, result["task"]["metric"]) for step in result["slimming"]),
        "## Variants",
        _table(table.header(result), table.rows(result)),
        _conditions(result),
        *_phones(result),
        "## Parity",
        _parity(result),
        *_consumers(result),
        "## Left alone, and why",
        _left_alone(result),
        "## Preprocessing an app must repeat",
        _block(json.dumps(file_preprocessing(model), indent=2).splitlines(), "json"),
    ]
    return "\n\n".join(parts) + "\n"


def _table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    escaped = [[escape.markdown(cell) for cell in line] for line in (titles, *lines)]
    return table.markdown_table(escaped[0], escaped[1:])


def _block(lines: Sequence[str], kind: str = "") -> str:
    """Returns lines as they are, in a fence that none of them ends."""
    text = "\n".join(map(escape.terminal, lines))
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{kind}\n{text}\n{fence}"


def _facts(result: Result) -> str:
    model, data, training = result["model"], result["data"], result["training"]
    is_keras = model["keras"] is not None  # Else a .tflite was given.
    macs = f", {table.count(model['macs'])} MACs (1 MAC = 2 FLOPs) for one input"
    lines = [
        f"- Model: {escape.code(model['name'])}, input {model['input_shape']}, "
        f"{table.count(model['params'])} params ({model['params']:,})"
        f"{macs if is_keras else ''}.",
        *([f"- `model.keras`: opens with {model['keras']}."] if is_keras else []),
        f"- Data: {escape.code(data['spec'])}{_sizes(data)}, "
        f"seed {result['config']['seed']}.",
    ]
    lines += [f"- {escape.markdown(note)}" for note in data["notes"]]
    if not is_keras:
        return "\n".join(lines)
    lines.append(f"- Training: {_training(training) if training else 'none'}.")
    if result["slimming"]:
        lines[-1] += " What the steps trained stands below."
    lines.append(
        "- Keras model on the test split: "
        f"{escape.markdown(result['task']['metric'])} "
        f"{table.figure(result['keras_metric'])}."
    )
    return "\n".join(lines)


def _sizes(data: Mapping[str, Any]) -> str:
    named = {"train": "training", "validation": "validation", "test": "test"}
    known = [f"{data[key]} {name}" for key, name in named.items() if key in data]
    return f", {', '.join(known)} samples" if known else ""


def _training(training: Mapping[str, Any]) -> str:
    if "epochs" not in training:
        return f"by the caller's train_fn, {training['seconds']:.0f} s"
    return (
        f"{training['epochs']} epochs in {training['seconds']:.0f} s, weights of epoch "
        f"{training['best_epoch']} kept (best {_watched(training['monitor'])})"
    )


def _watched(monitor: str) -> str:
    """Returns what Keras calls "val_binary_accuracy_of_logits" in words."""
    name = monitor.removeprefix("val_").removesuffix("_of_logits")
    name = name.removeprefix("binary_").replace("_", " ")
    return f"{'validation' if name != monitor else 'training'} {name}"


def _conditions(result: Result) -> str:
    timed = [v["benchmark"] for v in result["variants"] if v.get("benchmark")]
    if not timed:
        return "Nothing was timed."
    first = timed[0]
    machine, options = first["environment"], first["options"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    features = " ".join(machine.get("cpu_features", ()))
    others = machine.get("busy_with_others")
    beside = "" if others is None else f"; other programs on {others:.1f} cores"
    return (
        f"Latency: host ({machine['cpu']} {features}, {machine['os']}), not a phone; "
        f"{options['num_threads']} thread(s), {options['num_runs']} runs in "
        f"{options['rounds']} interleaved rounds after {options['warmup_runs']} "
        f"warm-up runs, XNNPACK; {versions}{beside}."
    )


def _phones(result: Result) -> list[str]:
    entries = [v["android"] for v in table.all_rows(result) if v.get("android")]
    # Phone by phone, each with all variants.
    rows = [entry for phone in zip(*entries, strict=True) for entry in phone]
    return ["## On phones", latency.latency_to_markdown(rows).rstrip()] if rows else []


def _consumers(result: Result) -> list[str]:
    found = result.get("consumers")
    if not found:
        return []
    return [
        "## In the programs that run it",
        consumers_table.consumers_to_markdown(found),
    ]


def _step(step: Mapping[str, Any], metric_name: str) -> str:
    """Describes a slimming step: cost and metric before and after, layer by layer."""
    facts = [f"- {escape.markdown(fact)}" for fact in step_facts(step, metric_name)]
    title = f"## Step: {escape.markdown(step['step'])}"
    return "\n".join([title, "", *facts, "", _block(step["layers"])])


def step_facts(step: Mapping[str, Any], metric_name: str) -> list[str]:
    """Returns what a step did, a plain sentence each, but for its single layers."""
    (params, params_left), (macs, macs_left) = step["params"], step["macs"]
    metric = ", ".join(
        f"{stage.replace('_', '-')} {table.figure(value)}"
        for stage, value in step["metric"].items()
        if value is not None
    )
    training, error = step.get("training"), step["proof_error"]
    return [
        f"Params {params:,} → {params_left:,} "
        f"({params / max(params_left, 1):.2f}x fewer), MACs {macs:,} → "
        f"{macs_left:,} ({macs / max(macs_left, 1):.2f}x fewer).",
        *([f"{metric_name}: {metric}."] if metric else []),
        *([f"Training within: {step['trains']}."] if step["trains"] else []),
        *([f"Fine-tuning: {_training(training)}."] if training else []),
        *([] if error is None else [f"Proof: cut equals masked within {error:.1e}."]),
        *(f"Skipped: {name}: {why}." for name, why in step["skipped"].items()),
        *step["notes"],
    ]


def _parity(result: Result) -> str:
    lines = []
    for variant in result["variants"]:
        parity, timing = variant["parity"], variant.get("benchmark") or {}
        peak = timing.get("peak_memory_bytes")
        lines.append(
            [
                variant["name"],
                variant["against"],
                f"{parity['num_samples']}",
                table.figure(parity.get("max_abs_error"), ".3g"),
                table.figure(parity.get("relative_error"), ".2e"),
                f"{parity['sqnr_db']:.1f}",
                f"{timing.get('partitions', '-')}",
                f"{timing.get('other_ops', '-')}",
                table.megabytes(peak) if peak is not None else "-",
            ]
        )
    titles = [
        "variant",
        "against",
        "samples",
        "max abs error",
        "error / range",
        "SQNR dB",
        "delegate partitions",
        "ops outside",
        "peak memory",
    ]
    return _table(titles, lines)


def _left_alone(result: Result) -> str:
    lines = [f"- {escape.markdown(line)}" for line in result["skipped"]]
    lines += [
        f"- {escape.code(name)} could not be made: {escape.markdown(reason)}"
        for name, reason in result.get("failed", {}).items()
    ]
    for variant in result["variants"]:
        kept: dict[tuple[str, str], int] = {}
        for row in variant["kept_float"]:
            key = row["op"], row["reason"]
            kept[key] = kept.get(key, 0) + 1
        name = escape.code(variant["name"])
        lines += [
            f"- {name}: {number} × {op} left in float: {escape.markdown(reason)}"
            for (op, reason), number in kept.items()
        ]
        lines += [f"- {name}: {line}" for line in _goal(variant)]
    return "\n".join(lines) or "Nothing."


def _goal(variant: Mapping[str, Any]) -> list[str]:
    """Says what `max_drop` asked for, and what it took."""
    goal = variant.get("goal")
    if goal is None:
        return []
    state = "met" if variant["is_met"] else "not met"
    wanted = escape.markdown(f"{goal['least']:.4f}, as {goal['reason']}")
    steps = variant["fallback"]
    way = f"with {len(steps) - 1} layers in float" if steps else "as it came"
    return [f"max_drop ({wanted}) {state} {way}"]
