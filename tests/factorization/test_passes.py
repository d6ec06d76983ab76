"""The pass over a graph: where it pays, at which ranks, and what it says."""

import numpy as np
import pytest

from tests.factorization import graphs
from tests.numpy_executor import execute
from tfslim import errors
from tfslim.factorization import factorize_graph
from tfslim.graph import count, ir

RNG = np.random.default_rng(0)


def decaying(*shape):
    """A kernel whose singular values fall, as those of trained networks do."""
    *window, inputs, outputs = shape
    first = np.linalg.qr(RNG.normal(size=(inputs, inputs)))[0]
    second = np.linalg.qr(RNG.normal(size=(outputs, outputs)))[0]
    fall = np.exp(-0.25 * np.add.outer(np.arange(inputs), np.arange(outputs)))
    core = RNG.normal(size=(*window, inputs, outputs)) * fall
    return (first @ core @ second).astype(np.float32)


CONV = graphs.conv("conv", decaying(3, 3, 16, 16))
POINTWISE = graphs.conv("pointwise", decaying(1, 1, 16, 24))
DENSE = graphs.dense("dense", decaying(24, 24))
GRAPH = graphs.chain(
    *((8, 8, 16), (CONV, (8, 8, 16)), (POINTWISE, (8, 8, 24)), (DENSE, (8, 8, 24)))
)


def outputs(graph):
    inputs = [np.random.default_rng(2).normal(size=(2, 8, 8, 16))]
    return execute(graph, inputs)[0]


@pytest.mark.parametrize("method", ["tucker", "svd", "tucker+svd"])
@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99])
def test_energy_is_kept_and_macs_are_saved(method, energy):
    graph, report = factorize_graph(GRAPH, method=method, energy=energy, divisor=1)
    assert report.layers
    for row in report.layers:
        assert row.error**2 <= 1 - energy + 1e-12
        assert row.macs_after < row.macs_before
        counted = [n for n in count.count(graph).nodes if n.name in row.chain]
        assert row.macs_after == sum(node.macs for node in counted)
        assert row.params_after == sum(node.params for node in counted)
    assert report.after == count.count(graph)
    assert report.before == count.count(GRAPH)
    assert report.energy == energy
    assert {r.name for r in report.layers} | set(report.skipped) == {
        "conv",
        "pointwise",
        "dense",
    }


def test_error_falls_and_macs_rise_with_energy():
    errors_, macs = [], []
    for energy in [0.3, 0.6, 0.8, 0.9, 0.97]:
        graph, report = factorize_graph(GRAPH, energy=energy, divisor=1)
        errors_.append(np.abs(outputs(graph) - outputs(GRAPH)).mean())
        macs.append(report.after.macs)
    assert errors_ == sorted(errors_, reverse=True)
    assert len(set(errors_)) == len(errors_)
    assert macs == sorted(macs)


def test_cheapest_of_one_and_two_sides():
    # Only the input side has a small rank: the outputs' 1x1 layer would not pay.
    weights = graphs.low_rank(RNG, (3, 3, 32, 8), 4, 8)
    graph = graphs.chain((8, 8, 32), (graphs.conv("conv", weights), (8, 8, 8)))
    result, report = factorize_graph(graph, energy=0.999, divisor=1)
    (row,) = report.layers
    assert (row.ranks, row.full_ranks) == ((4, 8), (32, 8))
    assert list(result.layers) == ["input", "conv_in", "conv"]
    assert row.macs_after == 64 * (32 * 4 + 9 * 4 * 8)


def test_low_rank_kernels_change_nothing():
    weights = graphs.low_rank(RNG, (3, 3, 16, 16), 3, 4)
    matrix = graphs.low_rank(RNG, (16, 20), 5, 5)
    graph = graphs.chain(
        (8, 8, 16),
        (graphs.conv("conv", weights), (8, 8, 16)),
        (graphs.dense("dense", matrix), (8, 8, 20)),
    )
    result, report = factorize_graph(graph, energy=1.0, divisor=1)
    assert [row.ranks for row in report.layers] == [(3, 4), (5,)]
    np.testing.assert_allclose(outputs(result), outputs(graph), atol=1e-6)


