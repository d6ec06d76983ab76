"""Do zeros in the weights help at all? Bytes and latency on this machine.

MobileNetV1, V2, and V1 in the form that XNNPACK's sparse kernels want (padding alike
on both sides), random weights: neither size nor latency asks what they mean, as long
as they are as random as trained ones. Every kernel but the depthwise ones is pruned
by magnitude. All files of a network run interleaved.

  python -m benchmarks.sparsity
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator

import numpy as np

from benchmarks import record


def pruned(graph, zeros: float | None):
    """Zeroes a share of each kernel; None: two of every four inputs of an output."""
    changed = {}
    for layer in graph.layers.values():
        if layer.op not in ("Conv2D", "Dense"):
            continue
        kernel = layer.weights["kernel"].copy()
        if zeros is not None:
            kernel[np.abs(kernel) < np.quantile(np.abs(kernel), zeros)] = 0.0
        elif kernel.shape[-2] % 4 == 0:
            rows = np.ascontiguousarray(np.swapaxes(kernel, -1, -2))
            groups = rows.reshape(-1, 4)
            smallest = np.argsort(np.abs(groups), axis=1)[:, :2]
            np.put_along_axis(groups, smallest, 0.0, axis=1)
            kernel = np.swapaxes(rows, -1, -2)
        changed[layer.name] = dataclasses.replace(
            layer, weights={**layer.weights, "kernel": kernel}
        )
    return graph.with_layers(changed)


def files(graph, samples) -> Iterator[tuple[str, bytes]]:
    """Converts the network with each pattern of zeros, in float and INT8."""
    import tfslim
    from tfslim import tflite
    from tfslim.graph import keras

    patterns = {"dense": 0.0, "80%": 0.8, "90%": 0.9, "2:4": None}
    for name, zeros in patterns.items():
        model = keras.write(pruned(graph, zeros))
        data = tfslim.convert_model(model).tflite
        yield f"float {name}", data
        if zeros:
            yield f"float {name} sparse format", tflite.store_sparse(data)
        yield f"int8 {name}", tfslim.quantize_tflite(data, samples=samples).tflite


def rows(name: str, graph, options) -> list[dict]:
    from tfslim import benchmark, tflite
    from tfslim.analysis import sparse_inference

    samples = [*np.random.default_rng(0).normal(size=(4, 1, 224, 224, 3))]
    models = dict(files(graph, [s.astype(np.float32) for s in samples]))
    results = {r.name: r for r in benchmark.run_host(models, options)}
    found = []
    for label, result in results.items():
        base = results["int8 dense" if label.startswith("int8") else "float dense"]
        obstacles = sparse_inference.obstacles(tflite.read(models[label]))
        row = {
            "network": name,
            "file": label,
            "size_bytes": result.size_bytes,
            "gzip_bytes": result.gzip_bytes,
            "p50_us": result.latency.p50,
            "sparse_ops_on_a_phone": sum(o is None for o in obstacles.values()),
            "invalid": dict(result.invalid),
        }
        if result is not base:
            row["latency"] = benchmark.compare(base, result).to_json()
        print(row, flush=True)
        found.append(row)
    return found


def main() -> None:
    import tfslim
    from tfslim import benchmark
    from tfslim.analysis import sparse_inference
    from tfslim.graph import keras
    from tfslim.sparsity import padding

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num_runs", type=int, default=100)
    options = benchmark.Options(num_runs=parser.parse_args().num_runs, rounds=10)
    networks = {}
    for name in ("mobilenet_v1", "mobilenet_v2"):
        networks[name] = keras.read(tfslim.build_model(name))
    networks["mobilenet_v1, padded alike"] = padding.symmetric(networks["mobilenet_v1"])
    found = [r for name, graph in networks.items() for r in rows(name, graph, options)]
    record.save(
        "sparsity",
        found,
        weights="random",
        input_shape=[1, 224, 224, 3],
        pruned="Conv2D and Dense kernels by magnitude",
        options=dataclasses.asdict(options),
        host_obstacle=sparse_inference.host_obstacle(),
    )


if __name__ == "__main__":
    main()
