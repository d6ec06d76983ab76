"""The chains of each method compute the layer with the kernel they say."""

import dataclasses

import numpy as np
import pytest

from tests.factorization import graphs
from tests.numpy_executor import execute
from tfslim.factorization import METHODS, base, rewrite

RNG = np.random.default_rng(0)


def kernel(*shape):
    return RNG.normal(size=shape).astype(np.float32)


# Method, layer, shapes before and after, ranks below the full ones, full ranks.
CASES = {
    "dense": ("svd", graphs.dense("x", kernel(8, 5)), (8,), (5,), (3,), (5,)),
    "dense_wide": ("svd", graphs.dense("x", kernel(5, 9)), (5,), (9,), (2,), (5,)),
    "dense_on_positions": (
        *("svd", graphs.dense("x", kernel(6, 6)), (3, 2, 6), (3, 2, 6), (4,), (6,)),
    ),
    "pointwise": (
        "svd",
        graphs.conv("x", kernel(1, 1, 6, 8), strides=[2, 2], padding="valid"),
        *((5, 6, 6), (3, 3, 8), (3,), (6,)),
    ),
    "conv2d": (
        "tucker",
        graphs.conv("x", kernel(3, 3, 6, 8), strides=[2, 2]),
        *((7, 8, 6), (4, 4, 8), (4, 3), (6, 8)),
    ),
    "conv2d_one_side": (
        "tucker",
        graphs.conv("x", kernel(3, 3, 3, 8), padding="valid"),
        *((7, 8, 3), (5, 6, 8), (3, 4), (3, 8)),
    ),
    "conv2d_other_side": (
        "tucker",
        graphs.conv("x", kernel(5, 1, 6, 4), dilation_rate=[2, 1]),
        *((9, 8, 6), (9, 8, 4), (2, 4), (6, 4)),
    ),
    "conv1d": (
        "tucker",
        graphs.conv("x", kernel(3, 6, 6), op="Conv1D"),
        *((9, 6), (9, 6), (3, 4), (6, 6)),
    ),
    "conv2d_transpose": (
        "tucker",
        graphs.conv(
            "x",
            kernel(3, 3, 8, 6),
            op="Conv2DTranspose",
            strides=[2, 2],
            output_padding=None,
        ),
        *((4, 5, 6), (8, 10, 8), (4, 3), (6, 8)),
    ),
}
cases = pytest.mark.parametrize(
    ("method", "layer", "before", "after", "ranks", "full"), CASES.values(), ids=CASES
)


def links_and_graphs(method, layer, before, after, ranks):
    """Returns the chain, its graph, and the graph with the chain's kernel."""
    method = METHODS.get(method)
    links, product = method.chain(layer, method.spectra(layer), ranks)
    graph = graphs.chain(before, (layer, after))
    chained = rewrite.replace_layers(graph, {"x": links})
    changed = dataclasses.replace(layer, weights={**layer.weights, "kernel": product})
    return links, chained, graph.with_layers({"x": changed})


def outputs(graph, seed=1):
    shape = graph.nodes[0].shapes[0][1:]
    (result,) = execute(graph, [np.random.default_rng(seed).normal(size=(2, *shape))])
    return result


@cases
def test_chain_is_the_layer_with_the_approximate_kernel(
    method, layer, before, after, ranks, full
):
    links, chained, changed = links_and_graphs(method, layer, before, after, ranks)
    np.testing.assert_allclose(outputs(chained), outputs(changed), atol=2e-6)
    original = graphs.chain(before, (layer, after))
    assert np.abs(outputs(chained) - outputs(original)).max() > 1e-2
    assert links[-1].layer.name == "x"


@cases
def test_full_rank_changes_nothing(method, layer, before, after, ranks, full):
    spectra = METHODS.get(method).spectra(layer)
    assert tuple(spectrum.size for spectrum in spectra) == full
    _, chained, _ = links_and_graphs(method, layer, before, after, full)
    original = graphs.chain(before, (layer, after))
    np.testing.assert_allclose(outputs(chained), outputs(original), atol=1e-6)


