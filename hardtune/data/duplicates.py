"""Images that are there twice, pixel for pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BYTES = 2**24
"""Of images that are worked on at a time."""


def first_same(images: NDArray[np.uint8], among: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For each image (N, H, W, C), the index (N,) of the first equal one ``among`` (N', H, W, C); -1 if there is none.

    Time is linear in the bytes, and memory is a key per image: equal images have equal keys, and only images whose keys
    are equal are compared.

    >>> one, other = np.zeros((1, 2, 2, 1), np.uint8), np.ones((1, 2, 2, 1), np.uint8)
    >>> first_same(np.concatenate([one, other]), among=np.concatenate([other, other]))
    array([-1,  0])
    """
    if images.shape[1:] != among.shape[1:] or not len(among):
        return np.full(len(images), -1)
    if not images.size:  # labels alone, which are all without pixels
        return np.zeros(len(images), np.int64)
    known, first = np.unique(_keys(among), return_index=True)
    asked = _keys(images)
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    found = np.where(known[place] == asked, first[place], -1)
    likely = np.flatnonzero(found >= 0)
    some = _at_a_time(images)
    for start in range(0, len(likely), some):
        rows = likely[start : start + some]
        found[rows[(images[rows] != among[found[rows]]).any(axis=(1, 2, 3))]] = -1
    return found


def _keys(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(N,): the sum over an image's words of eight bytes, each mixed with its place until all bits depend on all."""
    size = int(np.prod(images.shape[1:]))
    words = -(-size // 8)
    first, second = np.random.default_rng(0).integers(2**64, size=(2, words), dtype=np.uint64) | np.uint64(1)
    keys = np.empty(len(images), np.uint64)
    for start in range(0, len(images), _at_a_time(images)):
        some = images[start : start + _at_a_time(images)].reshape(-1, size)
        padded = np.zeros((len(some), 8 * words), np.uint8)
        padded[:, :size] = some
        mixed = padded.view(np.uint64)
        # A product carries only upwards, so a word's high bits come down before the next.
        for odd in (first, second):
            mixed *= odd
            mixed ^= mixed >> np.uint64(32)
        keys[start : start + len(some)] = mixed.sum(axis=1)
    return keys


def _at_a_time(images: NDArray[np.uint8]) -> int:
    return max(1, _BYTES // max(1, int(np.prod(images.shape[1:]))))
