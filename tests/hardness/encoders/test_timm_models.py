"""Through timm itself, with its smallest architectures and weights that are written here."""

import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from hardtune.data import Dataset, Samples
from hardtune.errors import InputError
from hardtune.hardness.encoders import check_encoder, encode, encoder_identity

MODEL = "test_resnet"


@pytest.fixture(scope="module")
def data() -> Dataset:
    y, x = np.mgrid[0:32, 0:32] / 32
    phases = np.arange(5)[:, None, None]
    images = (np.sin(6 * x + phases) * np.cos(5 * y - phases) * 120 + 128).astype(np.uint8)[..., None].repeat(3, axis=3)
    images.flags.writeable = False
    samples = Samples(images, np.array([0, 1, 0, 1, 0]))
    return Dataset("pictures", samples, samples, ("a", "b"), (0.5,) * 3, (0.5,) * 3)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model(MODEL, pretrained=False, num_classes=7).eval()


def before_the_classifier(network: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    batch = torch.stack([transform(Image.fromarray(image)) for image in images])
    with torch.inference_mode():
        return network.forward_head(network.forward_features(batch), pre_logits=True).numpy()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_features_are_those_before_the_classifier_of_any_size(tmp_path: Path, data, network, suffix: str):
    path = tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(network.state_dict(), path)
    check_encoder(f"timm:{MODEL}@{path}", data)
    features = encode(f"timm:{MODEL}@{path}", data.hold_out("test", seed=0), batch_size=2)
    expected = before_the_classifier(network, data.train.images)
    assert features.shape == expected.shape
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, atol=0.005 * np.abs(expected).max())


@pytest.mark.parametrize("encoder", [f"timm:{MODEL}@weights.safetensors", "ViT-B-32/openai"])
def test_images_of_more_channels_than_such_networks_know_are_refused(data, encoder):
    four = Samples(np.concatenate([data.train.images, data.train.images[..., :1]], axis=3), data.train.labels)
    with pytest.raises(InputError, match=r"is for grey or RGB images, and those of x have 4 channels: .* use file:"):
        check_encoder(encoder, Dataset("x", four, four, ("a", "b")))


@pytest.mark.parametrize("model", ["levit_128s", "repvit_m0_9"])
def test_a_head_of_more_than_the_classifier_is_passed_over(tmp_path: Path, data, model: str):
    """timm names only the last layers of these heads as the classifier, and leaves out more or others."""
    save_file(timm.create_model(model, pretrained=False).state_dict(), tmp_path / "w.safetensors")
    check_encoder(f"timm:{model}@{tmp_path / 'w.safetensors'}", data)


def test_weights_without_a_classifier_serve_as_well(tmp_path: Path, data, network):
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("fc.")}
    save_file(state, tmp_path / "headless.safetensors")
    check_encoder(f"timm:{MODEL}@{tmp_path / 'headless.safetensors'}", data)


def test_weights_of_another_architecture_do_not_fit(tmp_path: Path, data, network):
    state = dict(network.state_dict())
    del state["conv1.0.weight" if "conv1.0.weight" in state else next(iter(state))]
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=rf"cannot be loaded into timm:{MODEL}: .*Missing key"):
        check_encoder(f"timm:{MODEL}@{tmp_path / 'w.safetensors'}", data)


class Attack:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


def test_pickled_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path: Path, data):
    torch.save({"state_dict": Attack(tmp_path / "attacked")}, tmp_path / "evil.pt")
    with pytest.raises(
        InputError, match=r"evil\.pt is not loaded, since it is broken or holds pickled objects or code"
    ):
        check_encoder(f"timm:{MODEL}@{tmp_path / 'evil.pt'}", data)
    assert not (tmp_path / "attacked").exists()


def test_weights_that_cannot_be_downloaded_say_what_from_where_and_what_to_do(tmp_path: Path, data, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=rf"model\.safetensors or .* of http://127.0.0.1:9/timm/{MODEL}\.r160_in1k"):
        check_encoder(f"timm:{MODEL}", data)


def test_weights_in_the_hubs_cache_need_no_network(tmp_path: Path, data, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / f"models--timm--{MODEL}.r160_in1k"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    cached = repository / "snapshots" / "abc" / "model.safetensors"
    save_file(timm.create_model(MODEL, pretrained=False).state_dict(), cached)
    split = data.hold_out("test", seed=0)
    np.testing.assert_array_equal(encode(f"timm:{MODEL}", split), encode(f"timm:{MODEL}@{cached}", split))


def test_an_identity_names_the_pretrained_weights_or_the_files_content(tmp_path: Path, network):
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    assert encoder_identity(f"timm:{MODEL}")["model"] == f"{MODEL}.r160_in1k"
    assert encoder_identity(f"timm:{MODEL}") == encoder_identity(f"timm:{MODEL}.r160_in1k")
    assert "sha256" in encoder_identity(f"timm:{MODEL}@{tmp_path / 'w.safetensors'}")
