import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardtune.errors import InputError
from hardtune.training.gradients import gradient_norms


def network():
    """A convolutional network with batch norm whose running statistics are not the initial ones."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )
    model(torch.randn(32, 3, 6, 6))
    return model


def samples(n=11):
    g = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, 6, 6, generator=g), torch.randint(5, (n,), generator=g)


def one_by_one(model, images, labels):
    model.eval()
    parameters = [p for p in model.parameters() if p.requires_grad]
    norms = []
    for image, label in zip(images, labels, strict=True):
        gradients = torch.autograd.grad(F.cross_entropy(model(image[None]), label[None]), parameters)
        norms.append(torch.cat([g.flatten() for g in gradients]).norm().item())
    return np.array(norms)


def test_norms_are_those_of_a_loop_over_samples():
    model, (images, labels) = network(), samples()
    found = gradient_norms(model, images, labels)
    assert found.dtype == np.float32
    assert np.allclose(found, one_by_one(model, images, labels), rtol=1e-5)


def test_batches_and_chunks_do_not_matter():
    model, (images, labels) = network(), samples()
    whole = gradient_norms(model, images, labels)
    assert np.allclose(whole, gradient_norms(model, images.split(3), labels), rtol=1e-5)
    assert np.allclose(whole, gradient_norms(model, (b for b in images.split(8)), labels, chunk_size=2), rtol=1e-5)


def test_the_model_comes_back_as_it_was():
    model, (images, labels) = network(), samples()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradient_norms(model, images, labels)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    model.eval()
    gradient_norms(model, images, labels)
    assert not model.training


def test_frozen_parameters_do_not_count():
    model, (images, labels) = network(), samples()
    model[0].requires_grad_(False)
    assert np.allclose(gradient_norms(model, images, labels), one_by_one(model, images, labels), rtol=1e-5)


def test_a_mislabelled_sample_of_a_trained_model_pulls_hardest():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    labels = torch.arange(40) % 2
    images = (2.0 * labels - 1)[:, None, None, None] * torch.ones(40, 1, 2, 2) + 0.1 * torch.randn(40, 1, 2, 2)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(20):
        optimiser.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimiser.step()
    labels[7] = 1 - labels[7]
    assert gradient_norms(model, images, labels).argmax() == 7


@pytest.mark.parametrize("count", [10, 12])
def test_images_and_labels_must_match(count):
    model, (images, _) = network(), samples()
    with pytest.raises(InputError, match="labels"):
        gradient_norms(model, images, torch.zeros(count, dtype=torch.long))
    assert model.training


def test_a_model_without_trainable_parameters_is_an_error():
    with pytest.raises(InputError, match="trainable"):
        gradient_norms(nn.Flatten(), *samples())


def test_layers_that_were_kept_in_another_mode_stay_in_it():
    model, (images, labels) = network().train(), samples()
    model[1].eval()  # its statistics are frozen
    gradient_norms(model, images, labels)
    assert [module.training for module in model] == [True, False, True, True, True, True]


@pytest.mark.parametrize("change", [Tensor.float, Tensor.bool, Tensor.numpy, lambda labels: labels[:, None]])
def test_labels_that_are_no_whole_numbers_in_a_tensor_are_errors(change):
    model, (images, labels) = network(), samples()
    with pytest.raises(InputError, match=r"labels must be a tensor of whole numbers \(N,\), got "):
        gradient_norms(model, images, change(labels))


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_labels_may_be_of_any_integer_type_as_in_losses(dtype):
    model, (images, labels) = network(), samples()
    found = gradient_norms(model, images, labels.to(dtype))
    np.testing.assert_array_equal(found, gradient_norms(model, images, labels))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_norms_of_a_half_precision_model_lose_no_digits_to_their_sums(dtype):
    """That of 4,096 equal gradients is 64 times one of them; in 8 or 11 bits it would be off in the third digit."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4096, 2, bias=False)).to(dtype)
    nn.init.zeros_(model[1].weight)
    found = gradient_norms(model, torch.ones(3, 1, 64, 64), torch.tensor([0, 1, 1]))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 64 / np.sqrt(2), rtol=1e-6)


