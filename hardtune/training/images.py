"""Images on the device: gathered, augmented and normalised a batch at a time, and there only once."""

from __future__ import annotations

import threading
import warnings
import weakref
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

UInt8 = NDArray[np.uint8]


class DeviceImages:
    """uint8 (N, H, W, C) images, and any synthesised ones behind them, as normalised float batches.

    On the CPU the arrays are read in place (in an object store's shared memory, say) and never written. On a GPU,
    networks that train in parallel on the same array share one copy of it.
    Positions 0..N-1 refer to the images, N.. to the synthesised ones.
    """

    def __init__(
        self,
        images: UInt8,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: str,
        synthesised: UInt8 | None = None,
    ) -> None:
        self._copy = _copy_on(images, device)
        self.images = self._copy.there
        self.synthesised = _on(synthesised, device) if synthesised is not None and len(synthesised) else None
        scale = [1 / (255 * s) for s in std]
        shift = [-m / s for m, s in zip(mean, std, strict=True)]
        self._scale = torch.tensor(scale, dtype=torch.float32, device=device).view(1, -1, 1, 1)
        self._shift = torch.tensor(shift, dtype=torch.float32, device=device).view(1, -1, 1, 1)

    def batch(self, positions: Tensor) -> Tensor:
        """The images at ``positions`` (B,), as they are: float32 (B, C, H, W)."""
        return self._normalise(self._gather(positions).permute(0, 3, 1, 2))

    def augmented(self, positions: Tensor, padding: int, dy: Tensor, dx: Tensor, flip: Tensor | None) -> Tensor:
        """The same, cropped at (dy, dx) in 0..2·padding of the zero-padded image, mirrored where ``flip`` (B,)."""
        raw = self._gather(positions).permute(0, 3, 1, 2)
        if padding:
            height, width = raw.shape[2:]
            padded = torch.nn.functional.pad(raw, (padding, padding, padding, padding))
            windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, 2p+1, 2p+1, H, W), a view
            raw = windows[torch.arange(len(raw), device=raw.device), :, dy, dx]
        if flip is not None:
            raw = torch.where(flip.view(-1, 1, 1, 1) != 0, raw.flip(3), raw)
        return self._normalise(raw)

    def _gather(self, positions: Tensor) -> Tensor:
        if self.synthesised is None:
            return self.images[positions]
        count = len(self.images)
        real = self.images[positions.clamp(max=count - 1)]
        made = self.synthesised[(positions - count).clamp(min=0)]
        return torch.where((positions < count).view(-1, 1, 1, 1), real, made)

    def _normalise(self, raw: Tensor) -> Tensor:
        return torch.addcmul(self._shift, raw.float(), self._scale)


@dataclass(frozen=True, eq=False)
class _Copy:
    """An array and its copy on a device; the array lives as long, so that its ``id`` remains its own."""

    of: UInt8
    there: Tensor


_copies: weakref.WeakValueDictionary[tuple[int, str], _Copy] = weakref.WeakValueDictionary()
_copying = threading.Lock()


def _copy_on(images: UInt8, device: str) -> _Copy:
    """Shared by all who hold it at the same time."""
    with _copying:
        copy = _copies.get((id(images), device))
        if copy is None:
            copy = _copies[id(images), device] = _Copy(images, _on(images, device))
        return copy


def _on(images: UInt8, device: str) -> Tensor:
    with warnings.catch_warnings():
        # torch warns that it cannot mark a tensor read-only; nothing here writes to it.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images).to(device)
