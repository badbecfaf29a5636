"""The view says what a person waits for, and says it calmly."""

import dataclasses
import io
import time
from collections import Counter
from types import SimpleNamespace

import pytest
from PIL import Image
from ray import tune
from ray.tune.experiment import Trial
from rich.cells import cell_len
from rich.console import Console

from hardtune import Recipe, Treatment
from hardtune.report import records
from hardtune.report.comparison import Comparison, compared
from hardtune.report.front_table import rows
from hardtune.report.records import CONTROL, Record
from hardtune.report.standing import Standing
from hardtune.sweep import Sweep, engine, live, main, parser
from hardtune.sweep.definition import Place
from hardtune.sweep.engine import Outcome
from hardtune.sweep.live import View, label
from hardtune.sweep.recorder import Recorder
from hardtune.sweep.shown import run_and_show
from hardtune.sweep.tracking import Tracker

OBJECTIVES = {"final/recall_gap": "min", "final/accuracy": "max"}


def view(terminal=False):
    out = io.StringIO()
    return View(
        "hardtune · digits", OBJECTIVES, Console(file=out, width=100, force_terminal=terminal, highlight=False)
    ), out


def ended(number, gap, accuracy, state="finished"):
    return Record(number, Treatment(), state, {"final/recall_gap": gap, "final/accuracy": accuracy})


def test_a_log_gets_the_phase_the_counts_the_best_figures_and_the_time():
    it, out = view()
    with it:
        it.ended(ended(CONTROL, 0.2, 0.8))
        it.phase("trials", 4)
        it.ended(ended(0, 0.1, 0.7))
        it.ended(ended(1, 0.3, 0.9))
        it.ended(ended(2, 0.0, 1.0, "failed"))
        it.ended(dataclasses.replace(ended(3, 0.0, 1.0), shortfall=0.1))
        it.phase("trials", 4, already=3)
    last = out.getvalue().splitlines()[-1]
    assert last == "trials 3/4 · 1 failed · best so far: recall gap 0.1000 · accuracy 0.9000 · 0:00 so far"


def test_a_terminal_wraps_sentences_between_words_and_leaves_what_is_copied_whole():
    path = "/scratch/" + "a-long-name/" * 12
    note = f"note: classes have few held-out samples, see {path} and hold out more of them next time, or it is chance"
    it, out = view(terminal=True)
    it.say(note)
    printed = out.getvalue().splitlines()
    assert path in printed
    assert " ".join(printed) == note
    assert all(len(line) <= 100 for line in printed if line != path)
    it, out = view(terminal=True)
    it.say("two\nlines of " + 60 * "字 ")  # each as wide as two letters
    lines = out.getvalue().splitlines()
    assert lines[0] == "two"
    assert all(cell_len(line) <= 100 for line in lines)
    it, out = view(terminal=True)
    it.whole("go on with python sweeps/digits.py --resume " + path)
    assert len(out.getvalue().splitlines()) == 1
    it, out = view()
    it.say(note)
    assert out.getvalue() == note + "\n", "a log has a line for each"


def test_what_stopping_trials_saves_is_shown():
    it, out = view()
    it.ended(ended(0, 0.3, 0.8, "stopped"))
    it.trials(running=2, members=7, saved=3)
    it.phase("trials", 4)
    assert "trials 0/4 · 2 running, 1 stopped, 7 members done, 3 saved · " in out.getvalue()


def test_reading_a_large_folder_shows_how_far_it_is_and_so_does_the_next_folder(monkeypatch):
    monkeypatch.setattr(live, "QUIET_SECONDS", 0.0)
    it, out = view()
    for of in (200, 300):  # data, pool
        for done in (0, 64, of):
            it.reading(done, of)
    assert [line.split(" ·")[0] for line in out.getvalue().splitlines()] == [
        "reading 0/200 images",
        "reading 64/200 images",
        "starting",
        "reading 0/300 images",
        "reading 64/300 images",
        "starting",
    ]


