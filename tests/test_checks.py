"""Arguments that were positional once."""

import pytest

from tfslim import checks


@checks.by_name
def joined(first, second=None, *, third=3, fourth=4):
    return first, second, third, fourth


def test_what_was_positional_is_taken_with_a_warning():
    with pytest.warns(DeprecationWarning, match="joined: write third=, fourth= before"):
        assert joined(1, 2, 30, 40) == (1, 2, 30, 40)
    with pytest.warns(DeprecationWarning, match="write third= before"):
        assert joined(1, 2, 30, fourth=5) == (1, 2, 30, 5)


def test_what_is_passed_by_name_is_not_spoken_of(recwarn):
    assert joined(1, third=5) == (1, None, 5, 4)
    assert not recwarn


@pytest.mark.parametrize("arguments", [(1, 2, 3, 4, 5), ()])
def test_a_wrong_number_is_python_s_own_error(arguments):
    with pytest.raises(TypeError):
        joined(*arguments)
    with pytest.raises(TypeError):
        joined(1, 2, 3, third=4)
