"""`report.md`: the result of an export for people, with the conditions beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tfslim.report import latency, table

Result = Mapping[str, Any]


def to_markdown(result: Result) -> str:
    """Returns the whole report as Markdown."""
    model = result["model"]
    parts = [
        f"# {model['name']}",
        _facts(result),
        *(_step(step, result["task"]["metric"]) for step in result["slimming"]),
        "## Variants",
        table.markdown_table(table.header(result), table.rows(result)),
        _conditions(result),
        *_phones(result),
        "## Parity",
        _parity(result),
        "## Left alone, and why",
        _left_alone(result),
        "## Preprocessing an app must repeat",
        f"```json\n{json.dumps(model['preprocessing'], indent=2)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _facts(result: Result) -> str:
    model, data, training = result["model"], result["data"], result["training"]
    lines = [
        f"- Model: `{model['name']}`, input {model['input_shape']}, "
        f"{table.count(model['params'])} params ({model['params']:,}), "
        f"{table.count(model['macs'])} MACs (1 MAC = 2 FLOPs) for one input.",
        f"- `model.keras`: opens with {model['keras']}.",
        f"- Data: `{data['spec']}`{_sizes(data)}, seed {result['config']['seed']}.",
    ]
    lines += [f"- {note}" for note in data["notes"]]
    if training:
        lines.append(f"- Training: {_training(training)}.")
    else:
        lines.append("- Training: none.")
    lines.append(
        f"- Keras model on the test split: {result['task']['metric']} "
        f"{table.figure(result['keras_metric'])}."
    )
    return "\n".join(lines)


def _sizes(data: Mapping[str, Any]) -> str:
    if "test" not in data:
        return ""
    return (
        f", {data['train']} training, {data['validation']} validation, {data['test']} "
        "test samples"
    )


def _training(training: Mapping[str, Any]) -> str:
    if "epochs" not in training:
        return f"by the caller's train_fn, {training['seconds']:.0f} s"
    return (
        f"{training['epochs']} epochs in {training['seconds']:.0f} s, weights of epoch "
        f"{training['best_epoch']} kept (best {training['monitor']})"
    )


def _conditions(result: Result) -> str:
    timed = [v["benchmark"] for v in result["variants"] if v.get("benchmark")]
    if not timed:
        return "Nothing was timed."
    first = timed[0]
    machine, options = first["environment"], first["options"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    features = " ".join(machine.get("cpu_features", ()))
    doubts = sorted({r for timing in timed for r in timing["invalid"].values()})
    return (
        f"Latency: host ({machine['cpu']} {features}, {machine['os']}), not a phone; "
        f"{options['num_threads']} thread(s), {options['num_runs']} runs in "
        f"{options['rounds']} interleaved rounds after {options['warmup_runs']} "
        f"warm-up runs, XNNPACK; {versions}; load average at start "
        f"{machine['load_average']:.2f}."
        + "".join(f"\n- Not a valid figure: {reason}" for reason in doubts)
    )


def _phones(result: Result) -> list[str]:
    entries = [v["android"] for v in result["variants"] if v.get("android")]
    # Phone by phone, each with all variants.
    rows = [entry for phone in zip(*entries, strict=True) for entry in phone]
    return ["## On phones", latency.latency_to_markdown(rows).rstrip()] if rows else []


def _step(step: Mapping[str, Any], metric_name: str) -> str:
    """Describes a slimming step: cost and metric before and after, layer by layer."""
    (params, params_left), (macs, macs_left) = step["params"], step["macs"]
    metric = ", ".join(
        f"{stage.replace('_', '-')} {table.figure(value)}"
        for stage, value in step["metric"].items()
        if value is not None
    )
    layers = "\n".join(step["layers"])
    return "\n".join(
        [
            f"## Step: {step['step']}",
            "",
            f"- Params {params:,} → {params_left:,} "
            f"({params / max(params_left, 1):.2f}x fewer), MACs {macs:,} → "
            f"{macs_left:,} ({macs / max(macs_left, 1):.2f}x fewer).",
            f"- {metric_name}: {metric}.",
            *_proof(step["proof_error"]),
            *(f"- Left alone: {k}: {v}." for k, v in step["left_alone"].items()),
            *(f"- {note}" for note in step["notes"]),
            "",
            f"```\n{layers}\n```",
        ]
    )


def _proof(error: float | None) -> list[str]:
    if error is None:
        return []
    return [f"- Proof: cut equals masked within {error:.1e}."]


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
                f"{parity['max_abs_error']:.3g}",
                f"{parity['relative_error']:.2e}",
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
    return table.markdown_table(titles, lines)


def _left_alone(result: Result) -> str:
    lines = [f"- {line}" for line in result["skipped"]]
    for variant in result["variants"]:
        kept: dict[tuple[str, str], int] = {}
        for row in variant["kept_float"]:
            key = row["op"], row["reason"]
            kept[key] = kept.get(key, 0) + 1
        lines += [
            f"- `{variant['name']}`: {number} × {op} left in float: {reason}"
            for (op, reason), number in kept.items()
        ]
    return "\n".join(lines) or "Nothing."
