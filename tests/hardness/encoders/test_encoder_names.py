from types import SimpleNamespace

import numpy as np
import pytest

from hardtune.data import Dataset, Samples, load
from hardtune.errors import InputError
from hardtune.hardness.encoders import ENCODERS, check_encoder, encode, encoder_identity, is_by_image, parse_encoder
from hardtune.hardness.encoders.clip import Clip
from hardtune.hardness.encoders.feature_file import FeatureFile
from hardtune.hardness.encoders.timm_models import Timm


@pytest.mark.parametrize(
    ("spec", "encoder"),
    [
        ("ViT-B-32/openai", Clip("ViT-B-32", "openai")),
        ("open_clip:ViT-B-32/openai", Clip("ViT-B-32", "openai")),
        ("ViT-B-32@/a/b@c:d.pt", Clip("ViT-B-32", None, "/a/b@c:d.pt")),
        ("ViT-B-32/openai@w.safetensors", Clip("ViT-B-32", "openai", "w.safetensors")),
        ("timm:resnet18.a1_in1k", Timm("resnet18.a1_in1k")),
        ("timm:resnet18@/a.safetensors", Timm("resnet18", "/a.safetensors")),
        ("file:/a/features.npy", FeatureFile("/a/features.npy")),
    ],
)
def test_a_name_says_the_kind_the_model_the_weights_and_where_they_are(spec, encoder):
    assert parse_encoder(spec) == encoder


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("clip:ViT-B-32/openai", "unknown kind of encoder 'clip'.*choose from file, open_clip, pixels, timm"),
        ("pixels:8", "takes nothing after its name"),
        ("", "is not MODEL/TAG"),
        ("ViT-B-32@", "is not MODEL/TAG"),
        ("ViT-B-32/", "is not MODEL/TAG"),
        ("timm:", "is not timm:NAME"),
        ("file:", "needs a path"),
    ],
)
def test_a_malformed_name_says_what_is_right(spec, message):
    with pytest.raises(InputError, match=message):
        parse_encoder(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pixel", "did you mean pixels"),
        ("ViT-B-33/openai", "did you mean ViT-B-32"),
        ("ViT-B-32", "as in ViT-B-32/openai; its tags are openai, laion400m_e31"),
        ("ViT-B-32/openia", "unknown pretrained tag 'openia' of ViT-B-32: choose from openai, laion400m_e31"),
        ("ViT-B-32@/no/where.pt", "is not a file: looked for /no/where.pt"),
        ("timm:resnet19", "unknown timm model 'resnet19': did you mean .*resnet18"),
        ("timm:resnet18.mine", r"no pretrained weights named 'resnet18\.mine': choose from resnet18\.a1_in1k"),
        ("timm:resnet18@/no/where.pt", "is not a file: looked for /no/where.pt"),
        ("file:/no/where.npy", "is not a file: looked for /no/where.npy"),
    ],
)
def test_a_wrong_name_is_told_the_right_ones_before_anything_is_trained(spec, message):
    with pytest.raises(InputError, match=message):
        check_encoder(spec, load("digits"))


def test_anyone_can_add_a_kind_of_encoder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ENCODERS, "_entries", dict(ENCODERS._entries))

    class Mean:
        def check(self, dataset):
            pass

        def identity(self):
            return {"kind": "mean"}

        def encode(self, split, *, device, batch_size, progress):
            return split.train.images.mean((1, 2), dtype=np.float32)

    ENCODERS.register("mean")(lambda rest: Mean())
    split = load("digits").hold_out(0.1, seed=0)
    assert encode("mean", split).shape == (len(split.train), 1)
    assert encoder_identity("mean")["kind"] == "mean"


@pytest.mark.parametrize(
    ("give", "says"),
    [
        (lambda images: images @ None, "encoder 'mine' fails: "),
        (lambda images: images[:5].mean((1, 2)), r"encoder 'mine' must give features \(1132, D\), and gives \(5, 1\)"),
        (lambda images: images, r"must give features \(1132, D\), and gives \(1132, 8, 8, 1\)"),
        (lambda images: images.mean((1, 2)) + 1e300, "'mine' gives features that are not finite, first for .* 0"),
        (lambda images: [["a"]] * len(images), "encoder 'mine' fails: ValueError: could not convert string"),
    ],
)
def test_an_encoder_of_ones_own_that_fails_is_named(monkeypatch, give, says):
    mine = SimpleNamespace(encode=lambda split, **_: give(split.train.images), check=lambda dataset: dataset.images)
    monkeypatch.setitem(ENCODERS._entries, "mine", lambda rest: mine)
    with pytest.raises(InputError, match=says):
        encode("mine", load("digits").hold_out(0.1, seed=0))
    with pytest.raises(InputError, match=r"encoder 'mine' fails: AttributeError: .*images"):
        check_encoder("mine", load("digits"))


@pytest.mark.parametrize(
    ("spec", "by_image"),
    [("ViT-B-32/openai", True), ("timm:test_resnet.r160_in1k", True), ("pixels", False), ("file:features.npy", False)],
)
def test_only_networks_encode_held_out_images_along_since_pixels_are_fitted_to_the_others(spec, by_image):
    assert is_by_image(spec) == by_image


def test_features_of_ones_own_become_float32(monkeypatch):
    mine = SimpleNamespace(encode=lambda split, **_: split.train.images.mean((1, 2)).tolist())
    monkeypatch.setitem(ENCODERS._entries, "mine", lambda rest: mine)
    features = encode("mine", load("digits").hold_out(0.1, seed=0))
    assert features.dtype == np.float32
    assert features.shape == (1132, 1)


def test_features_that_are_not_finite_name_the_sample(tmp_path):
    images = np.full((4, 1, 1, 1), 9, np.uint8)
    samples = Samples(images, np.array([0, 0, 1, 1]))
    data = Dataset("d", samples, samples, ("a", "b"), (0.0,), (1.0,))
    features = np.zeros((4, 2), np.float32)
    features[2, 1] = np.nan
    np.save(tmp_path / "f.npy", features)
    with pytest.raises(InputError, match="not finite in float32, first in row 2"):
        encode(f"file:{tmp_path / 'f.npy'}", data.hold_out("test", seed=0))