@pytest.mark.parametrize("target", [0.3, 0.5, 0.7])
def test_target_is_met_and_nothing_given_away(target):
    _, report = factorize_graph(GRAPH, target=target, divisor=1)
    share = report.after.macs / report.before.macs
    assert share <= target
    # One step more of energy and it would be missed.
    _, more = factorize_graph(GRAPH, energy=report.energy + 1e-6, divisor=1)
    assert more.after.macs / more.before.macs > target or report.energy > 1 - 1e-6
    assert share > target - 0.1


def test_divisor_rounds_ranks_up():
    _, fine = factorize_graph(GRAPH, energy=0.8, divisor=1)
    _, coarse = factorize_graph(GRAPH, energy=0.8, divisor=4)
    by_name = {row.name: row for row in fine.layers}
    assert by_name["conv"].ranks[0] % 4 and by_name["conv"].ranks[1] % 4
    for row in coarse.layers:
        exact = by_name[row.name]
        assert all(
            rank % 4 == 0 or rank == full
            for rank, full in zip(row.ranks, row.full_ranks, strict=True)
        )
        assert row.error <= exact.error


def test_vbmf_keeps_the_signal():
    signal = graphs.low_rank(RNG, (3, 3, 24, 32), 3, 5) * 3
    noise = RNG.normal(scale=0.05, size=signal.shape)
    conv = graphs.conv("conv", (signal + noise).astype(np.float32))
    blind = graphs.conv("blind", RNG.normal(size=(3, 3, 32, 24)).astype(np.float32))
    graph = graphs.chain((8, 8, 24), (conv, (8, 8, 32)), (blind, (8, 8, 24)))
    result, report = factorize_graph(graph, ranks="vbmf", divisor=1)
    (row,) = report.layers
    assert row.ranks == (3, 5)
    # What is dropped is the noise, and a little less than all of it.
    dropped = row.error * np.linalg.norm(conv.weights["kernel"])
    assert 0.9 * np.linalg.norm(noise) < dropped < np.linalg.norm(noise)
    assert report.skipped == {"blind": "variational Bayes takes its kernel for noise"}
    assert report.energy is None
    assert "conv_core" in result.layers


def test_ranks_by_name():
    ranks = {"conv": (4, 6), "d*": 3, "*": 1000}
    _, report = factorize_graph(GRAPH, ranks=ranks)
    assert {row.name: row.ranks for row in report.layers} == {
        "conv": (4, 6),
        "dense": (3,),
    }
    # Lowered to the full rank, at which it does not pay.
    assert report.skipped == {
        "pointwise": "at rank 16 it would take 40,960 MACs, not 24,576"
    }
    _, report = factorize_graph(GRAPH, ranks={"conv": 2})
    assert [row.ranks for row in report.layers] == [(2, 2)]
    assert report.skipped["dense"] == "no ranks are given for it"


def test_shared_layers_stay_shared():
    shared = graphs.conv("conv", decaying(3, 3, 16, 16))
    graph = graphs.chain((8, 8, 16), (shared, (8, 8, 16)), (shared, (8, 8, 16)))
    result, report = factorize_graph(graph, ranks={"conv": (4, 4)})
    (row,) = report.layers
    assert row.macs_before == 2 * 64 * 9 * 16 * 16
    assert row.macs_after == 2 * 64 * (16 * 4 + 9 * 4 * 4 + 4 * 16)
    assert list(result.layers) == ["input", "conv_in", "conv_core", "conv"]
    assert [node.layer for node in result.nodes[1:]] == [*row.chain, *row.chain]
    once = factorize_graph(
        graphs.chain((8, 8, 16), (shared, (8, 8, 16))), ranks={"conv": (4, 4)}
    )[0]
    inputs = np.random.default_rng(2).normal(size=(2, 8, 8, 16))
    twice = execute(once, [execute(once, [inputs])[0]])[0]
    np.testing.assert_allclose(outputs(result), twice)


