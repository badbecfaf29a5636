"""timm's image classifiers, without the classifier layer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hardtune.data import Dataset, Progress, Split
from hardtune.errors import InputError
from hardtune.hardness.encoders.encoder import ENCODERS
from hardtune.hardness.encoders.networks import check_channels, on_batches, run_network
from hardtune.pretrained import existing_file, fitting, read_state_dict, sha256, timm_config, timm_pretrained

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Timm:
    """A timm model's pooled features before the classifier, with the model's own preprocessing.

    ``model`` is ``NAME`` or ``NAME.TAG``. Its weights are timm's pretrained ones, or those of the file at ``path``
    in timm's own layout, with a classifier of any size or none: weights that timm omits from a model without classes
    are ignored, which in some families is more than the last layer.
    """

    model: str
    path: str | None = None
    by_image: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"timm:{self.model}"

    def check(self, dataset: Dataset) -> None:
        check_channels(dataset, self.name)
        self._build()

    def identity(self) -> dict[str, str]:
        config = self._config()
        identity = {"kind": "timm", "preprocessing": json.dumps(_data_config(config), sort_keys=True)}
        if self.path is not None:
            digest = sha256(existing_file(self.path, "encoder checkpoint"))
            return identity | {"model": config["architecture"], "sha256": digest}
        return identity | {"model": f"{config['architecture']}.{config['tag']}"}

    def encode(self, split: Split, *, device: str, batch_size: int, progress: Progress | None) -> NDArray[np.float32]:
        network, preprocess = self._build()
        return run_network(
            network.to(device),
            preprocess,
            split.train.images,
            device=device,
            batch_size=batch_size,
            progress=progress,
        )

    def _config(self) -> dict[str, Any]:
        file = f"name a file, as in timm:{self.model.partition('.')[0]}@/path/to/model.safetensors"
        return timm_config(self.model, weights=self.path is None, instead=file)

    def _build(self) -> tuple[Any, Callable[[Tensor], Tensor]]:
        import timm
        import torch
        from timm.data import create_transform

        config = self._config()
        if self.path is None:
            file = f"name the file as in {self.name}@/path/to/model.safetensors"
            network = timm_pretrained(self.model, config, file, num_classes=0)
        else:
            path = existing_file(self.path, "encoder checkpoint")
            network = timm.create_model(self.model, pretrained=False, num_classes=0)
            with torch.device("meta"):  # only its names matter
                whole = timm.create_model(self.model, pretrained=False)
            head = whole.state_dict().keys() - network.state_dict().keys()
            with fitting(path, self.name):
                # Not with timm's loader, which accepts files lacking most weights.
                state = read_state_dict(path)
                network.load_state_dict({name: value for name, value in state.items() if name not in head})
        return network.eval(), on_batches(create_transform(**_data_config(config), is_training=False), self.name)


def _data_config(config: dict[str, Any]) -> dict[str, Any]:
    from timm.data import resolve_data_config

    return resolve_data_config(pretrained_cfg=config)  # type: ignore[no-any-return]


@ENCODERS.register("timm")
def _timm(rest: str) -> Timm:
    model, at, path = rest.partition("@")
    if not model or (at and not path):
        raise InputError(f"encoder 'timm:{rest}' is not timm:NAME or timm:NAME@PATH")
    return Timm(model, path or None)
