"""timm's networks are trained by name: from scratch, or from a tag's weights with a new classifier."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from hardtune import Recipe, Treatment, load, run
from hardtune.errors import InputError
from hardtune.recipe import ON_DIGITS
from hardtune.training.fit import build_model
from hardtune.training.models import MODELS

MODEL = "test_resnet"


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
@pytest.mark.parametrize(("channels", "size"), [(1, 32), (3, 64)])
def test_logits_are_of_images_of_the_datas_own_channels_and_size(name, channels, size):
    assert MODELS[f"timm:{name}"](channels, 7, size)(torch.zeros(2, channels, size, size)).shape == (2, 7)


def test_a_network_is_a_function_of_its_seed():
    def weights(seed):
        network = build_model(Recipe(model=f"timm:{MODEL}"), (32, 32, 3), 5, seed=seed, device="cpu")
        return torch.cat([value.float().flatten() for value in network.state_dict().values()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_an_ensemble_is_trained_and_measured_like_any_other():
    recipe = Recipe(**{**vars(ON_DIGITS), "model": f"timm:{MODEL}", "epochs": 1, "members": 2, "scoring_members": 1})
    result = run(Treatment(alpha=1.0, policy="shift"), load("digits"), recipe, ood="inverted")
    assert 0 <= result.test.ensemble["accuracy"] <= 1
    assert "msp_auroc" in result.ood[0]


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """The weights of the model's tag, in a cache of the hub's and nowhere else."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / f"models--timm--{MODEL}.r160_in1k"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    network = timm.create_model(MODEL)
    save_file(network.state_dict(), repository / "snapshots" / "abc" / "model.safetensors")
    return network


def test_a_tag_names_weights_that_training_starts_from_with_a_new_classifier(cached):
    network = MODELS[f"timm:{MODEL}.r160_in1k"](3, 7, 64)
    theirs, ours = cached.state_dict(), network.state_dict()
    same = {name for name in ours if ours[name].shape == theirs[name].shape and torch.equal(ours[name], theirs[name])}
    assert ours.keys() - same == {"fc.weight", "fc.bias"}
    assert ours["fc.weight"].shape[0] == 7
    grey = MODELS[f"timm:{MODEL}.r160_in1k"](1, 7, 64)
    torch.testing.assert_close(grey.conv1[0].weight, cached.conv1[0].weight.sum(1, keepdim=True))


def test_as_many_classes_as_the_tags_own_are_others_all_the_same(cached):
    heads = []
    for seed in range(2):
        torch.manual_seed(seed)
        heads.append(MODELS[f"timm:{MODEL}.r160_in1k"](3, 1000, 64).fc.weight)
    assert not torch.equal(heads[0], cached.fc.weight)
    assert not torch.equal(heads[0], heads[1])


def test_patches_that_leave_a_margin_are_refused():
    """A transformer leaves it out silently; of 28 x 28 pixels it would see one patch of 16 x 16."""
    with pytest.raises(InputError, match="patches of 16 x 16 pixels, and would not see the last 12 of 28"):
        MODELS["timm:vit_tiny_patch16_224"](3, 10, 28)
    assert MODELS["timm:vit_tiny_patch16_224"](3, 10, 32)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert MODELS[f"timm:{MODEL}"](3, 10, 30)(torch.zeros(2, 3, 30, 30)).shape == (2, 10)


def test_without_the_tag_weights_are_random(cached):
    network = MODELS[f"timm:{MODEL}"](3, 7, 64)
    assert not torch.equal(network.conv1[0].weight, cached.conv1[0].weight)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet81", "unknown timm model 'resnet81': did you mean .*resnet18"),
        (f"{MODEL}.", rf"no pretrained weights named '{MODEL}\.': choose from"),
        (f"{MODEL}.nope", rf"no pretrained weights named '{MODEL}\.nope': choose from .*, or {MODEL} for random ones"),
    ],
)
def test_a_wrong_name_is_an_error_with_the_right_ones(name, sentence):
    with pytest.raises(InputError, match=sentence):
        MODELS[f"timm:{name}"]


def test_an_unknown_model_is_told_of_timms_too():
    with pytest.raises(InputError, match="unknown model 'resnet': choose from resnet18, small_cnn, timm:NAME"):
        MODELS["resnet"]


def test_weights_that_cannot_be_downloaded_are_said_to_be_before_anything_is_trained(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    recipe = Recipe(**{**vars(ON_DIGITS), "model": f"timm:{MODEL}.r160_in1k"})
    with pytest.raises(InputError, match=rf"^weights of timm:{MODEL}\.r160_in1k are not in .* and copy that mach"):
        run(Treatment(), load("digits"), recipe)
