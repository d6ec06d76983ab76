"""Criteria: each by hand, all by the property that channels may stand in any order."""

import functools

import numpy as np
import pytest

from tfslim import errors
from tfslim.pruning import criteria

# Two channels of a [1, 1, 2, 2] Conv2D kernel: (3, -4) and (0, 2).
KERNEL = np.array([[[[3.0, 0.0], [-4.0, 2.0]]]], np.float32)
SHAPES = {
    "gamma": (6,),
    "activations": (5, 3, 2, 6),
    "activation_gradients": (5, 3, 2, 6),
}
ORDER = np.array([4, 0, 5, 2, 1, 3])


def random_arrays(criterion):
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(size=SHAPES.get(name, (3, 3, 4, 6))).astype(np.float32)
        for name in sorted(criteria.needed_arrays(criterion))
    }


def score_by_name(name, channel_axis=-1, options=None, **arrays):
    criterion = criteria.resolve(name, **(options or {}))
    arrays = {key: np.asarray(value, np.float32) for key, value in arrays.items()}
    return criteria.score(criterion, arrays, channel_axis=channel_axis)


@pytest.mark.parametrize("name", criteria.CRITERIA.names())
def test_score_follows_the_order_of_the_channels(name):
    criterion = criteria.resolve(name)
    arrays = random_arrays(criterion)
    scores = criteria.score(criterion, arrays, channel_axis=-1)
    shuffled = {key: value[..., ORDER] for key, value in arrays.items()}
    np.testing.assert_allclose(
        criteria.score(criterion, shuffled, channel_axis=-1), scores[ORDER], rtol=1e-6
    )
    assert len(np.unique(scores)) > 1, "a constant would pass the above"


@pytest.mark.parametrize("name", criteria.CRITERIA.names())
def test_score_does_not_depend_on_where_the_axis_stands(name):
    criterion = criteria.resolve(name)
    arrays = random_arrays(criterion)
    # Samples stay first; axis 1 of what has one is as good as the last.
    axis = 0 if "gamma" in arrays else 1
    moved = {key: np.moveaxis(value, -1, axis) for key, value in arrays.items()}
    np.testing.assert_allclose(
        criteria.score(criterion, moved, channel_axis=axis),
        criteria.score(criterion, arrays, channel_axis=-1),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("l1_norm", [7.0, 2.0]),
        ("l2_norm", [5.0, 2.0]),
        # From (3, -4) to (0, 2): sqrt(9 + 36), the same both ways.
        ("geometric_median", [45**0.5, 45**0.5]),
    ],
)
def test_norms_by_hand(name, expected):
    np.testing.assert_allclose(score_by_name(name, kernel=KERNEL), expected, rtol=1e-6)


def test_input_channels_by_hand():
    # Rows of the kernel: (3, 0) and (-4, 2).
    scores = score_by_name("l1_norm", channel_axis=-2, kernel=KERNEL)
    np.testing.assert_allclose(scores, [3.0, 6.0])


def test_geometric_median_by_hand():
    # Three points on a line: 1 + 10, 1 + 9, 10 + 9.
    scores = score_by_name("geometric_median", kernel=[[0.0, 1.0, 10.0]])
    np.testing.assert_allclose(scores, [11, 10, 19], rtol=1e-6)


def test_geometric_median_of_equal_channels_is_zero():
    # The expansion of |a - b|^2 cancels here: 1e4^2 in float32 has steps of 8.
    scores = score_by_name("geometric_median", kernel=np.full((7, 3), 1e4))
    np.testing.assert_array_equal(scores, 0)


def test_bn_scale_by_hand():
    np.testing.assert_allclose(
        score_by_name("bn_scale", gamma=[-0.5, 0.25, 0.0]), [0.5, 0.25, 0.0]
    )


def test_taylor_by_hand():
    # Channel 0: 3 * 1 + -4 * 1 = -1; channel 1: 0 * 9 + 2 * 0.25 = 0.5.
    gradient = [[[[1.0, 9.0], [1.0, 0.25]]]]
    scores = score_by_name("taylor", kernel=KERNEL, gradient=gradient)
    np.testing.assert_allclose(scores, [1.0, 0.5])


def test_taylor_is_exact_for_a_linear_loss():
    # loss = <c, w>: its gradient is c, and without channel k it changes by <c_k, w_k>.
    rng = np.random.default_rng(1)
    kernel, gradient = rng.normal(size=(2, 4, 3))
    change = [abs((gradient[:, k] * kernel[:, k]).sum()) for k in range(3)]
    scores = score_by_name("taylor", kernel=kernel, gradient=gradient)
    np.testing.assert_allclose(scores, change, rtol=1e-5)


def test_taylor_activation_by_hand():
    # Sample 0: channel 0 has 1 * 2 and 3 * -2 (mean -2), channel 1 has 1 * 1 and 0.
    # Sample 1: channel 0 has 4 (mean 4), channel 1 has -1 (mean -1).
    activations = [[[1, 1], [3, 0]], [[2, 1], [2, 1]]]
    gradients = [[[2, 1], [-2, 5]], [[2, -1], [2, -1]]]
    scores = score_by_name(
        "taylor_activation", activations=activations, activation_gradients=gradients
    )
    np.testing.assert_allclose(scores, [(2 + 4) / 2, (0.5 + 1) / 2])


