"""Through open_clip itself, with a small architecture that is registered here and weights that are written here."""

import json
import os
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from hardtune.data import Dataset, Samples
from hardtune.errors import InputError
from hardtune.hardness.encoders import check_encoder, encode, encoder_identity
from hardtune.hardness.encoders.networks import on_batches

MODEL = "hardtune-test-ViT"
CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 48, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
}
TAG = {"hf_hub": "hardtune/no-such-model/", "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7), "resize_mode": "squash"}


@pytest.fixture(scope="module", autouse=True)
def architecture(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("configs") / f"{MODEL}.json"
    path.write_text(json.dumps(CONFIG))
    open_clip.add_model_config(path)
    open_clip.pretrained._PRETRAINED[MODEL] = {"planted": TAG | {"quick_gelu": True}}
    yield
    del open_clip.pretrained._PRETRAINED[MODEL]
    open_clip.factory._MODEL_CONFIG_PATHS.remove(path)
    del open_clip.factory._MODEL_CONFIGS[MODEL]


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return open_clip.create_model(MODEL).state_dict()


def pictures(height: int, width: int, channels: int, n: int = 5) -> np.ndarray:
    """Smooth images with an edge; sharp noise would only measure the resampling of noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width] / height
    waves = rng.uniform(1, 9, (n, channels, 2))
    images = np.sin(waves[:, :, :1, None] * y + waves[:, :, 1:, None] * x) * 110 + 128
    images[:, :, height // 2 :, : width // 3] = 250
    images = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).astype(np.uint8)
    images.flags.writeable = False
    return images


def dataset(images: np.ndarray) -> Dataset:
    samples = Samples(images, np.arange(len(images)) % 2)
    channels = images.shape[-1]
    return Dataset("pictures", samples, samples, ("a", "b"), (0.5,) * channels, (0.5,) * channels)


def one_by_one(model: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """Features as open_clip's own documentation makes them: PIL images through its transform."""
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg), is_train=False
    )
    batch = torch.stack([transform(Image.fromarray(image.squeeze())) for image in images])
    with torch.inference_mode():
        return model.eval().encode_image(batch).numpy()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (60, 90, 3)])
def test_features_are_open_clips_own_for_weights_from_a_file(tmp_path: Path, weights, suffix: str, shape):
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(weights, path)
    data = dataset(pictures(*shape))
    check_encoder(f"{MODEL}@{path}", data)
    calls: list[tuple[int, int]] = []
    features = encode(
        f"{MODEL}@{path}",
        data.hold_out("test", seed=0),
        batch_size=2,
        progress=lambda done, of: calls.append((done, of)),
    )
    model = open_clip.create_model(MODEL)
    model.load_state_dict(weights)
    expected = one_by_one(model, data.train.images)
    assert features.shape == (5, 24)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, atol=0.005 * np.abs(expected).max())
    assert calls == [(2, 5), (4, 5), (5, 5)]


def test_a_tag_beside_a_file_brings_its_activation_and_preprocessing(tmp_path: Path, weights):
    path = tmp_path / "w.safetensors"
    save_file(weights, path)
    # Of the network's own size: without resampling the features agree to the last digits.
    split = dataset(pictures(48, 48, 3)).hold_out("test", seed=0)
    features = encode(f"{MODEL}/planted@{path}", split)

    def expected(quick_gelu: bool, **preprocessing: object) -> np.ndarray:
        model = open_clip.create_model(MODEL, force_quick_gelu=quick_gelu, **preprocessing)
        model.load_state_dict(weights)
        return one_by_one(model, split.train.images)

    np.testing.assert_allclose(features, expected(True, force_preprocess_cfg=TAG), atol=1e-5)
    assert np.abs(features - expected(False, force_preprocess_cfg=TAG)).max() > 1e-3
    assert np.abs(features - expected(True)).max() > 1e-3


