"""The papers' sweeps run, at their smallest, on images of the right shape in the layout of an image folder."""

import numpy as np
import pytest
from PIL import Image


def images(root, classes):
    rng = np.random.default_rng(0)
    for split, size in (("train", 10), ("test", 3)):
        for label in range(classes):
            folder = root / split / f"class_{label:03d}"
            folder.mkdir(parents=True)
            for index in range(size):
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return root


@pytest.mark.slow
@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_every_code_path_of_the_papers_sweeps(script, tmp_path, name, classes):
    data = images(tmp_path / name, classes)
    out = script.run(f"{name}.py", "--smoke", "--trials", "2", "--data-dir", str(data))
    assert f"Pareto front of {name}-smoke" in out
    _, runs = script.runs(f"{name}-smoke")
    assert {run.data.params.get("model") for run in runs} == {"resnet18", None}
