"""Networks that train beside each other come back in order, and all of them, also where memory is short."""

import threading
import time

import pytest
import torch

from hardtune.training.parallel import in_parallel


@pytest.mark.parametrize("at_once", [1, 3])
def test_they_come_in_order_and_so_many_at_a_time(at_once):
    training, most, lock = set(), [0], threading.Lock()

    def train(number):
        with lock:
            training.add(number)
            most[0] = max(most[0], len(training))
        time.sleep(0.03 * (6 - number))  # the later ones are done first
        with lock:
            training.remove(number)
        return number

    assert list(in_parallel(train, range(6), at_once)) == list(range(6))
    assert most[0] == at_once


@pytest.mark.parametrize("without_room", [{5}, {6}, {7}, {5, 7}, {5, 6, 7}], ids=str)
def test_what_found_no_room_trains_again_after_the_others_and_its_memory_is_given_back(without_room):
    together, tried, kept = threading.Barrier(3), [], []

    class Memory:
        def __init__(self, number):
            self.number = number
            kept.append(number)

        def __del__(self):
            kept.remove(self.number)

    def train(number):
        memory = Memory(number)
        tried.append(number)
        if tried.count(number) == 1:
            together.wait()
            if number in without_room:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return memory.number

    found = []
    for number in in_parallel(train, [5, 6, 7], at_once=3):
        found.append(number)
        if number in without_room:
            assert kept == [], "what the failed attempts held is gone by now"
    assert found == [5, 6, 7]
    assert sorted(tried[:3]) == [5, 6, 7]
    assert tried[3:] == sorted(without_room)


@pytest.mark.parametrize(("room", "at_once"), [(2, 2), (4, 8)])
def test_whatever_fits_alone_is_trained_however_many_find_no_room_beside_each_other(room, at_once):
    """A GPU of so many units; each network takes one, and later another one."""
    used, lock = [0], threading.Lock()

    class Unit:
        def __init__(self):
            with lock:
                if used[0] == room:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                used[0] += 1
            self.taken = True

        def __del__(self):
            with lock:
                used[0] -= hasattr(self, "taken")

    def train(number):
        images = Unit()
        time.sleep(0.02)
        activations = Unit()
        time.sleep(0.05)
        del images, activations
        return number

    assert list(in_parallel(train, range(8), at_once)) == list(range(8))


def test_one_that_does_not_fit_alone_says_so():
    def train(number):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        list(in_parallel(train, range(2), at_once=2))