def test_names_are_free():
    taken = graphs.dense("conv_in", np.eye(16, dtype=np.float32))
    graph = graphs.chain((8, 8, 16), (taken, (8, 8, 16)), (CONV, (8, 8, 16)))
    result, report = factorize_graph(graph, method="tucker", ranks={"conv": (4, 4)})
    assert report.layers[0].chain == ("conv_in_1", "conv_core", "conv")
    assert result.layers["conv_in"] == taken


def test_branches_and_outputs_follow():
    # x -> dense -> y; outputs are y, y * y and x: refs after the chain must move.
    graph = graphs.chain((8, 8, 16), (CONV, (8, 8, 16)))
    y = ir.TensorRef(1)
    square = ir.Node("multiply", (y, y), ((None, 8, 8, 16),))
    graph = ir.Graph(
        "branches",
        {**graph.layers, "multiply": ir.Layer("multiply", "multiply")},
        (*graph.nodes, square),
        {"image": ir.TensorRef(0)},
        [y, {"square": ir.TensorRef(2)}, ir.TensorRef(0)],
    )
    result, _ = factorize_graph(graph, ranks={"conv": (8, 8)})
    assert result.inputs == {"image": ir.TensorRef(0)}
    inputs = np.random.default_rng(2).normal(size=(2, 8, 8, 16))
    value, squared, same = execute(result, [inputs])
    np.testing.assert_allclose(squared, value**2)
    np.testing.assert_array_equal(same, inputs)
    _, _, before = execute(graph, [inputs])
    np.testing.assert_array_equal(before, same)


def test_what_is_left_alone_and_why():
    unknown = graphs.conv("unknown", decaying(3, 3, 16, 16))
    zero = graphs.dense("zero", np.zeros((16, 16), np.float32))
    random = graphs.dense("random", RNG.normal(size=(16, 16)).astype(np.float32))
    graph = graphs.chain(
        *((None, 8, 16), (unknown, (None, 8, 16))),
    )
    assert factorize_graph(graph, energy=0.5)[1].left_alone == {
        "unknown": "its cost is not known: give the model an input of fixed size"
    }
    graph = graphs.chain(
        (8, 8, 16), (CONV, (8, 8, 16)), (zero, (8, 8, 16)), (random, (8, 8, 16))
    )
    result, report = factorize_graph(graph, energy=0.95, ignore=["co*"])
    assert report.skipped == {
        "conv": "to be ignored",
        "zero": "its kernel is all zeros, or not finite",
        "random": report.skipped["random"],
    }
    assert (
        "at rank 16 it would take 32,768 MACs, not 16,384" == report.skipped["random"]
    )
    assert result == graph


def test_report_reads_well():
    text = str(factorize_graph(GRAPH, method="svd", ranks={"dense": 4, "p*": 4})[1])
    assert "dense" in text and "4 of 24" in text and "36,864 -> 12,288" in text
    assert "skipped: conv: its kernel covers several positions" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of energy, ranks and target; got none"),
        ({"energy": 0.5, "target": 0.5}, "got energy and target"),
        ({"energy": 0.0}, r"energy must be in \(0, 1\], got 0.0"),
        ({"energy": 90}, "got 90"),
        ({"target": 1.0}, r"target must be in \(0, 1\)"),
        ({"target": 0.001}, "target=0.001 is out of reach"),
        ({"target": 0.5, "ignore": ["*"]}, "no layer to take"),
        ({"ranks": "vmbf"}, "Did you mean 'vbmf'"),
        ({"ranks": {"cnv": 3}}, "Unknown layer 'cnv'. Did you mean 'conv'"),
        ({"ranks": {"conv": (1, 2, 3)}}, r"'conv' takes 2 rank\(s\) \(tucker\)"),
        ({"ranks": {"conv": 0}}, "at least 1, got 0, 0"),
        ({"energy": 0.5, "method": "tuker"}, "Did you mean 'tucker'"),
        ({"energy": 0.5, "ignore": ["dens"]}, "Did you mean 'dense'"),
        ({"energy": 0.5, "divisor": 0}, "divisor must be at least 1"),
    ],
)
def test_what_is_wrong_is_said(options, message):
    with pytest.raises(errors.ConfigError, match=message):
        factorize_graph(GRAPH, **options)
