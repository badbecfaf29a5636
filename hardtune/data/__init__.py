"""Images and labels as arrays: loading them, their fingerprint, and the split that every trial shares."""

from hardtune.data import cifar, digits, fashion_mnist  # noqa: F401  importing them registers them
from hardtune.data.dataset import Dataset
from hardtune.data.decoding import Progress
from hardtune.data.harder import harder, long_tailed, with_label_noise
from hardtune.data.loading import DATASETS, Loader, files_of, load
from hardtune.data.out_of_distribution import check_ood, load_ood
from hardtune.data.pool import check_pool, load_pool
from hardtune.data.samples import Samples
from hardtune.data.split import Split

__all__ = [
    "DATASETS",
    "Dataset",
    "Loader",
    "Progress",
    "Samples",
    "Split",
    "check_ood",
    "check_pool",
    "files_of",
    "harder",
    "load",
    "load_ood",
    "load_pool",
    "long_tailed",
    "with_label_noise",
]
