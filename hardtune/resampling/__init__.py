"""What to do about it: class hardness to class counts, and class counts to a training set."""
