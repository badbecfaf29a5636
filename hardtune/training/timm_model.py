"""timm's networks, trained from scratch or from the weights that a tag names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from hardtune.errors import InputError
from hardtune.pretrained import timm_config, timm_pretrained


def timm_model(name: str) -> Callable[[int, int, int], nn.Module]:
    """A factory of timm's model ``name``: ``resnet18`` with random weights, ``resnet18.a1_in1k`` with those of the tag.

    A tag's weights are downloaded once to the Hugging Face cache of each machine; the classifier is new. Images
    are normalised as for other models, by the data set's own mean and deviation.

    Raises:
        InputError: timm has no such model, or no weights of that tag; or, as one is made, they cannot be downloaded.
    """
    architecture, _, tag = name.partition(".")
    config = timm_config(name, weights=False, instead=f"{architecture} for random ones")

    instead = f"copy that machine's cache, which timm.create_model({name!r}, pretrained=True) fills, to here"

    def make(channels: int, num_classes: int, image_size: int) -> nn.Module:
        import timm

        options: dict[str, Any] = {"in_chans": channels, "num_classes": num_classes}
        if config.get("fixed_input_size"):  # transformers are built for one image size
            options["img_size"] = image_size
        network: nn.Module = (
            timm_pretrained(name, config, instead, **options) if tag else timm.create_model(name, **options)
        )
        if tag and config.get("num_classes") == num_classes:  # else timm made a new one
            network.reset_classifier(num_classes)  # type: ignore[operator]
        _check_patches(network, name, image_size)
        return network

    return make


def _check_patches(network: nn.Module, name: str, image_size: int) -> None:
    """Raise ``InputError`` if a transformer's patches leave a margin, which it would not see, and not mention."""
    embedding = getattr(network, "patch_embed", None)
    patch = getattr(embedding, "patch_size", 1)
    patch = patch if isinstance(patch, int) else max(patch)
    if image_size % patch and not getattr(embedding, "dynamic_img_pad", False):
        raise InputError(
            f"{name} looks at patches of {patch} x {patch} pixels, and would not see the last {image_size % patch} of "
            f"{image_size}: choose a network whose patches fit, or images of another size"
        )
