"""Which images an epoch shows, in which order, and how each is cropped and mirrored."""

from __future__ import annotations

import torch
from torch import Tensor

from hardtune.recipe import Recipe


def draw_views(rows: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """An epoch's views int64 (M, 4) of the positions ``rows`` (M,): position, crop offsets dy and dx, mirrored or not.

    Drawn on the CPU, so that every device trains on the same views, and copied to that of ``rows`` in one go.
    """
    count = len(rows)
    views = torch.empty(count, 4, dtype=torch.int64)
    order = torch.randperm(count, generator=generator)
    views[:, 1:3] = torch.randint(2 * recipe.crop_padding + 1, (2, count), generator=generator).T
    views[:, 3] = torch.rand(count, generator=generator) < 0.5
    views = views.to(rows.device, non_blocking=True)
    views[:, 0] = rows[order.to(rows.device)]
    return views