def test_a_training_checkpoint_with_its_state_dict_inside_is_read(tmp_path: Path, weights):
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in weights.items()}}, tmp_path / "epoch_3.pt")
    torch.save(weights, tmp_path / "plain.pt")
    split = dataset(pictures(32, 32, 3)).hold_out("test", seed=0)
    np.testing.assert_array_equal(
        encode(f"{MODEL}@{tmp_path / 'epoch_3.pt'}", split), encode(f"{MODEL}@{tmp_path / 'plain.pt'}", split)
    )


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (300, 280, 3), (40, 61, 3)])
def test_batches_are_preprocessed_as_open_clip_does_it_one_by_one(shape, resize_mode: str, interpolation: str):
    images = pictures(*shape)
    settings = open_clip.transform.PreprocessCfg(224, resize_mode=resize_mode, interpolation=interpolation)
    transform = open_clip.transform.image_transform_v2(settings, is_train=False)
    batch = on_batches(transform, "test")(torch.tensor(images).permute(0, 3, 1, 2))
    expected = torch.stack([transform(Image.fromarray(image.squeeze())) for image in images])
    in_levels = (batch - expected).abs() * torch.tensor(settings.std).view(1, 3, 1, 1) * 255
    assert in_levels.max() <= 1.01
    assert in_levels.mean() < 0.05


class Attack:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


def test_pickled_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path: Path):
    torch.save({"state_dict": Attack(tmp_path / "attacked")}, tmp_path / "evil.pt")
    with pytest.raises(
        InputError, match=r"evil\.pt is not loaded, since it is broken or holds pickled objects or code"
    ):
        check_encoder(f"{MODEL}@{tmp_path / 'evil.pt'}", dataset(pictures(32, 32, 3)))
    assert not (tmp_path / "attacked").exists()


def test_a_torchscript_archive_is_refused(tmp_path: Path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "scripted.pt")
    with pytest.raises(InputError, match="TorchScript"):
        check_encoder(f"{MODEL}@{tmp_path / 'scripted.pt'}", dataset(pictures(32, 32, 3)))


@pytest.mark.parametrize("content", [b"", b"broken"])
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_a_broken_checkpoint_is_named(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        check_encoder(f"{MODEL}@{tmp_path / name}", dataset(pictures(32, 32, 3)))


def test_weights_of_another_architecture_do_not_fit(tmp_path: Path, weights):
    save_file({name: value for name, value in weights.items() if "resblocks.1" not in name}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=rf"cannot be loaded into {MODEL}: .*Missing key"):
        check_encoder(f"{MODEL}@{tmp_path / 'w.safetensors'}", dataset(pictures(32, 32, 3)))


def test_weights_that_cannot_be_downloaded_say_what_from_where_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError) as error:
        check_encoder(f"{MODEL}/planted", dataset(pictures(32, 32, 3)))
    message = str(error.value)
    for part in (
        f"{MODEL}/planted",
        str(tmp_path),
        "open_clip_model.safetensors",
        "http://127.0.0.1:9/hardtune/no-such-model",
        f"{MODEL}/planted@/path/to/model.safetensors",
    ):
        assert part in message
    assert "\n" not in message


def test_weights_in_the_hubs_cache_need_no_network(tmp_path: Path, weights, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--hardtune--no-such-model"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    cached = repository / "snapshots" / "abc" / "open_clip_model.safetensors"
    save_file(weights, cached)
    split = dataset(pictures(32, 32, 3)).hold_out("test", seed=0)
    features = encode(f"{MODEL}/planted", split)
    np.testing.assert_array_equal(features, encode(f"{MODEL}/planted@{cached}", split))


def test_an_identity_tells_weights_and_preprocessing_apart(tmp_path: Path, weights):
    for name, change in (("a.safetensors", 0.0), ("same.safetensors", 0.0), ("b.safetensors", 1.0)):
        save_file({key: value + change for key, value in weights.items()}, tmp_path / name)
    a, same, b = (
        encoder_identity(f"{MODEL}@{tmp_path / n}") for n in ("a.safetensors", "same.safetensors", "b.safetensors")
    )
    assert a == same != b
    assert encoder_identity(f"{MODEL}/planted@{tmp_path / 'a.safetensors'}") != a
    assert encoder_identity(f"{MODEL}/planted")["tag"] == "planted"
    assert all(isinstance(value, str) for value in a.values())
