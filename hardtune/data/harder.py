"""Data sets made harder on purpose: by a long tail of small classes, or by wrong labels.

Which samples are left or mislabelled depends on the data alone, never on a sweep's seed: sweeps that differ in it, such
as confirmations, are of the same data. The test split stays as it is.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from hardtune.data.dataset import Dataset
from hardtune.data.samples import Samples
from hardtune.data.split import by_class
from hardtune.errors import InputError
from hardtune.numeric import is_number


def check_harder(imbalance: float, label_noise: float) -> None:
    """Raise ``InputError`` for what :func:`long_tailed` or :func:`with_label_noise` would refuse of any data."""
    if not is_number(imbalance) or not 1 <= imbalance < math.inf:
        raise InputError(f"imbalance is how many times as large the first class is as the last, got {imbalance!r}")
    if not is_number(label_noise) or not 0 <= label_noise < 1:
        raise InputError(f"label_noise is a share of the training samples, from 0 to below 1, got {label_noise!r}")


def harder(dataset: Dataset, imbalance: float = 1.0, label_noise: float = 0.0) -> Dataset:
    """The data set with a long tail, if ``imbalance`` is above 1, and then with wrong labels, if any are asked for."""
    return with_label_noise(long_tailed(dataset, imbalance), label_noise)


def long_tailed(dataset: Dataset, imbalance: float) -> Dataset:
    """The data set with a long tail: class c of K keeps a share of imbalance^(-c/(K - 1)) of its training samples.

    So the first keeps all, and the last one in ``imbalance``; rounded down, but at least one sample, drawn at random.
    Of CIFAR these are CIFAR-10-LT and CIFAR-100-LT (Cui et al., Class-Balanced Loss Based on Effective Number of
    Samples, CVPR 2019).

    >>> from hardtune.data import load
    >>> np.bincount(long_tailed(load("digits"), 10).train.labels)
    array([125,  98,  74,  59,  45,  35,  27,  20,  15,  12])

    Raises:
        InputError: an imbalance below 1.
    """
    check_harder(imbalance, 0.0)
    imbalance = float(imbalance)  # of numpy's float32, shares would be rounded to other numbers of samples
    if imbalance == 1:
        return dataset
    rng = np.random.default_rng(0x7A11)
    kept = []
    for label, members in enumerate(by_class(dataset.train.labels, dataset.num_classes)):
        share = imbalance ** (-label / (dataset.num_classes - 1))
        kept.append(rng.permutation(members)[: max(1, math.floor(share * len(members) + 1e-9))])
    return dataset.part(np.sort(np.concatenate(kept)), name=f"{dataset.name}-imbalance-{imbalance:g}")


def with_label_noise(dataset: Dataset, rate: float) -> Dataset:
    """The data set with a random other label for a share ``rate`` of its training samples: symmetric label noise.

    Which these are is found by ``dataset.train.labels != dataset.origin.labels[dataset.origin.rows]``.

    Raises:
        InputError: a rate below 0, or of 1 and more.
    """
    check_harder(1.0, rate)
    rate = float(rate)
    if rate == 0:
        return dataset
    rng = np.random.default_rng(0xF11B)
    labels = dataset.train.labels.copy()
    wrong = rng.permutation(len(labels))[: round(rate * len(labels))]
    labels[wrong] = (labels[wrong] + rng.integers(1, dataset.num_classes, len(wrong))) % dataset.num_classes
    train, name = Samples(dataset.train.images, labels), f"{dataset.name}-label-noise-{rate:g}"
    origin = dataclasses.replace(dataset.traced(), of=train)
    return dataclasses.replace(dataset, name=name, train=train, origin=origin)
