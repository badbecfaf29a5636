"""GraNd: the norm of each sample's gradient."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from hardtune.errors import InputError, in_a_line, where
from hardtune.training.losses import as_int64, at_least_float32

CHUNK = 32
"""Samples differentiated at once: larger chunks do not fit in a CPU's cache."""
GRADIENT_BYTES = 2**29
"""Maximum size of their gradients; a large network gets smaller chunks."""

_WHOLE_NUMBERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_TOKENS = (torch.int64, torch.int32)
"""What embeddings take."""


def gradient_norms(
    model: nn.Module,
    images: Iterable[Tensor],
    labels: Tensor,
    *,
    chunk_size: int | None = None,
) -> NDArray[np.float32]:
    """‖∇ cross-entropy(model(x_i), y_i)‖₂ over all trainable parameters: float32 (N,), higher = harder.

    GraNd of Paul et al. 2021 (arXiv 2107.07075, def. 2.1), who average it over networks early in training. The model
    runs in eval mode: in train mode, batch norm makes a sample's loss depend on its batch, so no gradient belongs to
    the sample alone. Its modules' modes are restored; its parameters, buffers and gradients are not touched.

    Args:
        model: On the device to compute on.
        images: Batches (B, C, H, W) of normalised images, N in all, or one such tensor; or of a model's other inputs
            (B, …). int64 and int32 stay what they are, as token ids must; other types become that of the parameters.
        labels: Whole numbers (N,), in the same order.
        chunk_size: Samples differentiated at once; by default 32, or as many as keep their gradients within 512 MiB.

    Raises:
        InputError: Labels of another type or shape, below 0 or of no output of the model, batches that are no tensors
            or do not hold one image per label, a chunk size below 1, nothing is trainable, outputs that are no (B, K),
            or a gradient is NaN or infinite.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    >>> _ = nn.init.zeros_(model[1].weight)
    >>> gradient_norms(model, torch.tensor([1.0, 2.0]).view(2, 1, 1, 1), torch.tensor([0, 1])).round(4)  # |x| / √2
    array([0.7071, 1.4142], dtype=float32)
    """
    if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.dtype not in _WHOLE_NUMBERS:
        got = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise InputError(f"labels must be a tensor of whole numbers (N,), got {got}")
    labels = as_int64(labels)
    whole = isinstance(chunk_size, Integral) and not isinstance(chunk_size, bool)
    if chunk_size is not None and not (whole and chunk_size >= 1):
        raise InputError(f"chunk_size must be a whole number of at least 1, or None, got {chunk_size!r}")
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise InputError("gradient norms need a model with trainable parameters, and this one has none")
    fixed = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    fixed |= {name: buffer.detach() for name, buffer in model.named_buffers()}
    anywhere = next(iter(parameters.values()))
    count = sum(p.numel() for p in parameters.values())
    size = chunk_size or max(1, min(CHUNK, GRADIENT_BYTES // (count * anywhere.element_size())))

    def loss(values: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, {**fixed, **values}, (image[None],))
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(
                f"the model must return logits (B, K), got {got}: give one whose forward returns them alone"
            )
        if high >= logits.shape[1]:
            raise InputError(f"labels must be in 0..{logits.shape[1] - 1}, as the model's outputs, got {low}..{high}")
        return F.cross_entropy(at_least_float32(logits), label[None])

    def norm(image: Tensor, label: Tensor) -> Tensor:
        gradients: dict[str, Tensor] = grad(loss)(parameters, image, label)
        return torch.stack([at_least_float32(g).square().sum() for g in gradients.values()]).sum().sqrt()

    low, high = (int(bound) for bound in labels.aminmax()) if len(labels) else (0, 0)
    if low < 0:  # -100 would be ignored, and its gradient 0
        raise InputError(f"labels must be at least 0, got {low}")
    per_sample = vmap(norm)
    modes = [(module, module.training) for module in model.modules()]
    norms: list[Tensor] = []
    done = 0
    model.eval()
    try:
        for batch in [images] if isinstance(images, Tensor) else images:
            if not isinstance(batch, Tensor):
                raise InputError(
                    f"images must be a tensor or batches (B, C, H, W) of them, got batches of {type(batch).__name__}: "
                    "give a generator of the inputs alone, such as (images for images, labels in loader), and a model "
                    "that takes them as one tensor and returns the logits"
                )
            dtype = batch.dtype if batch.dtype in _TOKENS else anywhere.dtype
            for chunk in batch.split(size):
                part = labels[done : done + len(chunk)].to(anywhere.device)
                if len(part) < len(chunk):
                    raise InputError(f"there are more images than the {len(labels)} labels")
                try:
                    norms.append(per_sample(chunk.to(anywhere.device, dtype), part).detach())
                except (InputError, torch.OutOfMemoryError):  # without memory, in_parallel tries again
                    raise
                except Exception as error:
                    says = "the model fails on one sample at a time under torch.func.vmap, as nn.GRU and masks may"
                    raise InputError(f"{says}: {in_a_line(error)}{where(error)}") from error
                done += len(chunk)
    finally:
        for module, training in modes:
            module.training = training
    if done != len(labels):
        raise InputError(f"there are {done} images for {len(labels)} labels")
    found = torch.cat(norms).cpu().numpy().astype(np.float32) if norms else np.empty(0, np.float32)
    if not np.isfinite(found).all():
        raise InputError(f"the gradient of sample {np.argmin(np.isfinite(found))} is NaN or infinite: has it diverged?")
    return found
