"""``python -m hardtune hardest``, as one would type it."""

import csv
import dataclasses
import re
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import roc_auc_score

from hardtune import Store, load
from hardtune.commands.subject import load_sweep
from hardtune.data import Samples, decoding, with_label_noise
from hardtune.data.image_folder import listed_files, read_image_folder
from hardtune.hardness.estimators import ESTIMATORS
from hardtune.needs import Needs
from hardtune.report.hardest_figure import hardest_figure
from hardtune.scoring import gather
from hardtune.sweep.ledger import open_ledger


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved."""
    figures, savefig = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **options: figures.append(figure) or savefig(figure, *args, **options)
    )
    return figures


def captions_of(figure):
    """What is said above each image, by where it is: from the top, and from the left."""
    texts = [text for axes in figure.axes for text in axes.texts if text.get_text() not in ("hardest", "easiest")]
    return {text.get_position()[::-1]: text.get_text() for text in texts}


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_estimator_that_the_script_registers_will_do(command, script, storage, tmp_path, monkeypatch):
    monkeypatch.setattr(ESTIMATORS, "_entries", dict(ESTIMATORS._entries))
    own = tmp_path / "own.py"
    registers = (
        "from hardtune.hardness.estimators import estimator\n"
        "estimator('norm')(lambda features, labels, classes, seed: (features**2).sum(1))\n"
    )
    own.write_text(registers + Path(script).read_text())
    out, err, code = command("hardest", own, "--estimator", "norm", "--storage", storage)
    assert (err, code) == ("", 0)
    assert "norm on small" in out


def test_every_figure_of_a_class_and_of_an_estimator_is_whole_on_a_narrow_terminal(
    command, script, tmp_path, monkeypatch
):
    def lines_at(width):
        monkeypatch.setenv("COLUMNS", str(width))
        out, err, code = command("hardest", script, "--label-noise", 0.1, "--score", "--storage", tmp_path)
        assert code == 0, err
        return [line.split() for line in out.splitlines() if line.rstrip().endswith("%")]

    assert len(lines_at(100)) > 10
    assert lines_at(40) == lines_at(100)


def test_classes_and_samples_are_shown_the_hardest_first(command, script, storage, drawn):
    split = load("digits").hold_out(0.3, 0)
    needs = Needs(frozenset({"aum", "rmd"}), features=True)
    scores = gather(split, load_sweep(script).recipe, needs, Store(storage / "store"), device="cpu").scores
    out, err, code = command("hardest", script, "--storage", storage, "--each", 3)
    assert (err, code) == ("", 0)

    means = np.array([scores["aum"][split.train.labels == k].mean() for k in range(10)])
    lines = [line.split() for line in out.splitlines() if "%" in line and "class" not in line]
    assert [words[0] for words in lines] == [split.classes[k] for k in np.argsort(-means)]
    hardest = np.argsort(-scores["aum"], kind="stable")[: round(len(split.train) / 10)]
    first = np.argmax(means)
    assert lines[0][-1] == f"{(split.train.labels[hardest] == first).mean():.1%}"

    of_first = np.flatnonzero(split.train.labels == first)
    ranked = split.kept[of_first[np.argsort(-scores["aum"][of_first], kind="stable")]]
    (figure,) = drawn
    said = captions_of(figure)
    top = min(y for y, _ in said)
    assert [said[place] for place in sorted(said) if place[0] == top] == [str(row) for row in (*ranked[:3], ranked[-1])]
    drawn_first = figure.axes[0].images[0].get_array()[:, :8].squeeze()
    np.testing.assert_array_equal(drawn_first, load("digits").train.images[ranked[0], ..., 0])

    rows = table(storage / "hardest" / "small-aum.csv")
    assert [int(row["row"]) for row in rows] == split.kept.tolist()
    assert [row["class"] for row in rows] == [split.classes[label] for label in split.train.labels]
    for name in ("aum", "rmd"):
        np.testing.assert_allclose([float(row[name]) for row in rows], scores[name], rtol=1e-6)
    assert "grand" not in rows[0], "which nobody computed"


def images_of(folder, classes, size):
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(size):
            image = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(image).save(folder / name / f"{number}.png")


@pytest.mark.filterwarnings("ignore:.* became a part of the training data")
@pytest.mark.parametrize(
    ("layout", "scored"), [("one folder", 18), ("train and test", 16), ("train, val and test", 24)]
)
def test_images_of_a_folder_are_named_by_their_files(command, tmp_path, layout, scored):
    folder = tmp_path / "pets"
    if layout == "one folder":
        images_of(folder, ["cat", "dog", "train"], 10)
    else:
        images_of(folder / "train", ["cat", "dog"], 10)
        images_of(folder / "test", ["cat", "dog"], 4)
    if "val" in layout:
        images_of(folder / "val", ["cat", "dog"], 5)
    train, *_ = read_image_folder(folder)
    files = listed_files(folder)[0]
    for image, file in zip(train.images, files, strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.open(file)))

    flags = ["--recipe", "encoder=pixels", "validation=0.2", "--estimator", "rmd", "--score", "--storage", tmp_path]
    out, err, code = command("hardest", "--data", folder, *flags, "--figure", tmp_path / "it.pdf")
    said = [line.partition(" became")[0] for line in err.splitlines() if line.strip() and "another class" not in line]
    assert (said, code) == ([f"{folder / 'val'}"] if "val" in layout else [], 0)
    assert str(tmp_path / "it.csv") in out
    rows = table(tmp_path / "it.csv")
    assert [row["file"] for row in rows] == [files[int(row["row"])] for row in rows]
    assert {row["file"].split("/")[-2] == row["class"] for row in rows} == {True}
    assert len(rows) == scored, "without those that are held out"


def test_images_that_cannot_be_read_are_listed_in_the_storage(command, tmp_path):
    images_of(tmp_path / "pets", ["cat", "dog"], 10)
    broken = sorted((tmp_path / "pets" / "dog").iterdir())[:5]
    for path in broken:
        path.write_bytes(b"")
    _, err, code = command("hardest", "--data", tmp_path / "pets", "--storage", tmp_path / "kept")
    assert code == 2
    assert err.strip().endswith(f"and 2 more); all are listed in {tmp_path / 'kept' / 'unreadable.csv'}")
    assert sorted(row["file"] for row in table(tmp_path / "kept" / "unreadable.csv")) == list(map(str, broken))


def test_the_reading_of_images_is_shown_on_a_terminal(command, tmp_path, monkeypatch):
    images_of(tmp_path / "pets", ["cat", "dog"], 10)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal, which it redraws 10 times a second
    read = decoding._read
    monkeypatch.setattr(decoding, "_read", lambda *of: time.sleep(0.02) or read(*of))
    _, err, _ = command("hardest", "--data", tmp_path / "pets", "--storage", tmp_path)
    assert "reading images" in err
    _, err, _ = command("hardest", "--data", "digits", "--storage", tmp_path)
    assert "reading images" not in err


def test_every_training_sample_is_scored_where_none_is_held_out_as_the_help_says(command, tmp_path):
    images_of(tmp_path / "pets", ["cat", "dog"], 10)
    flags = ["--recipe", "encoder=pixels", "validation=test", "--estimator", "rmd", "--score", "--storage", tmp_path]
    _, _, code = command("hardest", "--data", tmp_path / "pets", *flags, "--figure", tmp_path / "it.png")
    assert code == 0
    assert [row["file"] for row in table(tmp_path / "it.csv")] == listed_files(tmp_path / "pets")[0]
    out, _, _ = command("hardest", "--help")
    assert "--recipe validation=test holds none out, and so scores every training sample" in " ".join(out.split())


@pytest.mark.parametrize("each", [3, 10], ids=["enough", "too few of each"])
def test_of_many_classes_the_hardest_are_drawn_and_no_image_twice(tmp_path, drawn, each):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(30), 4)
    samples = Samples(rng.integers(0, 256, (120, 4, 4, 1), dtype=np.uint8), labels)
    classes = [f"class {k}" for k in range(30)]
    hardest_figure(samples, labels + rng.random(120), classes, np.arange(120), each, "title", tmp_path / "it.png")
    (figure,) = drawn
    assert figure.get_suptitle() == "title: the 20 hardest classes"
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [f"class {k}" for k in range(29, 9, -1)]
    said = captions_of(figure)
    assert sorted(map(int, said.values())) == list(range(40, 120)), "four of a class: the three hardest and the easiest"
    for (y, x), caption in said.items():
        place = int(y // (4 * (1 + 0.22 / 0.66))), int(x - 2)
        image = axes.images[place[0]].get_array()[:, place[1] : place[1] + 4]
        np.testing.assert_array_equal(image, samples.images[int(caption), ..., 0])
    (above,) = (text for text in axes.texts if text.get_text() == "easiest")
    assert above.get_position()[0] + 2 in {x for _, x in said}, "what it says is below it"


def test_a_picture_of_all_images_takes_no_longer_than_these_do_and_can_be_opened(tmp_path, drawn):
    rng = np.random.default_rng(0)
    samples = Samples(np.zeros((1200, 4, 40, 1), np.uint8), np.arange(1200) % 2)  # an axes for each would take minutes
    hardest_figure(samples, rng.random(1200), ("a", "b"), [""] * 1200, 10**6, "title", tmp_path / "it.png")
    (figure,) = drawn
    assert len(figure.axes) == 1
    assert [image.get_array().shape[1] for image in figure.axes[0].images] == [600 * 44 - 4 + 13] * 2
    with Image.open(tmp_path / "it.png") as picture:
        assert picture.width * picture.height < Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_images_of_any_number_of_channels_are_drawn(tmp_path, channels):
    rng = np.random.default_rng(0)
    samples = Samples(rng.integers(0, 256, (20, 8, 8, channels), dtype=np.uint8), np.arange(20) % 2)
    hardest_figure(samples, rng.random(20), ("a", "$b^$"), np.arange(20), 3, "it", tmp_path / "it.png")
    assert (tmp_path / "it.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--each", "0"], "--each must be at least 1, got 0"),
        (["--estimator", "luck"], "unknown estimator 'luck': choose from .*aum"),
        (["--estimator", "grand"], "lacks 4 of the scoring ensemble's 4 members"),
        (["--figure", "it.txt"], "must end in .png, .pdf or .svg, got 'it.txt'"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_sentence(command, script, tmp_path, flags, says):
    out, err, code = command("hardest", script, "--storage", tmp_path, *flags)
    assert (out, code) == ("", 2)
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert re.search(says, err)


def test_scores_of_a_sweep_with_another_recipe_are_pointed_to(command, script, tmp_path):
    sweep = load_sweep(script)
    recipe = dataclasses.replace(sweep.recipe, epochs=3, milestones=(0.5,), validation=0.2)
    split = load("digits").hold_out(0.2, 0)
    ledger = open_ledger(dataclasses.replace(sweep, recipe=recipe), split, tmp_path, resume=False)
    _, err, _ = command("hardest", script, "--storage", tmp_path)
    flags = ["epochs=3", "milestones=0.5", "validation=0.2"]
    assert f"{ledger.id} had --recipe {' '.join(flags)}, so give the same, or let --score make others here" in err
    # Of ensembles of another size, and of another budget, scores are the same.
    for more in ([], ["members=2", "scoring_members=3"], ["budget=steps"]):
        _, err, _ = command("hardest", script, "--storage", tmp_path, "--recipe", *flags, *more)
        assert "run the sweep, or let --score make them here" in err
    images_of(tmp_path / "pets", ["cat", "dog"], 10)
    of_other_data = "small"  # a data set's name and that of a sweep on another are not told apart by themselves
    (tmp_path / "pets").rename(tmp_path / of_other_data)
    _, err, _ = command("hardest", "--data", tmp_path / of_other_data, "--storage", tmp_path)
    assert ": let --score make them here" in err


def test_a_sweep_whose_data_have_changed_since_is_named(command, script, tmp_path):
    images_of(tmp_path / "pets", ["cat", "dog"], 10)
    flags = (script, "--data", tmp_path / "pets", "--storage", tmp_path / "results")
    sweep = load_sweep(script).on(str(tmp_path / "pets"))
    split = load(sweep.data).hold_out(sweep.recipe.validation, sweep.recipe.seed)
    ledger = open_ledger(sweep, split, tmp_path / "results", resume=False)
    _, err, _ = command("hardest", *flags)
    assert "run the sweep, or let --score make them here" in err
    next((tmp_path / "pets" / "cat").iterdir()).unlink()
    _, err, code = command("hardest", *flags)
    assert f": {ledger.id} used other data than {tmp_path / 'pets'} is here, so give the --data, --data-dir" in err
    assert (err.count("\n"), code) == (1, 2)


def test_of_labels_that_are_wrong_on_purpose_it_says_which_estimators_find_them(command, script, tmp_path, drawn):
    storage = tmp_path / "storage"
    flags = (script, "--storage", storage, "--label-noise", 0.1)
    _, _, code = command("hardest", *flags, "--estimator", "rmd", "--score")
    assert code == 0
    out, err, code = command("hardest", *flags, "--score")
    assert (err, code) == ("", 0)

    data = with_label_noise(load("digits"), 0.1)
    split = data.hold_out(0.3, 0)
    true = load("digits").train.labels[split.kept]
    wrong = true != split.train.labels
    rows = table(storage / "hardest" / "small-label-noise-0.1-aum.csv")
    assert [row["true_class"] for row in rows] == [split.classes[label] for label in true]
    found = out[out.index("wrong labels found") :].splitlines()
    figures = {words[0]: words[1:] for words in map(str.split, found) if len(words) == 3 and words[0] in rows[0]}
    assert {"aum", "rmd"} <= figures.keys()
    for name, (auroc, among_hardest) in figures.items():
        scores = np.array([float(row[name]) for row in rows])
        assert float(auroc) == pytest.approx(roc_auc_score(wrong, scores), abs=6e-4)
        by_chance = [np.lexsort((np.random.default_rng(n).random(len(scores)), -scores)) for n in range(300)]
        expected = np.mean([wrong[order[: wrong.sum()]].mean() for order in by_chance])
        assert float(among_hardest.rstrip("%")) / 100 == pytest.approx(expected, abs=0.01)
    assert float(figures["aum"][0]) > 0.9
    assert "Without scores: grand, grand_init" in " ".join(out.split())
    assert sorted(figures, key=lambda name: -float(figures[name][0])) == list(figures)
    captions = set(captions_of(drawn[-1]).values())
    told = {f"{split.kept[n]}\n{split.classes[true[n]]}" for n in np.flatnonzero(wrong)}
    assert len(captions & told) > 10


def test_true_classes_are_of_no_matter_where_no_label_is_wrong(command, script, storage):
    out, _, _ = command("hardest", script, "--storage", storage, "--imbalance", 1)
    assert "wrong labels" not in out
    assert "true_class" not in table(storage / "hardest" / "small-aum.csv")[0]


def test_an_own_estimator_that_is_not_asked_for_may_fail(command, script, storage, tmp_path, monkeypatch):
    monkeypatch.setattr(ESTIMATORS, "_entries", dict(ESTIMATORS._entries))
    own = tmp_path / "own.py"
    registers = (
        "import numpy as np\n"
        "from hardtune.hardness.estimators import estimator\n"
        "estimator('broken', of='data')(lambda split: np.load('/no/such.npy'))\n"
    )
    own.write_text(registers + Path(script).read_text())
    out, err, code = command("hardest", own, "--storage", storage)
    assert code == 0
    assert "aum on small" in out
    assert err.startswith("note: left out: estimator 'broken' fails: FileNotFoundError")
    monkeypatch.setattr(ESTIMATORS, "_entries", {n: e for n, e in ESTIMATORS._entries.items() if n != "broken"})
    nothing = tmp_path / "nothing"
    _, err, code = command("hardest", own, "--storage", nothing, "--estimator", "broken", "--score")
    assert (code, err.startswith("error: estimator 'broken' fails")) == (2, True)
    assert not list(nothing.rglob("*.safetensors")), "no network was trained"
