"""The under- and oversamplings that leave a class the samples that it has, whatever count it is given."""

from __future__ import annotations

KEEPING = {
    "none": "nothing: the training set grows or shrinks by what the other classes gain or lose (in HBR's code hard "
    "classes vanish)",
    "reweight": "its samples count in the loss as much as if it had that count (ours)",
    "adjust": "in training, its logit is lowered by the log of its growth, so that a class that should grow needs a "
    "larger margin (logit adjustment, Menon et al. 2021, arXiv 2007.07314)",
    "posthoc": "training is as if nothing were asked, and predictions multiply its odds by its growth, of logits "
    "calibrated by a temperature (post-hoc logit adjustment, Menon et al. 2021)",
}
"""What each does instead. That growth follows from hardness in ``adjust`` and ``posthoc`` is ours."""
