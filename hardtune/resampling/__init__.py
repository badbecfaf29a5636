"""Resampling: from class hardness to class counts, and from those to a training set."""
