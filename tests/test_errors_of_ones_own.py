"""What goes wrong in a user's code is named with its place, since nobody sees a traceback."""

import json

import pytest

from hardtune.errors import InputError, blamed


def helper():
    return {}["x"]


def test_the_line_is_that_of_the_users_own_code_though_a_library_raised():
    with pytest.raises(InputError) as caught, blamed("oversampling 'mine' fails"):
        json.loads("{")
    assert str(caught.value).startswith("oversampling 'mine' fails: JSONDecodeError: Expecting property name")
    assert str(caught.value).endswith(
        "(test_errors_of_ones_own.py:16, in test_the_line_is_that_of_the_users_own_code_though_a_library_raised)"
    )
    with (
        pytest.raises(InputError, match=r"KeyError: 'x' \(test_errors_of_ones_own.py:11, in helper\)$"),
        blamed("it fails"),
    ):
        helper()


def test_of_hardtunes_own_errors_there_is_no_place_to_look():
    with pytest.raises(InputError, match=r"^a sentence$"), blamed("it fails"):
        raise InputError("a sentence")
