"""CLIP and similar models, from open_clip."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hardtune.data import Dataset, Progress, Split
from hardtune.errors import InputError
from hardtune.hardness.encoders.encoder import ENCODERS
from hardtune.hardness.encoders.networks import check_channels, on_batches, run_network
from hardtune.pretrained import downloading, existing_file, fetch, fitting, sha256

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Clip:
    """An open_clip model's projected image embedding, not L2-normalised, with the model's own preprocessing.

    RMD's best encoder is CLIP-ViT-B (arXiv 2304.10127); its patch size, layer and normalisation are our choice.

    With a ``tag`` and no ``path`` the tag's weights are used, and downloaded if they are not on the machine.
    With a ``path`` the weights are the file's, for both towers: open_clip's own layout or one that it converts.
    A tag with a path tells how these weights were trained: without it OpenAI's weights in ``ViT-B-32`` would run
    with the wrong activation, and SigLIP's with the wrong mean.
    """

    model: str
    tag: str | None = None
    path: str | None = None
    by_image: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"{self.model}/{self.tag}" if self.tag else self.model

    def check(self, dataset: Dataset) -> None:
        check_channels(dataset, self.name)
        self._build()

    def identity(self) -> dict[str, str]:
        import open_clip

        self._check_names()
        tag = self._tag_config()
        vision = open_clip.get_model_config(self.model)["vision_cfg"]
        base = open_clip.transform.PreprocessCfg(size=vision.get("image_size", 224))
        identity = {
            "kind": "open_clip",
            "model": self.model,
            "preprocessing": json.dumps(open_clip.transform.merge_preprocess_dict(base, tag), sort_keys=True),
            "quick_gelu": str(tag.get("quick_gelu", False)),
        }
        if self.path is not None:
            return identity | {"sha256": sha256(existing_file(self.path, "encoder checkpoint"))}
        return identity | {"tag": str(self.tag)}

    def encode(self, split: Split, *, device: str, batch_size: int, progress: Progress | None) -> NDArray[np.float32]:
        network, preprocess = self._build()
        network.to(device)

        def embed(images: Tensor) -> Tensor:
            # CoCa's default is to normalise, CLIP's is not to.
            return network.encode_image(images, normalize=False)  # type: ignore[no-any-return]

        return run_network(
            embed, preprocess, split.train.images, device=device, batch_size=batch_size, progress=progress
        )

    def _check_names(self) -> None:
        import open_clip

        models = open_clip.list_models()
        if self.model not in models:
            close = difflib.get_close_matches(self.model, [*models, *ENCODERS], n=5, cutoff=0.5)
            hint = f"did you mean {', '.join(close)}?" if close else "open_clip.list_models() has the names"
            raise InputError(f"unknown encoder {self.model!r}: {hint}")
        tags = open_clip.list_pretrained_tags_by_model(self.model)
        if self.tag is not None and not self._tag_config():
            raise InputError(f"unknown pretrained tag {self.tag!r} of {self.model}: choose from {', '.join(tags)}")
        if self.tag is None and self.path is None:
            example = f"{self.model}/{tags[0]}" if tags else f"{self.model}@/path/to/checkpoint.safetensors"
            raise InputError(
                f"encoder {self.model!r} needs a pretrained tag or a checkpoint, as in {example}; "
                f"its tags are {', '.join(tags) or 'none'}"
            )

    def _tag_config(self) -> dict[str, Any]:
        import open_clip

        # The image size is the model's, whatever a tag says; open_clip does the same.
        config = open_clip.get_pretrained_cfg(self.model, self.tag) if self.tag else {}
        return {key: value for key, value in config.items() if key != "size"}

    def _build(self) -> tuple[Any, Callable[[Tensor], Tensor]]:
        import open_clip

        self._check_names()
        config = self._tag_config()
        path = existing_file(self.path, "encoder checkpoint") if self.path else self._fetch(config)
        with fitting(path, self.name):
            network = open_clip.create_model(
                self.model,
                pretrained=str(path),
                # open_clip only warns when a tag's activation is not the model's.
                force_quick_gelu=config.get("quick_gelu", False),
                force_preprocess_cfg=config,
                weights_only=True,
            )
        settings = open_clip.transform.PreprocessCfg(**network.visual.preprocess_cfg)
        transform = open_clip.transform.image_transform_v2(settings, is_train=False)
        return network.eval(), on_batches(transform, self.name)

    def _fetch(self, config: dict[str, Any]) -> Path:
        import open_clip
        from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

        instead = f"name the file as in {self.name}@/path/to/model.safetensors"
        repository, _, file = config["hf_hub"].rpartition("/")
        if repository:
            files = (file,) if file else (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
            return fetch(self.name, repository, files, instead)
        with downloading(self.name, config["url"], "~/.cache/clip", instead):
            return Path(open_clip.download_pretrained(config))


@ENCODERS.register("open_clip")
def _clip(rest: str) -> Clip:
    name, at, path = rest.partition("@")
    model, slash, tag = name.partition("/")
    if not model or (at and not path) or (slash and not tag):
        raise InputError(f"encoder {rest!r} is not MODEL/TAG, MODEL@PATH or MODEL/TAG@PATH")
    return Clip(model, tag or None, path or None)
