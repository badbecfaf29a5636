"""What an encoder is, and how a recipe names one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hardtune.data import Dataset, Progress, Split
from hardtune.errors import InputError, blamed
from hardtune.registry import Registry


class Encoder(Protocol):
    """A frozen map from images to features.

    One whose attribute ``by_image`` is True promises that each row depends on its image alone. Held-out images are then
    encoded along with the others, once for all seeds, shares held out and label noise.
    """

    def check(self, dataset: Dataset) -> None:
        """Raise ``InputError``, before anything is trained, if ``encode`` would fail."""

    def identity(self) -> dict[str, str]:
        """All that determines the features of given images, as a cache key."""

    def encode(self, split: Split, *, device: str, batch_size: int, progress: Progress | None) -> NDArray[np.float32]:
        """Features (N, D), one row per sample of ``split.train``; tells (images encoded, images) now and then."""


ENCODERS: Registry[Callable[[str], Encoder]] = Registry("encoder")
"""By the kind in ``kind:rest``; each is called with the rest, which is empty for a plain ``kind``."""


def parse_encoder(spec: str) -> Encoder:
    """The encoder that a recipe names.

    ==================================  ===================================================================
    ``pixels``                          standardised pixels and their principal components: not pre-trained
    ``ViT-B-32/openai``                 an open_clip model and its pretrained tag
    ``ViT-B-32@/path/checkpoint``       an open_clip model with weights from a file
    ``ViT-B-32/openai@/path``           the same with the tag's own activation and preprocessing
    ``timm:NAME``, ``timm:NAME@/path``  a timm model before its classifier
    ``file:/path/features.npy``         a user's own features, also ``.npz`` and ``.safetensors``
    ==================================  ===================================================================

    Raises ``InputError`` for a malformed name; ``check_encoder`` checks whether the model or file exists.

    >>> parse_encoder("ViT-B-32/openai")
    Clip(model='ViT-B-32', tag='openai', path=None)
    """
    kind, colon, rest = spec.partition(":")
    if kind in ENCODERS:
        return ENCODERS[kind](rest)
    # A colon may be part of the path after an open_clip model's @.
    if colon and "@" not in kind:
        raise InputError(f"unknown kind of encoder {kind!r} in {spec!r}: choose from {', '.join(sorted(ENCODERS))}")
    return ENCODERS["open_clip"](spec)


def check_encoder(encoder: str, dataset: Dataset) -> None:
    """Check all that can go wrong with an encoder on this data, before anything is trained.

    Names and lengths are compared first; then networks are built with their weights, which takes seconds and
    downloads the weights if they are not on the machine.

    Raises ``InputError`` for an unknown model or tag (with close matches), weights or features that are missing
    (with where they were looked for), that hold pickled code, or that do not fit the model or the data.
    """
    with blamed(f"encoder {encoder!r} fails"):
        parse_encoder(encoder).check(dataset)


def encoder_identity(encoder: str) -> dict[str, str]:
    """All that determines an encoder's features of given images: kind, model, weights and preprocessing.

    Weights from a file are identified by their SHA-256, from a hub by their tag. The device is left out, so
    features made in bfloat16 on a GPU serve a CPU as well.
    """
    kind = encoder.partition(":")[0]
    return parse_encoder(encoder).identity() | (ENCODERS.code(kind) if kind in ENCODERS else {})


def is_by_image(encoder: str) -> bool:
    """Whether each row of its features depends on that image alone, as the encoder says itself."""
    return bool(getattr(parse_encoder(encoder), "by_image", False))


def encode(
    encoder: str,
    split: Split,
    *,
    device: str = "cpu",
    batch_size: int = 256,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Features float32 (N, D) of the training images, row by row; no augmentation.

    Networks run in bfloat16 on a CUDA device and in float32 elsewhere.

    Args:
        encoder: as ``parse_encoder`` reads it.
        split: its ``train`` images are encoded; ``pixels`` also fits to them.
        device: ``cpu``, ``cuda``, ``cuda:1``, …
        batch_size: images on the device at once.
        progress: called with (images encoded, images) after each batch.

    Raises:
        InputError: as ``check_encoder``, an encoder that raises, or features that are not (N, D) or not finite.
    """
    with blamed(f"encoder {encoder!r} fails"), np.errstate(over="ignore"):
        found = parse_encoder(encoder).encode(split, device=device, batch_size=batch_size, progress=progress)
        features = np.asarray(found, np.float32)
    if features.ndim != 2 or len(features) != len(split.train):
        raise InputError(f"encoder {encoder!r} must give features ({len(split.train)}, D), and gives {features.shape}")
    if not np.isfinite(features).all():
        row = int(np.flatnonzero(~np.isfinite(features).all(1))[0])
        raise InputError(f"encoder {encoder!r} gives features that are not finite, first for training sample {row}")
    return features
