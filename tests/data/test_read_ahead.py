"""One piece is read beyond the present one, and errors come where their piece does."""

import threading

import pytest

from ssl_parts.data.read_ahead import read_ahead


def test_the_next_piece_is_read_while_the_present_one_is_worked_on():
    begun = {number: threading.Event() for number in range(4)}

    def read(number):
        begun[number].set()
        return number * number

    pieces = read_ahead(read, [0, 1, 2, 3])
    assert next(pieces) == (0, 0)
    assert begun[1].wait(10) and not begun[2].is_set()
    assert list(pieces) == [(1, 1), (2, 4), (3, 9)]


def test_nothing_to_read():
    assert list(read_ahead(lambda number: number, [])) == []


def test_an_error_is_raised_where_its_piece_is_reached():
    pieces = read_ahead(lambda number: 1 // number, [1, 0, 2])
    assert next(pieces) == (1, 1)
    with pytest.raises(ZeroDivisionError):
        next(pieces)
