"""The cut against all splits of small graphs, tried one by one."""

import itertools

import numpy as np
import pytest

from tfslim import tflite
from tfslim.quantization.rules import split


def _graph(edges, num_ops, outputs):
    """Op k writes tensor k + 1; tensor 0 is the input."""
    tensors = tuple(
        tflite.Tensor(i, f"t{i}", (1,), (1,), "float32", None, None, False)
        for i in range(num_ops + 1)
    )
    ops = tuple(
        tflite.Op(k, "ADD", tuple(edges[k]), (k + 1,), False, None)
        for k in range(num_ops)
    )
    ends = tuple(tensors[i] for i in outputs)
    return tflite.Graph(tensors, ops, (tensors[0],), ends)


def _random(seed):
    random = np.random.default_rng(seed)
    num_ops = int(random.integers(1, 9))
    edges = [
        random.choice(k + 1, int(random.integers(1, min(3, k + 1) + 1)), replace=False)
        for k in range(num_ops)
    ]
    edges = [[int(i) for i in row] for row in edges]
    read = {i for row in edges for i in row}
    outputs = [i for i in range(1, num_ops + 1) if i not in read]
    graph = _graph(edges, num_ops, outputs)
    costs = random.uniform(1, 20, (num_ops, 2)).round(2)
    borders = {
        (t, operation): float(random.uniform(0, 8).__round__(2))
        for t in range(num_ops + 1)
        for operation in ("QUANTIZE", "DEQUANTIZE")
    }
    able = [k for k in range(num_ops) if random.random() < 0.8]
    return graph, split.SplitCosts(
        float_us={k: float(costs[k, 0]) for k in range(num_ops)},
        integer_us={k: float(costs[k, 1]) for k in able},
        border_us=lambda tensor, operation: borders[tensor, operation],
        fixed={0: bool(seed % 2), outputs[0]: bool(seed % 3)},
    )


def _by_hand(graph, costs, integer):
    """The same sum, from tensor to tensor, with nothing shared with the code."""
    total = 0.0
    for op in graph.ops:
        chosen = costs.integer_us if op.index in integer else costs.float_us
        total += chosen[op.index]
    for tensor in graph.tensors:
        is_input = tensor.index == 0
        written = costs.fixed.get(0, False) if is_input else tensor.index - 1 in integer
        wanted = {op.index in integer for op in graph.ops if tensor.index in op.inputs}
        if tensor in graph.outputs:
            wanted.add(costs.fixed.get(tensor.index, False))
        if (not written) in wanted:
            operation = "DEQUANTIZE" if written else "QUANTIZE"
            total += costs.border_us(tensor.index, operation)
    return total


@pytest.mark.parametrize("seed", range(60))
def test_no_split_takes_less(seed):
    graph, costs = _random(seed)
    found = split.least_time(graph, costs)
    able = list(costs.integer_us)
    least = min(
        _by_hand(graph, costs, set(chosen))
        for size in range(len(able) + 1)
        for chosen in itertools.combinations(able, size)
    )
    assert found.us == pytest.approx(_by_hand(graph, costs, found.integer))
    # Integers are preferred where they cost at most 2% more.
    slack = 0.02 * sum(costs.integer_us.values()) + 0.01
    assert found.us <= least + slack
    assert found.all_float_us == pytest.approx(_by_hand(graph, costs, set()))
    assert found.all_integer_us == pytest.approx(_by_hand(graph, costs, set(able)))


def test_a_slow_op_between_fast_ones_pays_for_its_borders_only_if_they_are_cheap():
    graph = _graph([[0], [1], [2]], 3, [3])

    def costs(border):
        return split.SplitCosts(
            float_us={0: 100.0, 1: 10.0, 2: 100.0},
            integer_us={0: 30.0, 1: 40.0, 2: 30.0},
            border_us=lambda tensor, operation: border,
        )

    assert split.least_time(graph, costs(5.0)).integer == {0, 2}
    assert split.least_time(graph, costs(16.0)).integer == {0, 1, 2}


def test_one_conversion_serves_all_readers():
    # Tensor 1 is read by three ops in integers: one QUANTIZE of 10, not three.
    graph = _graph([[0], [1], [1], [1]], 4, [2, 3, 4])
    costs = split.SplitCosts(
        float_us={0: 1.0, 1: 8.0, 2: 8.0, 3: 8.0},
        integer_us={1: 2.0, 2: 2.0, 3: 2.0},
        border_us=lambda tensor, operation: 10.0 if operation == "QUANTIZE" else 0.0,
        fixed={},
    )
    found = split.least_time(graph, costs)
    assert found.integer == {1, 2, 3}
    assert found.us == pytest.approx(1 + 3 * 2 + 10)


def test_integers_where_both_are_alike():
    graph = _graph([[0]], 1, [1])
    costs = split.SplitCosts(
        float_us={0: 10.0}, integer_us={0: 10.0}, border_us=lambda *_: 0.0
    )
    assert split.least_time(graph, costs).integer == {0}


def test_nothing_to_choose():
    graph = _graph([[0]], 1, [1])
    costs = split.SplitCosts(
        float_us={0: 10.0}, integer_us={}, border_us=lambda *_: 0.0
    )
    found = split.least_time(graph, costs)
    assert not found.integer
    assert found.us == 10.0
