"""What an oversampler is asked for, what it may draw on, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardtune.data.samples import Samples
from hardtune.errors import ContractError, InputError
from hardtune.read_only import read_only
from hardtune.registry import Registry
from hardtune.store import digest


@dataclass(frozen=True, eq=False)
class Pool:
    """Synthetic images that a user supplies, such as HBR's from diffusion models, judged by the scoring ensemble."""

    samples: Samples
    """P images, the size of the training images, and the class that each was made for."""
    confidence: NDArray[np.floating] | None = None
    """(P,): the scoring ensemble's mean softmax probability of that class, unaugmented; ``pool_random`` needs none."""
    class_confidence: NDArray[np.floating] | None = None
    """(K,): the same, averaged over the real training images of each class; ``pool_mean`` needs it."""

    def __post_init__(self) -> None:
        if not isinstance(self.samples, Samples):
            raise InputError(f"a pool must be of Samples(images, labels), got {type(self.samples).__name__}")
        for name in ("confidence", "class_confidence"):
            given = getattr(self, name)
            if given is None:
                continue
            if not isinstance(given, np.ndarray):
                raise InputError(f"the {name} of a pool must be a numpy array, got {type(given).__name__}")
            if not np.isfinite(given).all():
                raise InputError("the confidences in a pool contain NaN or infinity")
            object.__setattr__(self, name, read_only(given))
        if self.confidence is not None and self.confidence.shape != self.labels.shape:
            raise InputError(f"a pool needs one confidence for each image, got {self.confidence.shape}")
        classes = 0 if self.class_confidence is None else len(self.class_confidence)
        if classes and len(self.labels) and self.labels.max() >= classes:
            raise InputError(f"a pool has a label {self.labels.max()}, and the confidence of {classes} classes")

    @property
    def images(self) -> NDArray[np.uint8]:
        """(P, H, W, C)."""
        return self.samples.images

    @property
    def labels(self) -> NDArray[np.int64]:
        """(P,)."""
        return self.samples.labels

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all of these, for storing what is made from the pool."""
        judged = [given for given in (self.confidence, self.class_confidence) if given is not None]
        return f"{self.samples.fingerprint}-{digest(*judged)}" if judged else self.samples.fingerprint


@dataclass(frozen=True)
class Request:
    """One class that should gain ``add`` samples. Arrays are shared and read-only."""

    name: str
    label: int
    add: int
    members: NDArray[np.int64]
    """Training samples of the class, ascending; all of them stay."""
    holdout: NDArray[np.int64]
    """Training samples of the class that were pruned before."""
    train: Samples
    scores: NDArray[np.floating] | None = None
    """(N,) over ``train``, higher = harder."""
    features: NDArray[np.floating] | None = None
    """(N, D) over ``train``, from a frozen encoder."""
    pool: Pool | None = None


@dataclass(frozen=True)
class Added:
    """What a class gains: training samples by index, or images made for it."""

    indices: NDArray[np.int64] | None = None
    """Training samples (m,), each as often as it is added."""
    images: NDArray[np.uint8] | None = None
    """(m, H, W, C), with ``parents``."""
    parents: NDArray[np.int64] | None = None
    """The training sample (m,) that each image comes from, or stands for."""


Needed = Literal["scores", "features", "pool", "judged pool"]
"""What an oversampler may draw on; a pool is judged by the scoring ensemble, which must be trained for that."""

Draw = Callable[[Request, np.random.Generator], Added]
Check = Callable[[Request], str | None]


@dataclass(frozen=True)
class Oversampler:
    """One way for a hard class to grow."""

    draw: Draw
    infeasible: Check
    """Why the request cannot be met, as a clause that names the class; None if it can. Reads no images."""
    needs: Needed | None = None
    """What must be prepared for it, beyond the training samples."""
    images: bool = False
    """Whether it reads or makes images, so that samples that are labels alone are not enough."""


_NEEDED = {
    "scores": "an estimator's scores",
    "features": "a frozen encoder's features of the training samples",
    "pool": "a pool of synthetic images: a folder with a sub-folder for each class, or an .npz file",
}

OVERSAMPLERS: Registry[Oversampler] = Registry("oversampling")


def oversampler(
    name: str,
    *,
    needs: Needed | None = None,
    images: bool = False,
    infeasible: Check = lambda request: None,
) -> Callable[[Draw], Draw]:
    """Register the decorated function as the oversampler ``name``.

    It must return exactly ``request.add`` samples of the class and use no randomness but the generator; the request's
    arrays are read-only. A pool has confidences only if it ``needs="judged pool"``. ``images`` says that it reads or
    makes images, so it is refused where samples are labels alone. ``infeasible`` says whether it can, before any
    training and without reading images.
    """

    register = OVERSAMPLERS.register(name)

    def add(draw: Draw) -> Draw:
        def check(request: Request) -> str | None:
            if images and not request.train.images.size:
                return _labels_alone(name)
            attribute = (needs or "").removeprefix("judged ")
            if attribute and getattr(request, attribute) is None:
                return f"oversampling {name!r} needs {_NEEDED[attribute]}"
            return infeasible(request)

        register(Oversampler(draw, check, needs, images))
        return draw

    return add


def _labels_alone(name: str) -> str:
    others = ", ".join(sorted(other for other, how in OVERSAMPLERS.items() if not how.images and other != name))
    return f"oversampling {name!r} needs images, and these samples are labels alone: choose from {others}"


def checked_added(
    added: Added, request: Request, name: str
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """What the oversampler ``name`` gives, which may be user code: indices (m,), images (n, H, W, C), parents (n,).

    Raises:
        InputError: it is not what was requested.
    """
    if not isinstance(added, Added):
        raise ContractError(f"oversampling {name!r} must give an Added, got {type(added).__name__}")
    shape, made = request.train.images.shape[1:], added.images is not None
    images = np.asarray(added.images) if made else np.empty((0, *shape), np.uint8)
    indices, parents = (_numbers(it, name) for it in (added.indices, added.parents if made else None))
    if len(parents) and not request.train.images.size:
        raise InputError(_labels_alone(name))
    if images.dtype != np.uint8 or images.shape != (len(parents), *shape):
        raise ContractError(
            f"oversampling {name!r} must give uint8 images {shape}, each with a parent, "
            f"got {images.dtype} {images.shape} and {len(parents)} parents"
        )
    given = np.concatenate([indices, parents])
    own = int(np.isin(given, np.concatenate([request.members, request.holdout])).sum())
    if own != request.add or own != len(given):
        others = f" and {len(given) - own} of other classes" if own < len(given) else ""
        raise ContractError(
            f"oversampling {name!r} must give {request.add} samples of class {request.name!r}, and gave {own}{others}"
        )
    return indices, images, parents


def _numbers(samples: ArrayLike | None, name: str) -> NDArray[np.int64]:
    found = np.asarray(() if samples is None else samples)
    if found.ndim != 1 or (len(found) and found.dtype.kind not in "iu"):
        raise ContractError(
            f"oversampling {name!r} must name samples by whole numbers (m,), got {found.dtype} {found.shape}"
        )
    return found.astype(np.int64)
