"""Running a frozen network on many images, with its library's preprocessing applied to whole batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hardtune.data import Dataset, Progress
from hardtune.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def check_channels(dataset: Dataset, encoder: str) -> None:
    """Raise ``InputError`` for images that are neither grey nor RGB, which such networks cannot be shown."""
    channels = dataset.train.images.shape[3]
    if channels not in (1, 3):
        raise InputError(
            f"encoder {encoder!r} is for grey or RGB images, and those of {dataset.name} have {channels} channels: "
            "encode them yourself and use file:/path/features.npy, or use pixels"
        )


def on_batches(transform: Any, encoder: str) -> Callable[[Tensor], Tensor]:
    """A library's transform of one PIL image as a function of uint8 (B, C, H, W), C = 1 or 3, on any device.

    The steps and their settings are the library's, but applied to tensors instead of a PIL image. The results
    agree within 2 of 255, and for most models within 1; within 4 if a wide image is squashed.
    """
    from torchvision import transforms

    steps: list[Callable[[Tensor], Tensor]] = []
    for step in transform.transforms:
        if isinstance(step, transforms.ToTensor):
            steps.append(_unit_rgb)
        elif type(step).__name__ == "MaybeConvertMode":
            continue  # to RGB, which _unit_rgb does
        elif isinstance(step, transforms.Resize):
            steps.append(_resize(step))
        elif isinstance(step, (transforms.CenterCrop, transforms.Normalize)):
            steps.append(step)
        else:
            raise InputError(
                f"encoder {encoder!r} prepares images with {type(step).__name__}, which cannot be done in batches: "
                "encode the images yourself and use file:/path/features.npy"
            )

    def preprocess(images: Tensor) -> Tensor:
        for step in steps:
            images = step(images)
        return images

    return preprocess


def _resize(step: Any) -> Callable[[Tensor], Tensor]:
    from torchvision.transforms.functional import resize

    def in_two_passes(images: Tensor) -> Tensor:
        height, width = step(images[:1]).shape[-2:]
        # Rows, then columns, clipped and rounded to 8 bits in between, as Pillow does it: clipping only at the end
        # would differ by up to 10 of 255 near sharp edges.
        rows = resize(images, [images.shape[-2], width], step.interpolation, antialias=True)
        return resize(rows, [height, width], step.interpolation, antialias=True)  # type: ignore[no-any-return]

    return in_two_passes


def _unit_rgb(images: Tensor) -> Tensor:
    return (images.float() / 255).expand(-1, 3, -1, -1)


def run_network(
    network: Callable[[Tensor], Tensor],
    preprocess: Callable[[Tensor], Tensor],
    images: NDArray[np.uint8],
    *,
    device: str,
    batch_size: int,
    progress: Progress | None,
) -> NDArray[np.float32]:
    """Features float32 (N, D) of uint8 (N, H, W, C): bfloat16 autocast on CUDA, float32 elsewhere."""
    import torch

    rows: list[NDArray[np.float32]] = []
    on_gpu = torch.device(device).type == "cuda"
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=on_gpu):
        for start in range(0, len(images), batch_size):
            # torch.tensor copies: the images may be read-only.
            batch = torch.tensor(images[start : start + batch_size]).to(device).permute(0, 3, 1, 2)
            rows.append(network(preprocess(batch)).flatten(1).float().cpu().numpy())
            if progress is not None:
                progress(min(start + batch_size, len(images)), len(images))
    return np.concatenate(rows)
