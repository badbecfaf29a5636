"""However many trials run on a node, images and features are there once, and nobody can scribble on them."""

import ctypes
import gc
import io
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import ray
from ray import tune
from rich.console import Console

from hardtune import Recipe
from hardtune.data import Dataset, Samples, load
from hardtune.errors import InputError
from hardtune.member import Prepared
from hardtune.sweep import Sweep, cluster, engine
from hardtune.sweep.definition import Place
from hardtune.sweep.live import View

pytestmark = pytest.mark.usefixtures("ray_here")

# Workers do not have this module to import.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

CIFAR = (50_000, 32, 32, 3)  # 154 MB
A_COPY = 20e6
"""More than what Ray's own threads may come to load meanwhile (11 MB), and less than the features (26 MB)."""


@pytest.fixture(scope="module")
def prepared():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, CIFAR, dtype=np.uint8)
    samples = Samples(images, np.arange(len(images)) % 10)
    few = Samples(images[:100], samples.labels[:100])
    dataset = Dataset("noise", samples, few, tuple("abcdefghij"), (0.5,) * 3, (0.25,) * 3)
    return Prepared(dataset.hold_out("test", 0), features=np.zeros((50_000, 128), np.float32))


def own_memory():
    """Bytes that this process holds alone: its anonymous pages, which what it maps of the object store is not.

    What malloc keeps for the next batch, tens of MB of it, is given back first.
    """
    ctypes.CDLL(None).malloc_trim(0)
    (line,) = [
        line for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if line.startswith("Anonymous")
    ]
    return 1024 * int(line.split()[1])


def read_everything(prepared):
    """What a trial does to the images of an epoch; returns the growth of the process's own memory, in bytes."""
    import torch

    from hardtune.training.images import DeviceImages

    torch.set_num_threads(1)
    split = prepared.split
    DeviceImages(split.test.images, mean=split.mean, std=split.std, device="cpu").batch(torch.arange(100)).mean()
    before = own_memory()
    held = DeviceImages(split.train.images, mean=split.mean, std=split.std, device="cpu")
    total = sum(float(held.batch(part).mean()) for part in torch.arange(len(split.train)).split(500))
    total += float(prepared.features.sum())
    assert np.isfinite(total)
    return own_memory() - before


def test_reading_shared_images_copies_none_of_them(prepared):
    shared = ray.put(prepared)
    grown = ray.get([ray.remote(read_everything).options(num_cpus=0.5).remote(shared) for _ in range(4)])
    assert max(grown) < A_COPY, f"each worker grew by {[round(size / 1e6) for size in grown]} MB"


def test_a_driver_that_starts_to_train_has_the_images_once(tmp_path, monkeypatch):
    """Of a data set, only the split is left, which has copies of its rows."""
    there = []

    def loaded(*given, **options):
        dataset = load(*given, **options)
        there.append(weakref.ref(dataset.train))
        return dataset

    def connected(address):
        gc.collect()
        raise InputError(f"data set {'kept' if there.pop()() else 'gone'}")

    monkeypatch.setattr(engine, "load", loaded)
    monkeypatch.setattr(cluster, "connected", connected)
    recipe = Recipe(model="small_cnn", epochs=1, members=1, scoring_members=1, validation=0.25, crop_padding=1)
    sweep = Sweep("s", "digits", recipe, {"alpha": tune.uniform(0, 1), "policy": "shift"})
    view = View("s", sweep.objectives, Console(file=io.StringIO()))
    with pytest.raises(InputError, match="data set gone"):
        engine.run_sweep(sweep, Place(storage=tmp_path), view)


def test_a_trial_gets_the_same_shared_arrays_through_tune(prepared, tmp_path):
    def trial(config, prepared):
        images = prepared.split.train.images
        tune.report({"grown": read_everything(prepared), "writeable": images.flags.writeable})

    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trial, prepared=prepared), {"cpu": 1}),
        param_space={"x": tune.grid_search([0, 1])},
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    )
    for result in tuner.fit():
        assert result.metrics["grown"] < A_COPY
        assert not result.metrics["writeable"], "Ray's arrays are read-only, and ours must stay so"


def test_an_augmented_batch_can_be_changed_without_changing_what_others_read(prepared):
    def scribble(prepared):
        import torch

        from hardtune.training.images import DeviceImages

        split = prepared.split
        held = DeviceImages(split.train.images, mean=split.mean, std=split.std, device="cpu")
        held.batch(torch.arange(10)).fill_(77)
        offsets = torch.full((10,), 4)
        held.augmented(torch.arange(10), 4, offsets, offsets, torch.zeros(10, dtype=torch.bool)).fill_(77)

    shared = ray.put(prepared)
    ray.get(ray.remote(scribble).remote(shared))
    seen = ray.get(ray.remote(lambda prepared: prepared.split.train.images[:10].copy()).remote(shared))
    np.testing.assert_array_equal(seen, prepared.split.train.images[:10])
