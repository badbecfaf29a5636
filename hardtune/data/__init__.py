"""Images and labels as arrays: loading them, their fingerprint, and the split that every trial shares."""

from hardtune.data.dataset import Dataset, Samples, Split

__all__ = ["Dataset", "Samples", "Split"]
