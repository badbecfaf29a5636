"""The contract that every estimator keeps, on data whose hard samples were planted."""

import functools

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from hardtune.data import Dataset, Samples
from hardtune.errors import InputError
from hardtune.hardness.dynamics import Dynamics
from hardtune.hardness.estimators import (
    ESTIMATORS,
    class_hardness,
    data_scores,
    ensemble_scores,
    estimator,
    feature_scores,
)
from hardtune.training.gradients import gradient_norms

N, CLASSES, DIMENSIONS, EPOCHS = 900, 3, 16, 100

# Which planted samples rank above clean ones, and with what AUROC at least. Flipped: the label is wrong. Ambiguous:
# halfway between two classes. k-means reads no label, so it cannot find the first.
PLANTED = {
    "aum": {"flipped": 0.97, "ambiguous": 0.75},
    "margin": {"flipped": 0.97, "ambiguous": 0.75},
    "el2n": {"flipped": 0.97, "ambiguous": 0.9},
    "el2n_mean": {"flipped": 0.97, "ambiguous": 0.75},
    "forgetting": {"flipped": 0.9, "ambiguous": 0.6},
    "confidence": {"flipped": 0.97, "ambiguous": 0.75},
    "variability": {"flipped": 0.75, "ambiguous": 0.75},
    "dataiq": {"flipped": 0.75, "ambiguous": 0.75},
    "loss": {"flipped": 0.97, "ambiguous": 0.75},
    "grand": {"flipped": 0.97, "ambiguous": 0.9},
    "grand_init": {},  # no network knows a wrong label before it has seen any (Kirsch 2023), so nothing is promised
    "rmd": {"flipped": 0.97, "ambiguous": 0.9},
    "rmd_balanced": {"flipped": 0.97, "ambiguous": 0.9},
    "md": {"flipped": 0.85, "ambiguous": 0.55},
    "kmeans": {"ambiguous": 0.7},
}


@functools.cache
def planted(seed):
    """Three Gaussian classes, a tenth mislabelled, a tenth halfway to the next class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % CLASSES
    centres = 5 * np.linalg.qr(rng.normal(size=(DIMENSIONS, CLASSES)))[0].T
    features = centres[labels] + rng.normal(size=(N, DIMENSIONS))
    kind = rng.permutation(np.repeat(["flipped", "ambiguous", "clean"], [N // 10, N // 10, N - 2 * (N // 10)]))
    ambiguous = kind == "ambiguous"
    features[ambiguous] += (centres[(labels[ambiguous] + 1) % CLASSES] - centres[labels[ambiguous]]) / 2
    labels = np.where(kind == "flipped", (labels + 1) % CLASSES, labels)
    features = features.astype(np.float32)
    features.flags.writeable = labels.flags.writeable = False  # as they come out of shared memory
    return features, labels, kind


def train(features, labels, seed):
    """Every dynamics score, and GraNd after the first epoch, of a small network trained in the ordinary way."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(DIMENSIONS, 32), torch.nn.ReLU(), torch.nn.Linear(32, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    x, y = torch.tensor(features), torch.tensor(labels)
    dynamics = Dynamics(len(y), early_epoch=2)
    grand_init, grand = gradient_norms(model, x, y), None
    for _ in range(EPOCHS):
        for ids in torch.randperm(len(y), generator=generator).split(64):
            logits = model(x[ids])
            loss = torch.nn.functional.cross_entropy(logits, y[ids])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            dynamics.update(ids, logits, y[ids])
        dynamics.end_epoch(lambda: model(x).detach())
        grand = gradient_norms(model, x, y) if grand is None else grand
    return dynamics.scores() | {"grand": grand, "grand_init": grand_init}


@functools.cache
def trained(run):
    features, labels, _ = planted(0)
    return train(features, labels, seed=0)


def score(name, run=0):
    if ESTIMATORS[name].source == "features":
        features, labels, _ = planted(0)
        return feature_scores(name, features, labels, CLASSES, seed=0)
    return trained(run)[name]


def test_every_estimator_is_held_to_planted_data():
    assert set(PLANTED) == set(ESTIMATORS)


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in PLANTED.items() for kind in kinds])
def test_planted_hard_samples_score_higher_than_clean_ones(name, kind):
    kinds = planted(0)[2]
    compared = (kinds == kind) | (kinds == "clean")
    assert roc_auc_score(kinds[compared] == kind, score(name)[compared]) >= PLANTED[name][kind]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_score_is_one_finite_float32_per_sample(name):
    assert score(name).dtype == np.float32
    assert score(name).shape == (N,)
    assert np.isfinite(score(name)).all()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_one_seed_gives_one_score_to_the_bit(name):
    np.testing.assert_array_equal(score(name), score(name, run=1))


