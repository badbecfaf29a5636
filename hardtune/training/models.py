"""Networks by name: each is a function from (channels, classes, image size) to a module that maps images to logits."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from hardtune.errors import unknown
from hardtune.registry import Registry
from hardtune.training.timm_model import timm_model

Make = Callable[[int, int, int], nn.Module]
"""(channels, num_classes, image_size) to a network."""


class _Models(Registry[Make]):
    """The registered models, and all of timm's."""

    def __getitem__(self, name: str) -> Make:
        if name.startswith("timm:"):
            return timm_model(name.removeprefix("timm:"))
        if name not in self:
            raise unknown(self.kind, name, (*self, "timm:NAME"))
        return super().__getitem__(name)


MODELS = _Models("model")
"""``MODELS[name](channels, num_classes, image_size)``: float (B, C, H, W) to logits (B, K), built on the CPU,
where it is tried on two images before any is trained. ``timm:NAME`` is a model of timm's (see ``timm_model``).

A network is a function of its seed if its layers are not random in training, or if it trains on a CPU. Dropout and
stochastic depth on a GPU draw from that GPU's generator, which is not seeded and which networks training in parallel
share: there each run gives a different network.
"""


@MODELS.register("resnet18")
def resnet18(channels: int, num_classes: int, image_size: int) -> nn.Module:
    """ResNet-18 (He 2016) with the CIFAR stem that HBR trains: 3x3 stride 1, no max-pool; 11.2 M parameters."""
    from torchvision.models import resnet18

    network: nn.Module = resnet18(num_classes=num_classes)
    network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


@MODELS.register("small_cnn")
def small_cnn(channels: int, num_classes: int, image_size: int) -> nn.Module:
    """Three 3x3 convolutions of 32, 64 and 128 channels, then the maximum over the image; 94 k parameters.

    Made for CPUs: about 92 % on Fashion-MNIST in a minute. Images of up to 16 pixels keep their resolution one
    convolution longer; those of 24 to 31 pixels (28, say) start with a stride, which is cheaper there than a pool.
    """

    def block(inputs: int, outputs: int, *, stride: int = 1, pool: bool = False) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        shrink: list[nn.Module] = [nn.MaxPool2d(2)] if pool else []
        return [convolution, *shrink, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    small = image_size <= 16
    strided = 24 <= image_size < 32
    return nn.Sequential(
        *block(channels, 32, stride=2 if strided else 1, pool=not small and not strided),
        *block(32, 64, pool=True),
        *block(64, 128, pool=True),
        _GlobalMaxPool(),
        nn.Linear(128, num_classes),
    )


class _GlobalMaxPool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.amax(dim=(2, 3))
