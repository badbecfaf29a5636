"""What every treatment of a sweep shares."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from hardtune.errors import InputError, unknown


@dataclass(frozen=True)
class Recipe:
    """How networks are trained; the default is HBR's recipe for CIFAR (arXiv 2504.07031).

    Everything counted in epochs scales with ``epochs``: milestones and warm-up are fractions of the run.
    """

    model: str = "resnet18"
    """A name in ``hardtune.training.models.MODELS``, or ``timm:NAME``; with a tag, from its pre-trained weights."""
    epochs: int = 200
    batch_size: int = 128
    budget: str = "epochs"
    """What all treatments have equally much of: ``epochs``, or ``steps``: as many as the control has in ``epochs``, so
    that those with fewer samples train for more epochs and those with more for fewer; the last one may be broken off.
    """
    optimiser: str = "sgd"
    """``sgd`` with Nesterov momentum; or ``adamw``, which transformers need, with learning rates of about 0.001."""
    learning_rate: float = 0.1
    momentum: float = 0.9
    """Of SGD; of AdamW, β₁ (β₂ is 0.999)."""
    weight_decay: float = 5e-4
    """Of all weights; AdamW's is usually larger, such as 0.05."""
    schedule: str = "steps"
    """``steps`` multiplies the learning rate by ``decay`` at each milestone; ``linear`` and ``cosine`` end at zero."""
    milestones: tuple[float, ...] = (0.3, 0.6, 0.8)
    """Where ``steps`` decays, as fractions of the run (60, 120 and 160 of 200 epochs)."""
    decay: float = 0.2
    warmup: float = 0.0
    """The fraction of the run over which the learning rate rises linearly from zero."""
    flip: bool = True
    """Mirror half of the images left to right."""
    crop_padding: int = 4
    """Pixels of zero padding before a random crop back to size; 0 for no crop."""
    precision: str = "auto"
    """For matrix products in training: ``float32``, ``bfloat16``, or ``auto`` for the faster one on the device
    (see ``hardtune.training.choices``)."""

    layout: str = "auto"
    """Memory format of images and weights: ``channels_last``, ``channels_first``, or ``auto`` for the device's best."""

    cuda_graphs: bool = True
    """On GPUs, capture a step once and replay it as one launch: same results, faster. If a step cannot be captured,
    training continues without."""

    compile: bool | str = "auto"
    """Train with ``torch.compile``: fewer passes over memory (1.4 times as fast on an H200) and different rounding, at
    the cost of half a minute before the first step. ``auto`` uses it for long runs on GPUs; on CPUs it does not pay."""

    members: int = 5
    """Networks in each treatment's ensemble; member i shares its seed with the control's member i."""
    scoring_members: int = 8
    """Networks in the ensemble that scores the samples."""
    encoder: str = "ViT-B-32/openai"
    """The frozen encoder behind RMD and encoder-space neighbours."""
    validation: float | str = 0.1
    """Stratified share of the training data that objectives are measured on; or ``"val"``, the data's own validation
    split; ``"test"`` reproduces the papers' protocol, which selects on the test split."""
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            # Convert to the field's type: 1 and 1.0 are the same learning rate but would be stored separately.
            object.__setattr__(self, field.name, _as(str(field.type), field.name, getattr(self, field.name)))
        for name in ("epochs", "batch_size", "members", "scoring_members", "seed", "crop_padding"):
            least = 0 if name in ("seed", "crop_padding") else 1
            if getattr(self, name) < least:
                raise InputError(f"{name} must be a whole number of at least {least}, got {getattr(self, name)!r}")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate must be above 0, got {self.learning_rate!r}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown(name, getattr(self, name), choices)
        if self.optimiser == "adamw" and self.learning_rate > 0.05:
            raise InputError(
                f"learning_rate {self.learning_rate:g} is one for SGD: AdamW needs one of at most 0.05, usually 0.001"
            )
        for name, low, high in (("momentum", 0, 1), ("weight_decay", 0, 1), ("decay", 0, 1), ("warmup", 0, 1)):
            if not low <= getattr(self, name) < high:
                raise InputError(f"{name} must be in [{low}, {high}), got {getattr(self, name)!r}")
        if isinstance(self.compile, str) and self.compile != "auto":
            raise InputError(f"compile must be true, false or 'auto', got {self.compile!r}")
        if any(not 0 < point < 1 for point in self.milestones):
            raise InputError(f"milestones must be fractions of the run between 0 and 1, got {self.milestones!r}")
        if self.validation not in ("val", "test") and (isinstance(self.validation, str) or not 0 < self.validation < 1):
            raise InputError(
                f"validation must be between 0 and 1, 'val', or 'test' to hold none out, got {self.validation!r}"
            )

    def training_identity(self) -> dict[str, object]:
        """The fields that determine a trained network, given data and seed; the rest may change freely."""
        ignored = {"members", "scoring_members", "encoder", "validation", "seed", "cuda_graphs"}
        used = self
        if self.schedule != "steps":  # only ``steps`` uses these
            used = dataclasses.replace(self, milestones=Recipe.milestones, decay=Recipe.decay)
        # Networks of earlier versions, which had no others, are the same.
        ignored |= {name for name in ("budget", "optimiser") if getattr(self, name) == getattr(Recipe, name)}
        return {k: v for k, v in dataclasses.asdict(used).items() if k not in ignored}


_CHOICES = {
    "budget": ("epochs", "steps"),
    "optimiser": ("sgd", "adamw"),
    "schedule": ("steps", "linear", "cosine"),
    "precision": ("auto", "float32", "bfloat16"),
    "layout": ("auto", "channels_last", "channels_first"),
}

_KINDS = {
    "str": "a name",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a finite number",
    "bool | str": "true, false or 'auto'",
    "float | str": "a fraction, 'val' or 'test'",
    "tuple[float, ...]": "a tuple of fractions of the run",
}


def _as(kind: str, name: str, value: Any) -> Any:
    """The value, possibly a numpy number, converted to its field's type; ``InputError`` if it cannot be."""
    if "str" in kind and isinstance(value, str):
        return value
    dimensions = getattr(value, "ndim", None)  # arrays answer comparisons with arrays, and those of none have no parts
    if kind.startswith("bool") and not dimensions and value in (True, False):
        return bool(value)
    if not isinstance(value, bool):
        if kind == "int" and isinstance(value, Integral):
            return int(value)
        if kind.startswith("float") and isinstance(value, Real) and math.isfinite(value):
            return float(value) + 0.0  # JSON tells -0.0, which is equal, from 0.0
        if kind.startswith("tuple") and isinstance(value, Iterable) and not isinstance(value, str) and dimensions != 0:
            return tuple(sorted(_as("float", name, part) for part in value))
    raise InputError(f"{name} must be {_KINDS[kind]}, got {value!r}")


ON_DIGITS = Recipe(
    model="small_cnn",
    epochs=10,
    batch_size=64,
    schedule="linear",
    warmup=0.2,
    flip=False,  # a mirrored 2 is not a 2
    crop_padding=1,
    encoder="pixels",
    validation=0.3,  # 375 images: with fewer, one of them would move the recall gap more than a treatment does
)
"""For scikit-learn's digits: a network trains in about a second on a CPU core, and no pre-trained one is needed."""