@cases
def test_only_the_last_link_has_bias_and_activation(
    method, layer, before, after, ranks, full
):
    links, _, _ = links_and_graphs(method, layer, before, after, ranks)
    for link in links[:-1]:
        assert link.layer.config["activation"] == "linear"
        assert not link.layer.config["use_bias"]
        assert list(link.layer.weights) == ["kernel"]
    config = links[-1].layer.config
    assert config["activation"] == "tanh"
    assert config["use_bias"]
    np.testing.assert_array_equal(
        links[-1].layer.weights["bias"], layer.weights["bias"]
    )
    assert all(not link.layer.config["kernel_constraint"] for link in links)
    assert {link.layer.weights["kernel"].dtype for link in links} == {np.dtype("f4")}


def test_svd_is_the_best_there_is():
    # Eckart-Young: the error is that of the dropped singular values.
    layer = graphs.dense("x", kernel(20, 12))
    svd = METHODS.get("svd")
    _, product = svd.chain(layer, svd.spectra(layer), (5,))
    values = np.linalg.svd(layer.weights["kernel"].astype(np.float64))[1]
    expected = np.sqrt((values[5:] ** 2).sum() / (values**2).sum())
    error = base.relative_error(layer.weights["kernel"], product)
    assert error == pytest.approx(expected, rel=1e-6)


def test_svd_halves_have_even_scales():
    layer = graphs.dense("x", kernel(20, 12) * 100)
    svd = METHODS.get("svd")
    links, _ = svd.chain(layer, svd.spectra(layer), (5,))
    first, second = (link.layer.weights["kernel"] for link in links)
    np.testing.assert_allclose(
        np.linalg.norm(first, axis=0), np.linalg.norm(second, axis=1), rtol=1e-4
    )


def test_tucker_lies_between_the_known_bounds():
    layer = graphs.conv("x", kernel(3, 3, 10, 12))
    weights = layer.weights["kernel"].astype(np.float64)
    tucker = METHODS.get("tucker")
    _, product = tucker.chain(layer, tucker.spectra(layer), (5, 6))
    lost = [
        (
            np.linalg.svd(np.moveaxis(weights, axis, 0).reshape(size, -1))[1][rank:]
            ** 2
        ).sum()
        for axis, size, rank in [(2, 10, 5), (3, 12, 6)]
    ]
    error = ((weights - product) ** 2).sum()
    # No rank-(5, 6) kernel beats the best of one side alone; the truncated start is
    # no worse than both together, and alternating improves it.
    assert max(lost) < error < 0.99 * sum(lost)
    # A stationary point: the core is the projection, so what is left is orthogonal.
    assert np.sum((weights - product) * product) == pytest.approx(0, abs=1e-8)


def test_tucker_finds_exact_ranks():
    weights = graphs.low_rank(np.random.default_rng(3), (3, 3, 10, 12), 4, 5)
    layer = graphs.conv("x", weights)
    tucker = METHODS.get("tucker")
    spectra = tucker.spectra(layer)
    assert tucker.ranks_for_energy(spectra, 1.0)[0] == (4, 5)
    _, product = tucker.chain(layer, spectra, (4, 5))
    assert base.relative_error(weights, product) < 1e-6


@pytest.mark.parametrize(
    ("method", "layer", "reason"),
    [
        ("svd", graphs.conv("x", kernel(3, 3, 4, 4)), "'tucker' takes it"),
        ("svd", graphs.conv("x", kernel(1, 1, 2, 4), groups=2), "one matrix per group"),
        (
            "svd",
            graphs.conv("x", kernel(1, 1, 4, 4), op="Conv2DTranspose"),
            "not Conv2DTranspose",
        ),
        (
            "tucker",
            graphs.conv("x", kernel(3, 3, 2, 4), groups=2),
            "one kernel per group",
        ),
        ("tucker", graphs.conv("x", kernel(1, 1, 4, 4)), "'svd' takes it"),
        ("tucker", graphs.dense("x", kernel(4, 4)), "'svd' takes it"),
        (
            "tucker",
            graphs.conv("x", kernel(3, 3, 4, 1), op="DepthwiseConv2D"),
            "not Dep",
        ),
    ],
)
def test_refusals(method, layer, reason):
    assert reason in METHODS.get(method).refusal(layer)
