"""Names that stay apart when they are shortened."""

import pytest

from tfslim.report.elide import elided

_PARTS = ("expand", "depthwise", "squeeze_excite_conv", "squeeze_excite_conv_1")
_V3 = [f"expanded_conv_{k}_{part}" for k in range(11) for part in _PARTS]


@pytest.mark.parametrize("width", [12, 16, 20, 30])
@pytest.mark.parametrize(
    "names",
    [
        ["conv", "hard_swish_of_another_block", *_V3],
        [f"mobilenet/{name}/BiasAdd;mobilenet/{name}/Conv2D" for name in _V3],
        [f"{chr(97 + k)}_the_same_long_name_of_a_layer" for k in range(26)],
        [f"the_same_long_name_of_a_layer_{k}" for k in range(200)],
        [f"stage_{k}_of_a_network_with_a_long_name" for k in range(99)],
    ],
)
def test_what_differs_does_so_at_any_width(names, width):
    found = elided(names, width)
    assert [*found] == [*dict.fromkeys(names)]
    assert max(map(len, found.values())) <= width
    assert len({*found.values()}) == len(found)


def test_what_fits_stays_and_the_common_part_goes_by_words():
    names = ["head", "backbone_block_10_expand", "backbone_block_1_project"]
    assert elided(names, 24) == {name: name for name in names}
    # "block_1" is no word of its own: the 1 of 10 stays.
    assert elided(names, 20) == {
        "head": "head",
        names[1]: "…10_expand",
        names[2]: "…1_project",
    }


def test_numbers_stay_whole():
    names = [f"ratio 0.{k} of all the groups" for k in (5, 6)]
    shown = elided(names, 20).values()
    assert [name[:6] for name in shown] == ["…0.5 o", "…0.6 o"]


def test_one_name_loses_its_middle():
    (shown,) = elided(["a" * 20 + "b" * 20], 11).values()
    assert shown == "aaaaa…bbbbb"


def test_none_is_none():
    assert elided([], 10) == {}
