"""The digits that scikit-learn ships: real, tiny, always available."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hardtune.data.dataset import Dataset
from hardtune.data.decoding import Progress
from hardtune.data.loading import DATASETS
from hardtune.data.samples import Samples
from hardtune.data.split import stratified


@DATASETS.register("digits")
def load_digits(data_dir: Path, progress: Progress | None) -> Dataset:
    """1,797 handwritten digits of 8×8 pixels (Alpaydin & Kaynak 1998, UCI), 30 % of every class for testing.

    Pixel values 0..16 are scaled to 0..255. The split is ours, fixed by a seed.
    """
    from sklearn import datasets as shipped

    bunch = shipped.load_digits()
    images = np.round(bunch.images[..., None] * (255 / 16)).astype(np.uint8)
    everything = Samples(images, bunch.target.astype(np.int64))
    classes = tuple(str(name) for name in bunch.target_names)
    test = stratified(everything.labels, classes, 0.3, seed=0)
    train = everything.take(np.setdiff1d(np.arange(len(everything)), test))
    return Dataset("digits", train, everything.take(test), classes)