def test_fisher_by_hand():
    # Channel 0: (3 * 1)^2 + (-4 * 0.5)^2 = 13; channel 1: 0 + (2 * 3)^2 = 36.
    gradient = [[[[1.0, 9.0], [0.5, 3.0]]]]
    scores = score_by_name("fisher", kernel=KERNEL, gradient=gradient)
    np.testing.assert_allclose(scores, [6.5, 18.0])


def test_hessian_diag_is_exact_for_a_quadratic_loss():
    # loss = 1/2 sum h w^2 around its minimum at 0 + w: the change without channel k.
    # Channel 0: (9 * 2 + 16 * 1) / 2 = 17; channel 1: 4 * 3 / 2 = 6.
    hessian = [[[[2.0, 5.0], [1.0, 3.0]]]]
    scores = score_by_name("hessian_diag", kernel=KERNEL, hessian=hessian)
    np.testing.assert_allclose(scores, [17.0, 6.0])


def test_hessian_diag_takes_negative_curvature_as_none():
    hessian = [[[[2.0, 5.0], [-100.0, 3.0]]]]
    scores = score_by_name("hessian_diag", kernel=KERNEL, hessian=hessian)
    np.testing.assert_allclose(scores, [9.0, 6.0])


def test_activation_criteria_by_hand():
    # Channel 0: 0, 2, 0, 4; channel 1: always -1; channel 2: always 1.
    activations = [[[0, -1, 1], [2, -1, 1]], [[0, -1, 1], [4, -1, 1]]]
    np.testing.assert_allclose(
        score_by_name("apoz", activations=activations), [0.5, 0, 1]
    )
    np.testing.assert_allclose(
        score_by_name("mean_activation", activations=activations), [1.5, 1, 1]
    )


@pytest.mark.parametrize("name", ["apoz", "mean_activation", "taylor_activation"])
def test_mean_over_batches_is_the_score_of_them_together(name):
    criterion = criteria.resolve(name)
    arrays = random_arrays(criterion)
    each = [
        criteria.score(
            criterion, {k: v[i : i + 1] for k, v in arrays.items()}, channel_axis=-1
        )
        for i in range(5)
    ]
    np.testing.assert_allclose(
        np.mean(each, axis=0),
        criteria.score(criterion, arrays, channel_axis=-1),
        rtol=1e-6,
    )


def test_random_is_uniform_and_seeded():
    kernel = np.random.default_rng(0).normal(size=(3, 4000)).astype(np.float32)
    first = score_by_name("random", kernel=kernel)
    again = score_by_name("random", kernel=kernel)
    other = score_by_name("random", kernel=kernel, options={"seed": 1})
    np.testing.assert_array_equal(first, again)
    # 99.9% bounds for 4000 uniform numbers: Kolmogorov-Smirnov 1.95 / sqrt(n), and
    # 3.3 / sqrt(n) for the correlation of two independent draws.
    steps = np.arange(4000) / 4000
    assert np.abs(np.sort(first) - steps).max() < 1.95 / 4000**0.5
    assert abs(np.corrcoef(first, other)[0, 1]) < 3.3 / 4000**0.5


def test_scores_add_up_in_float64():
    # 2^24 + 1 is not a float32: a float32 sum would lose the ones.
    kernel = np.array([[2.0**24, 1.0], [1.0, 1.0], [1.0, 1.0]])
    assert score_by_name("l1_norm", kernel=kernel)[0] == 2**24 + 2


def test_users_function():
    def largest(kernel, gradient, *, channel_axis, power=1):
        axes = tuple(np.delete(np.arange(kernel.ndim), channel_axis))
        return np.abs(kernel * gradient).max(axis=axes) ** power

    criterion = criteria.resolve(largest, power=2)
    assert criteria.needed_arrays(criterion) == {"kernel", "gradient"}
    scores = criteria.score(
        criterion, {"kernel": KERNEL, "gradient": KERNEL}, channel_axis=-1
    )
    np.testing.assert_allclose(scores, [16.0**2, 4.0**2])


def of_weights(weights, *, channel_axis):
    return weights


def of_nothing(*, channel_axis):
    return np.zeros(2)


def without_axis(kernel):
    return kernel


def not_finite(kernel, *, channel_axis):
    return np.array([1.0, np.nan])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: criteria.resolve("l1norm"), "Did you mean 'l1_norm'"),
        (lambda: criteria.resolve(3), "a name or a function, got 3"),
        (lambda: criteria.resolve("l1_norm", seed=1), "'l1_norm' has no option 'seed'"),
        (lambda: criteria.resolve("random", seeds=1), "It has: seed"),
        (lambda: criteria.needed_arrays(of_weights), "asks for weights"),
        (lambda: criteria.needed_arrays(of_nothing), "asks for no array"),
        (lambda: criteria.needed_arrays(without_axis), "takes no channel_axis"),
        (
            lambda: score_by_name("taylor", kernel=KERNEL),
            r"'taylor' needs 'gradient' \(the loss's gradient by that kernel",
        ),
        (lambda: score_by_name(not_finite, kernel=KERNEL), "with 1 that are not"),
        (
            lambda: score_by_name(
                functools.partial(lambda kernel, *, channel_axis: kernel),
                kernel=KERNEL,
            ),
            r"returned shape \[1, 1, 2, 2\]",
        ),
    ],
)
def test_what_is_wrong_is_said(call, message):
    with pytest.raises(errors.ConfigError, match=message):
        call()