def test_a_sweep_shows_the_reading_of_its_data_its_pool_and_foreign_images(tmp_path, capsys):
    for name, each in (("data", 20), ("pool", 3), ("ood", 4)):
        for label_ in ("cat", "dog"):
            (tmp_path / name / label_).mkdir(parents=True)
            for number in range(each):
                Image.new("L", (8, 8), number).save(tmp_path / name / label_ / f"{number}.png")
    recipe = Recipe(model="small_cnn", epochs=1, members=1, scoring_members=1, validation=0.25, crop_padding=1)
    data, pool, ood = (str(tmp_path / name) for name in ("data", "pool", "ood"))
    sweep = Sweep("read", data, recipe, {"alpha": tune.uniform(0, 1), "policy": "shift"}, pool=pool, ood=ood)
    (tmp_path / "results" / "sweeps" / "read-20260101-000000").mkdir(parents=True)
    (tmp_path / "results" / "sweeps" / "read-20260101-000000" / "sweep.json").write_text("{}")
    with pytest.raises(SystemExit):  # after reading, since that was another sweep
        main(sweep, parser("").parse_args(["--storage", str(tmp_path / "results"), "--resume"]))
    said = [line.split(" ·")[0] for line in capsys.readouterr().out.splitlines()]
    assert [line for line in said if line.startswith("reading")] == [f"reading 0/{n} images" for n in (40, 6, 8)]


def test_a_log_is_not_flooded():
    it, out = view()
    with it:
        it.phase("trials", 1000)
        for done in range(1000):
            it.advance(done)
            it.trials(running=2, members=done)
    assert len(out.getvalue().splitlines()) == 2  # the title and the phase


def test_what_happened_last_is_said_soon_though_nothing_happens_after_it(monkeypatch):
    monkeypatch.setattr(live, "QUIET_SECONDS", 0.5)
    it, out = view()
    with it:
        it.phase("trials", 2)
        for members in (1, 2, 3):
            it.trials(running=1, members=members)
        assert "members" not in out.getvalue()
        time.sleep(1.5)
    assert [line.partition(" done · ")[0] for line in out.getvalue().splitlines()[2:]] == [
        "trials 0/2 · 1 running, 3 members"
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_resumed_sweep_begins_where_it_was(terminal):
    it, out = view(terminal)
    with it:
        it.phase("trials", 40, already=30)
    assert "30/40" in out.getvalue()


def test_the_time_left_is_judged_by_the_trials_of_this_part_of_the_sweep(tmp_path, monkeypatch):
    clock = SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr(live, "time", clock)
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow.db", "digits", "digits-1", tmp_path)
    it, out = view()
    standing = Standing([ended(CONTROL, 0.2, 0.8)], OBJECTIVES, members=3)
    recorder = Recorder(tmp_path, tracker, it, standing, already=30, waits_again=lambda number: False)
    it.phase("trials", 40, already=30)
    records.write(tmp_path, ended(30, 0.1, 0.9))
    clock.monotonic = lambda: 60.0
    recorder.on_trial_complete(0, [], Trial("", config={"number": 30}, stub=True))
    tracker.close(patience=0)
    assert "trials 31/40 · " in out.getvalue()
    assert "1:00 so far, about 9:00 left in this phase" in out.getvalue()
    clock.monotonic = lambda: 100.0
    it.advance(35, already=30)
    assert "1:40 so far, about 1:40 left in this phase" in out.getvalue()


def test_a_finished_trial_whose_record_is_lost_is_left_for_a_resumed_sweep_to_make_again(tmp_path):
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow.db", "digits", "digits-1", tmp_path)
    it, out = view()
    recorder = Recorder(
        tmp_path,
        tracker,
        it,
        Standing([ended(CONTROL, 0.2, 0.8)], OBJECTIVES, members=3),
        0,
        waits_again=lambda number: False,
    )
    trial = Trial("", config={"number": 3}, stub=True)
    (tmp_path / "00003.json").write_text("")  # as a disk error leaves it
    trial.run_metadata.last_result = {"finished": True}
    recorder.on_trial_complete(0, [], trial)
    assert (tmp_path / "00003.json").read_text() == "", "a stopped trial would have a record"
    assert "the record of trial 3 is lost; --resume makes it again" in out.getvalue()
    trial.run_metadata.last_result = {"finished": False}
    recorder.on_trial_complete(0, [], trial)
    assert records.read(tmp_path, 3).state == "stopped"
    tracker.close(patience=0)


def test_a_terminal_shows_no_amount_before_there_is_one():
    it, out = view(terminal=True)
    with it:
        pass
    assert "starting" in out.getvalue()
    assert "None" not in out.getvalue()
    assert "0/" not in out.getvalue()


def test_a_terminal_is_left_with_the_lines_that_stay():
    it, out = view(terminal=True)
    with it:
        it.say("results in somewhere")
        it.phase("trials", 2)
        it.advance(1)
    assert "results in somewhere" in out.getvalue()


def test_brackets_in_what_is_said_are_no_markup(capsys):
    it = View("hardtune · digits", OBJECTIVES)
    with it:
        it.say("results in /tmp/a[b]c")
        it.say("trial 1 failed: there is no [/data/x]")
    assert capsys.readouterr().out.splitlines()[1:] == [
        "results in /tmp/a[b]c",
        "trial 1 failed: there is no [/data/x]",
    ]


def test_a_file_whose_name_stdout_cannot_print_ends_nothing(monkeypatch):
    out = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(out, encoding="utf-8", errors="strict"))
    with View("hardtune · pets", OBJECTIVES) as it:
        it.say("note: 1 of 24 test images is trained on, too (caf\udce9.png is café.png)")
        it.console.file.flush()
    assert out.getvalue().decode().splitlines()[1:] == [
        r"note: 1 of 24 test images is trained on, too (caf\udce9.png is café.png)"
    ]