@pytest.mark.parametrize("name", [name for name, e in ESTIMATORS.items() if e.source == "features"])
def test_permuting_the_samples_permutes_their_feature_scores(name):
    features, labels, _ = planted(0)
    order = np.random.default_rng(1).permutation(N)
    shuffled = feature_scores(name, features[order], labels[order], CLASSES, 0)
    # k-means starts from other samples then; the clusters are clear enough to be found all the same.
    np.testing.assert_allclose(shuffled, score(name)[order], rtol=2e-2 if name == "kmeans" else 1e-4, atol=1e-3)


@pytest.mark.parametrize("name", [name for name, e in ESTIMATORS.items() if e.source != "features"])
def test_renumbering_the_samples_renumbers_their_dynamics(name):
    labels = torch.tensor([0, 1, 2, 0, 1])
    logits = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(0))
    order = torch.tensor([3, 1, 4, 0, 2])
    if ESTIMATORS[name].source == "gradients":
        model = torch.nn.Linear(3, 3)
        plain, renumbered = (
            gradient_norms(model, logits[0], labels),
            gradient_norms(model, logits[0][order], labels[order]),
        )
    else:
        plain, renumbered = dynamics_of(logits, labels)[name], dynamics_of(logits[:, order], labels[order])[name]
    np.testing.assert_allclose(renumbered, plain[order.numpy()], rtol=1e-6)


def dynamics_of(logits, labels):
    dynamics = Dynamics(len(labels), early_epoch=1)
    for z in logits:
        dynamics.update(torch.arange(len(labels)), z, labels)
        dynamics.end_epoch(lambda z=z: z)
    return dynamics.scores()


def test_low_is_hard_says_which_textbook_forms_run_the_other_way():
    assert {name for name, e in ESTIMATORS.items() if e.low_is_hard} == {"aum", "margin", "confidence"}


def test_features_that_are_not_finite_are_an_error():
    features, labels, _ = planted(0)
    broken = features.copy()
    broken[3, 2] = np.nan
    with pytest.raises(InputError, match="NaN"):
        feature_scores("rmd", broken, labels, CLASSES, 0)


def test_features_of_another_length_are_an_error_with_both_shapes():
    features, labels, _ = planted(0)
    with pytest.raises(InputError, match=r"\(900, D\).*\(899, 16\)"):
        feature_scores("rmd", features[1:], labels, CLASSES, 0)


def test_features_of_no_dimension_are_an_error():
    with pytest.raises(InputError, match=r"\(4, D\).*\(4, 0\)"):
        feature_scores("kmeans", np.zeros((4, 0), np.float32), np.zeros(4, np.int64), 1, 0)


def test_a_label_outside_the_classes_is_an_error():
    features, labels, _ = planted(0)
    with pytest.raises(InputError, match=r"0\.\.1, got 0\.\.2"):
        feature_scores("md", features, labels, 2, 0)
    with pytest.raises(InputError, match=r"0\.\.2, got -1\.\.1"):
        feature_scores("md", features, labels - 1, CLASSES, 0)


def test_an_estimator_that_needs_training_is_not_computed_from_features():
    with pytest.raises(InputError, match="choose from kmeans, md, rmd"):
        feature_scores("aum", np.zeros((2, 2), np.float32), np.zeros(2, np.int64), 1, 0)


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (lambda features, labels, classes, seed: 1 / 0, "fails on features .4, 2.: ZeroDivisionError: division by"),
        (lambda features, labels, classes, seed: features, "gives .4, 2. for 4 samples; it must give a score each"),
        (lambda features, labels, classes, seed: features.sort(), "fails on features .4, 2.: ValueError: .*read-only"),
        (lambda features, labels, classes, seed: labels.sort(), "fails on features .4, 2.: ValueError: .*read-only"),
    ],
)
def test_an_estimator_of_ones_own_that_does_not_work_is_named(monkeypatch, compute, message):
    monkeypatch.setattr(ESTIMATORS, "_entries", dict(ESTIMATORS._entries))
    estimator("mine")(compute)
    with pytest.raises(InputError, match=f"estimator 'mine' {message}"):
        feature_scores("mine", np.zeros((4, 2), np.float32), np.zeros(4, np.int64), 1, 0)


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (lambda split: 1 / 0, "fails: ZeroDivisionError: division by zero"),
        (lambda split: np.zeros(5), r"gives \(5,\) for 4 samples; it must give a score each"),
        (lambda split: np.zeros(6), r"gives \(6,\) for 4 samples: of these, split.kept are the training samples"),
        (lambda split: [1, np.nan, 2, 3], r"gives scores that are not finite \(float32\), first for training sample 1"),
        (lambda split: np.ma.masked_less(np.arange(4), 2), "must give a number for each sample, got masked values"),
        (lambda split: np.arange(4) * 1j, "must give a number for each sample, got complex128"),
        (lambda split: ["easy"] * 4, "must give a number for each sample, got <U4"),
        (lambda split: split.train.images.sort(), "fails: ValueError: .*read-only"),
    ],
)
def test_scores_of_ones_own_that_do_not_fit_are_named(monkeypatch, compute, message):
    monkeypatch.setattr(ESTIMATORS, "_entries", dict(ESTIMATORS._entries))
    estimator("mine", of="data")(compute)
    samples = Samples(np.full((6, 2, 2, 1), 9, np.uint8), np.arange(6) % 2)
    split = Dataset(name="two", train=samples, test=samples, classes=("a", "b")).hold_out(0.3, seed=0)
    with pytest.raises(InputError, match=f"estimator 'mine' {message}"):
        data_scores("mine", split)
    with pytest.raises(InputError, match="estimator 'aum' is not computed from the data"):
        data_scores("aum", split)
    with pytest.raises(InputError, match="an estimator is of 'features' or of 'data', got 'labels'"):
        estimator("yours", of="labels")