def test_batches_of_a_loader_of_pairs_and_chunks_of_less_than_one_sample_are_errors():
    model, (images, labels) = network(), samples()
    with pytest.raises(
        InputError,
        match=r"got batches of list: give a generator of the inputs alone, such as \(images for images, labels",
    ):
        gradient_norms(model, [[images, labels]], labels)
    assert model.training
    for size in (-1, 0, 2.5, True):
        with pytest.raises(InputError, match=f"chunk_size must be a whole number of at least 1, or None, got {size}"):
            gradient_norms(model, images, labels, chunk_size=size)


def test_a_model_that_gives_no_row_of_logits_for_each_image_is_an_error():
    images, labels = samples()
    model = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 5), nn.Flatten(0))
    with pytest.raises(InputError, match=r"the model must return logits \(B, K\), got \(5,\)"):
        gradient_norms(model, images, labels)


def test_a_label_without_an_output_and_a_gradient_without_a_number_are_errors():
    model, (images, labels) = network(), samples()
    ignored = labels.clone()
    ignored[3] = -100
    with pytest.raises(InputError, match="labels must be at least 0, got -100"):
        gradient_norms(model, images, ignored)
    with pytest.raises(InputError, match=r"labels must be in 0\.\.4, as the model's outputs, got 1\.\.5"):
        gradient_norms(model, images, torch.arange(11) % 5 + 1)
    assert model.training
    images[4] = torch.nan
    with pytest.raises(InputError, match="the gradient of sample 4 is NaN or infinite"):
        gradient_norms(model, images, labels)


class Text(nn.Module):
    """A classifier of token ids (B, L), whose sentence vectors are its tokens' mean, or the last state of a GRU."""

    def __init__(self, gru=False, returns=lambda logits: logits):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.gru, self.linear = nn.Embedding(20, 8), nn.GRU(8, 8) if gru else None, nn.Linear(8, 3)
        self.returns = returns

    def forward(self, tokens):
        x = self.embedding(tokens)
        return self.returns(self.linear(x.mean(1) if self.gru is None else self.gru(x.transpose(0, 1))[0][-1]))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_norms_of_a_text_model_are_those_of_a_loop_over_its_token_ids(dtype):
    model, tokens, labels = Text(), torch.arange(30).view(6, 5).to(dtype) % 20, torch.arange(6) % 3
    assert np.allclose(gradient_norms(model, tokens, labels), one_by_one(model, tokens, labels), rtol=1e-5)


def test_whole_numbers_of_an_image_are_still_those_of_a_float_model():
    model, (images, labels) = network(), samples()
    images = (images * 9).clamp(0, 255).to(torch.uint8)
    assert np.allclose(gradient_norms(model, images, labels), one_by_one(model, images.float(), labels), rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Text(returns=lambda logits: {"logits": logits}), r"must return logits \(B, K\), got dict: give one whose"),
        (Text(returns=lambda logits: logits[0]), r"must return logits \(B, K\), got \(3,\): give one whose"),
        (
            Text(gru=True),
            r"the model fails on one sample at a time under torch\.func\.vmap, as nn\.GRU .*: RuntimeError",
        ),
    ],
)
def test_a_model_whose_samples_cannot_be_differentiated_alone_is_an_error_in_one_sentence(model, says):
    with pytest.raises(InputError, match=says):
        gradient_norms(model, torch.zeros(2, 5, dtype=torch.int64), torch.tensor([0, 1]))
    assert model.training


def test_running_out_of_memory_stays_that_error_for_who_trains_fewer_at_once():
    def out_of_memory(logits):
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        gradient_norms(Text(returns=out_of_memory), torch.zeros(1, 5, dtype=torch.int64), torch.tensor([0]))