def test_trouble_is_shown():
    it, out = view()
    it.note = "MLflow does not answer, records wait"
    it.phase("trials", 2)
    assert "MLflow does not answer" in out.getvalue()


def test_metrics_are_named_as_a_person_says_them():
    assert label("final/ece") == "ECE"


def test_what_a_sweep_found_is_printed_whole_on_a_narrow_terminal(tmp_path, monkeypatch):
    def words_at(width):
        out = io.StringIO()
        with View("any", OBJECTIVES, Console(file=out, width=width)) as it:
            run_and_show(Sweep("any", "digits", Recipe(), {}, objectives=OBJECTIVES), Place(tmp_path), it, "")
        return Counter(word for word in out.getvalue().split() if set(word) != {"─"})

    figures = {"final/recall_gap": 0.1, "final/accuracy": 0.7, "test/recall_gap": 0.2, "test/accuracy": 0.8}
    members = {name: [value, value + 0.01, value + 0.03] for name, value in figures.items()}
    treatments = {CONTROL: Treatment(), 107: Treatment(loss="focal")}
    found = [Record(number, one, "finished", figures, members=members) for number, one in treatments.items()]
    compared_with = compared(found, Comparison((treatments[107],), metrics=("test/recall_gap", "test/accuracy")))
    ledger = SimpleNamespace(id="any-1")
    lines = rows(found[1:], found[0], OBJECTIVES)
    outcome = Outcome(ledger, found, lines, [compared_with], [], {}, "http://mlflow", {}, False, "", "")
    monkeypatch.setattr(engine, "run_sweep", lambda *_: outcome)
    assert words_at(40) == words_at(300)


@pytest.mark.parametrize(("objectives", "subset", "told"), [(1, False, True), (2, False, False), (1, True, False)])
def test_a_search_with_one_objective_says_that_its_best_is_at_the_end_of_a_range(
    tmp_path, monkeypatch, objectives, subset, told
):
    by = dict(list(OBJECTIVES.items())[:objectives])
    tried = [(CONTROL, 0.0, 0.1), (0, 0.3, 0.08), (1, 0.498, 0.05), (2, 0.01, 0.07)]
    found = [
        Record(number, Treatment(entropy_weight=weight), "finished", {"final/recall_gap": gap, "final/accuracy": 0.7})
        for number, weight, gap in tried
    ]
    ledger = SimpleNamespace(id="any-1")
    outcome = Outcome(ledger, found, rows(found[2:3], found[0], by), [], [], {}, "http://mlflow", {}, False, "", "")
    monkeypatch.setattr(engine, "run_sweep", lambda *_: outcome)
    sweep = Sweep("any", "digits", Recipe(), {"entropy_weight": tune.uniform(0, 0.5)}, objectives=by)
    it, out = view()
    it.console.width = 200
    run_and_show(sweep, Place(tmp_path, subset=subset), it, "")
    note = "note: the best entropy_weight, 0.498, is near an end of its range (0 to 0.5): a wider one may have a better"
    assert (note in out.getvalue()) == told