def test_the_ensemble_score_is_the_plain_mean_over_members():
    members = [np.array([1, 2], np.float32), np.array([2, 6], np.float32)]
    np.testing.assert_array_equal(ensemble_scores(members), np.array([1.5, 4], np.float32))
    assert ensemble_scores(members).dtype == np.float32


def test_an_ensemble_without_members_has_no_score():
    with pytest.raises(InputError, match="at least one member"):
        ensemble_scores([])


@pytest.mark.parametrize("members", [[np.ones(3), np.ones(2)], [np.ones((3, 2))], np.ones(3), np.ones((2, 3, 4))])
def test_members_without_a_score_of_each_sample_are_refused(members):
    with pytest.raises(InputError, match=r"scores \(N,\) of the same samples from each member, got \("):
        ensemble_scores(members)


def test_a_member_whose_scores_are_not_finite_is_refused():
    with pytest.raises(InputError, match="members' scores contain NaN or infinity"):
        ensemble_scores([np.array([1.0, np.nan]), np.zeros(2)])


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([{"aum": np.ones(2)}] * 2, r"of one estimator: pass such as \[m\['aum'\] for m in members\]"),
        ({"aum": np.ones(2)}, r"an array of numbers \(N,\) from each member: TypeError: got <U3"),
        ([["a", "b"]], r"an array of numbers \(N,\) from each member: TypeError: got <U1"),
        ([None], r"an array of numbers \(N,\) from each member: TypeError: got object"),
        (None, r"an array of numbers \(N,\) from each member: TypeError"),
        ([torch.ones(2, dtype=torch.bfloat16)], r"an array of numbers \(N,\) from each member: TypeError: .*BFloat16"),
        (torch.ones(2, 2).requires_grad_(), r"an array of numbers \(N,\) from each member: RuntimeError: .*detach"),
        ([np.ma.array([1.0, 2], mask=[True, False])], "from each member: TypeError: got masked values"),
        (np.ma.array([[1.0, 2]], mask=[[True, False]]), "from each member: TypeError: got masked values"),
        ([[1e300, 1e300]], "members' scores contain NaN or infinity"),
    ],
)
def test_what_is_no_array_of_scores_from_each_member_is_one_sentence(members, says):
    with pytest.raises(InputError, match=says):
        ensemble_scores(members)


def test_the_ensemble_score_of_a_tensor_is_that_of_its_array():
    members = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(ensemble_scores(torch.tensor(members)), ensemble_scores(members))


@pytest.mark.parametrize("seed", [None, -1, 0.5, True])
def test_features_are_not_scored_without_a_seed(seed):
    features = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(InputError, match=f"seed must be a whole number of at least 0, got {seed}"):
        feature_scores("kmeans", features, np.arange(20) % 2, 2, seed)


def test_class_hardness_refuses_scores_and_labels_that_do_not_fit():
    with pytest.raises(InputError, match=r"each of 2 samples, got \(3,\)"):
        class_hardness(np.ones(3), np.array([0, 1]), 2)
    with pytest.raises(InputError, match=r"0\.\.1, got 0\.\.2"):
        class_hardness(np.ones(2), np.array([0, 2]), 2)


def test_class_hardness_refuses_a_class_without_samples_and_scores_that_are_not_finite():
    labels = np.array([0, 2])
    with pytest.raises(InputError, match="class 1 has no training samples"):
        class_hardness(np.ones(2), labels, 3)
    with pytest.raises(InputError, match="NaN"):
        class_hardness(np.array([1, np.nan]), np.array([0, 1]), 2)


def test_three_members_of_two_samples_make_two_scores():
    np.testing.assert_array_equal(ensemble_scores([np.array([1.0, 2]), np.array([2.0, 6]), np.array([6.0, 1])]), [3, 3])
    np.testing.assert_array_equal(ensemble_scores(np.array([[1.0, 2, 5]])), [1, 2, 5])


def test_features_of_one_axis_are_an_error():
    for features in (np.zeros(4, np.float32), np.zeros((4, 2, 2), np.float32)):
        with pytest.raises(InputError, match=r"features must be \(4, D\)"):
            feature_scores("kmeans", features, np.zeros(4, np.int64), 1, 0)
