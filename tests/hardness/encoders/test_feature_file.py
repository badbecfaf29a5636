import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hardtune.data import Dataset, load
from hardtune.errors import InputError
from hardtune.hardness.encoders import check_encoder, encode, encoder_identity


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def features(digits: Dataset) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(len(digits.train), 6))


def save(path: Path, features: np.ndarray, fingerprint: str | None = None) -> str:
    if path.suffix == ".npy":
        np.save(path, features)
    elif path.suffix == ".npz":
        np.savez(path, features=features, **({"fingerprint": np.array(fingerprint)} if fingerprint else {}))
    else:
        save_file({"features": torch.tensor(features)}, path, {"fingerprint": fingerprint} if fingerprint else None)
    return f"file:{path}"


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_features_follow_their_samples_into_the_split(tmp_path, digits, features, suffix):
    encoder = save(tmp_path / f"f{suffix}", features)
    check_encoder(encoder, digits)
    split = digits.hold_out(0.2, seed=0)
    encoded = encode(encoder, split)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded, features[split.kept].astype(np.float32))


def test_a_part_of_the_data_has_its_part_of_the_features(tmp_path, digits, features):
    """Such as that of --smoke, or one with a long tail."""
    encoder = save(tmp_path / "f.npz", features, digits.fingerprint)
    part = digits.subset(classes=4, train=20, test=5, seed=0, traced=True)
    check_encoder(encoder, part)
    split = part.hold_out(0.2, seed=0)
    np.testing.assert_array_equal(split.train.images, digits.train.images[split.kept])
    np.testing.assert_array_equal(encode(encoder, split), features[split.kept].astype(np.float32))


def test_bfloat16_features_are_read(tmp_path, digits, features):
    save_file({"features": torch.tensor(features, dtype=torch.bfloat16)}, tmp_path / "f.safetensors")
    encoded = encode(f"file:{tmp_path / 'f.safetensors'}", digits.hold_out("test", seed=0))
    np.testing.assert_allclose(encoded, features, rtol=1e-2)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_fingerprint_beside_the_features_must_be_that_of_the_data(tmp_path, digits, features, suffix):
    check_encoder(save(tmp_path / f"right{suffix}", features, digits.fingerprint), digits)
    with pytest.raises(InputError, match="was made from other data: its fingerprint is abc"):
        check_encoder(save(tmp_path / f"wrong{suffix}", features, "abc"), digits)


def test_a_wrong_length_says_both_lengths(tmp_path, digits, features):
    with pytest.raises(InputError, match="1257 samples, but the whole training split of digits has 1258"):
        check_encoder(save(tmp_path / "f.npy", features[1:]), digits)


def test_features_that_are_no_numbers_by_sample_are_refused(tmp_path, digits, features):
    for wrong in (features[:, 0], features[:, :0], features[..., None], features + 1j, features.astype(str)):
        with pytest.raises(InputError, match=r"must be numbers \(N, D\)"):
            check_encoder(save(tmp_path / "f.npy", wrong), digits)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_features_that_are_not_finite_are_refused_at_once_by_their_row_in_the_file(tmp_path, digits, features, value):
    wrong = features.copy()
    wrong[1200, 2] = wrong[1230, 0] = value  # 1e39 is finite in float64 alone
    with pytest.raises(InputError, match=r"f\.npy has features that are not finite in float32, first in row 1200"):
        check_encoder(save(tmp_path / "f.npy", wrong), digits)


def test_pickled_objects_are_never_loaded(tmp_path, digits, features):
    objects = np.empty((len(digits.train), 1), dtype=object)
    for suffix in (".npy", ".npz"):
        with pytest.raises(InputError, match="cannot read features"):
            check_encoder(save(tmp_path / f"f{suffix}", objects), digits)
    (tmp_path / "p.npy").write_bytes(pickle.dumps(features))
    with pytest.raises(InputError, match="cannot read features"):
        check_encoder(f"file:{tmp_path / 'p.npy'}", digits)


@pytest.mark.parametrize("name", ["f.npy", "f.npz", "f.safetensors"])
def test_a_broken_file_is_named(tmp_path, digits, name):
    (tmp_path / name).write_bytes(b"broken")
    with pytest.raises(InputError, match=f"cannot read features from .*{name}(?!.*allow_pickle)"):
        check_encoder(f"file:{tmp_path / name}", digits)


def test_a_damaged_archive_is_named(tmp_path, digits, features):
    np.savez_compressed(tmp_path / "f.npz", features=features)
    damaged = bytearray((tmp_path / "f.npz").read_bytes())
    damaged[100:130] = bytes(byte ^ 0xFF for byte in damaged[100:130])  # the code that the rest is packed by
    (tmp_path / "f.npz").write_bytes(damaged)
    with pytest.raises(InputError, match=r"cannot read features from .*f\.npz"):
        check_encoder(f"file:{tmp_path / 'f.npz'}", digits)


def test_an_unknown_format_and_an_unclear_array_are_told_what_is_right(tmp_path, digits):
    (tmp_path / "f.csv").write_text("1,2")
    with pytest.raises(InputError, match=r"\.npy, \.npz or \.safetensors"):
        check_encoder(f"file:{tmp_path / 'f.csv'}", digits)
    np.savez(tmp_path / "f.npz", a=np.zeros(2), b=np.zeros(2))
    with pytest.raises(InputError, match="must hold an array named 'features', and holds a, b"):
        check_encoder(f"file:{tmp_path / 'f.npz'}", digits)


def test_a_changed_file_has_another_identity(tmp_path, features):
    before = encoder_identity(save(tmp_path / "f.npy", features))
    assert encoder_identity(save(tmp_path / "g.npy", features)) == before
    assert encoder_identity(save(tmp_path / "f.npy", features + 1)) != before


def test_a_file_is_hashed_once_until_it_is_written_to(tmp_path, features, monkeypatch):
    hashed, of_file = [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: hashed.append(given) or of_file(*given))
    found = []
    for written in (1, 2):
        encoder = save(tmp_path / "f.npy", features + written)
        os.utime(tmp_path / "f.npy", (written, written))  # as if it had been there for a while
        found += [encoder_identity(encoder)["sha256"] for _ in range(3)]
        assert len(hashed) == written
    assert found == [found[0]] * 3 + [found[-1]] * 3
    assert found[0] != found[-1]
