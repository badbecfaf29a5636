"""MLflow has everything in the end, whatever died before it was sent."""

import dataclasses
import http.server
import re
import shutil
import sqlite3
import ssl
import subprocess
import sys
import threading
import time

import pytest
from mlflow import MlflowClient
from mlflow.tracking.context import registry
from mlflow.tracking.context.git_context import GitRunContext

from hardtune.errors import InputError
from hardtune.report.records import CONTROL, Record
from hardtune.sweep.databases import study_database
from hardtune.sweep.tracking import Tracker
from hardtune.sweep.tracking_uri import check_experiment, check_tracking, default_uri
from hardtune.treatment import Treatment

FINISHED = Record(
    0,
    Treatment(alpha=1.0),
    "finished",
    metrics={"final/accuracy": 0.8, "test/accuracy": 0.7},
    members={"final/accuracy": [0.7, 0.8, 0.9], "test/accuracy": [0.6, 0.7, 0.8]},
)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    return MlflowClient(default_uri(tmp_path_factory.mktemp("mlflow")))


def tracker(client, sweep: str) -> Tracker:
    opened = Tracker(client.tracking_uri, "test", sweep, None)
    opened.start({}, {})
    return opened


def run_of(client, sweep: str, trial: str):
    (experiment,) = client.search_experiments(filter_string="name = 'test'")
    query = f"tags.`hardtune.sweep` = '{sweep}' and tags.`hardtune.trial` = '{trial}'"
    (run,) = client.search_runs([experiment.experiment_id], query)
    return run


def steps(client, sweep: str, trial: str) -> dict[int, float]:
    run = run_of(client, sweep, trial)
    return {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "members/accuracy")}


def test_members_that_a_killed_driver_did_not_come_to_say_are_said_by_the_resumed_one(client):
    killed = tracker(client, "killed")
    killed.trial_started(FINISHED)
    killed.member(FINISHED, 1, {"members/accuracy": 0.7})
    assert killed.close(patience=60)
    resumed = tracker(client, "killed")
    resumed.trial_ended(FINISHED)
    assert resumed.close(patience=60)
    assert steps(client, "killed", "0") == {1: 0.7, 2: 0.8, 3: 0.9}


def test_runs_name_their_script_and_its_commit_where_mlflows_pages_look_for_them(client, tmp_path, monkeypatch):
    script = tmp_path / "mine.py"
    script.write_text("")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=me", "-c", "user.email=me@here"]
    for words in (["init", "-q"], ["add", "mine.py"], ["commit", "-q", "-m", "mine"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    monkeypatch.setattr(sys, "argv", [str(script), "--trials", "3"])
    for known in registry._run_context_provider_registry:  # a process has one script, so MLflow asks git once
        if isinstance(known, GitRunContext):
            monkeypatch.setattr(known, "_cache", {})
    one = tracker(client, "named")
    one.trial_ended(FINISHED)
    assert one.close(patience=60)
    for trial in ("sweep", "0"):
        tags = run_of(client, "named", trial).data.tags
        assert (tags["mlflow.source.name"], tags["mlflow.source.git.commit"]) == (str(script), commit)
        assert tags["mlflow.user"]


def test_a_front_that_is_not_known_leaves_the_former_tags(client):
    one = tracker(client, "front")
    one.trial_ended(FINISHED)
    one.sweep_ended([FINISHED], {}, [], "FINISHED")
    assert one.close(patience=60)
    broken = tracker(client, "front")
    broken.trial_ended(FINISHED)
    broken.trial_started(dataclasses.replace(FINISHED, number=1))
    broken.sweep_ended(None, {}, [], "FAILED")
    assert broken.close(patience=60)
    assert run_of(client, "front", "0").data.tags["pareto"] == "true"
    assert run_of(client, "front", "1").info.status == "KILLED"
    assert run_of(client, "front", "sweep").info.status == "FAILED"


def test_what_a_resumed_sweep_says_of_itself_is_what_it_is_now(client):
    for trials in ("6", "9"):
        opened = Tracker(client.tracking_uri, "test", "extended", None)
        opened.start({"epochs": 2}, {"hardtune.trials": trials})
        assert opened.close(patience=60)
    assert run_of(client, "extended", "sweep").data.tags["hardtune.trials"] == "9"


def test_what_was_said_is_not_said_twice(client):
    for _ in range(2):
        said = tracker(client, "twice")
        for member in range(3):
            said.member(FINISHED, member + 1, {"members/accuracy": FINISHED.members["final/accuracy"][member]})
        said.trial_ended(FINISHED)
        said.trial_ended(Record(CONTROL, Treatment(), "finished", {"final/accuracy": 0.5}))
        assert said.close(patience=60)
    (experiment,) = client.search_experiments(filter_string="name = 'test'")
    runs = client.search_runs([experiment.experiment_id], "tags.`hardtune.sweep` = 'twice'")
    assert sorted(run.data.tags["hardtune.trial"] for run in runs) == ["0", "control", "sweep"]
    database = client.tracking_uri.removeprefix("sqlite:///")
    with sqlite3.connect(database) as rows:
        (trial,) = (run.info.run_id for run in runs if run.data.tags["hardtune.trial"] == "0")
        logged = rows.execute("select key, step from metrics where run_uuid = ?", [trial]).fetchall()
    assert sorted(logged) == sorted(set(logged))
    assert len(logged) == 3 + len(FINISHED.metrics)


def test_a_trial_that_broke_is_failed_with_its_reason_until_the_resumed_sweep_tries_it_again(client):
    broken = Record(0, FINISHED.treatment, "failed", reason="OSError: No space left on device", again=True)
    stopped = tracker(client, "broken")
    for number in (0, 1):  # the other is one that Ctrl-C breaks off
        stopped.trial_started(Record(number, FINISHED.treatment, "running"))
    stopped.trial_broke(broken)
    stopped.sweep_ended([], {}, [], "KILLED")
    assert stopped.close(patience=60)
    run = run_of(client, "broken", "0")
    assert (run.info.status, run.data.tags["reason"]) == ("FAILED", broken.reason)
    assert run_of(client, "broken", "1").info.status == "KILLED"

    resumed = tracker(client, "broken")
    resumed.trial_ended(FINISHED)
    resumed.sweep_ended([], {}, [], "FINISHED")
    assert resumed.close(patience=60)
    run = run_of(client, "broken", "0")
    assert run.info.status == "FINISHED"
    assert "reason" not in run.data.tags
    assert steps(client, "broken", "0") == {1: 0.7, 2: 0.8, 3: 0.9}


def test_links_lead_to_the_figure_and_to_the_trials_by_the_first_objective(client):
    closed = tracker(client, "linked")
    assert closed.close(patience=60)
    links = closed.links("comparison.png", "final/ece", "min")
    (experiment,) = client.search_experiments(filter_string="name = 'test'")
    (parent,) = client.search_runs([experiment.experiment_id], "tags.`hardtune.sweep` = 'linked'")
    runs = f"http://127.0.0.1:5000/#/experiments/{experiment.experiment_id}/runs"
    assert links["result"] == f"{runs}/{parent.info.run_id}/artifacts/comparison.png"
    assert links["charts"].startswith(
        f"{runs}?searchFilter=tags.%60hardtune.sweep%60%20%3D%20%27linked%27%20AND%20tags.%60hardtune.chart%60%20%3D%20%27true%27&"
    )
    assert "&orderByKey=metrics.%60final/ece%60&orderByAsc=true&" in links["charts"]
    assert "orderByAsc=false" in closed.links("pareto.png", "final/accuracy", "max")["charts"]


def test_what_mlflow_refuses_is_counted_with_the_reason_and_the_rest_goes_on(client):
    refused = tracker(client, "refused")
    refused.member(FINISHED, 1, {"no/such*name": 0.7})
    refused.trial_ended(FINISHED)
    assert not refused.close(patience=60)
    assert re.search(r"refused 1 of the records \(.*no/such\*name.*\), as it would again", refused.shortfall)
    assert "--resume" not in refused.shortfall
    assert steps(client, "refused", "0") == {1: 0.7, 2: 0.8, 3: 0.9}


def test_a_sweep_whose_run_mlflow_refuses_does_not_wait_for_it(client):
    refused = Tracker(client.tracking_uri, "test", "no-run", None)
    refused.start({"no/such*name": 0.7}, {})
    refused.trial_ended(FINISHED)
    refused.progress(1, {"front/size": 1})
    began = time.monotonic()
    while "refused" not in refused.note:  # it says at first that it waits, and not for ever
        assert time.monotonic() - began < 30, refused.note
        time.sleep(0.05)
    assert re.search(r"^MLflow refused the sweep's run \(.*no/such\*name.*\)$", refused.note)
    assert not refused.close(patience=60)
    assert time.monotonic() - began < 30
    assert re.search(
        r"refused the sweep's run \(.*no/such\*name.*\), as it would again; .* all records", refused.shortfall
    )


def test_a_slow_mlflow_is_waited_for_while_it_takes_records(client):
    slow, told = tracker(client, "slow"), []
    for _ in range(4):
        slow._queue.put(lambda: time.sleep(0.8))
    slow.sweep_ended([FINISHED], {}, [], "FINISHED")
    assert slow.close(1.5, lambda: told.append("waits")), slow.shortfall
    assert told == ["waits"]
    stuck = tracker(client, "stuck")
    stuck._queue.put(lambda: time.sleep(20))
    began = time.monotonic()
    assert not stuck.close(1.5)
    assert time.monotonic() - began < 15


def test_files_that_their_store_does_not_take_are_told_and_keep_nothing_else_from_mlflow(tmp_path):
    client = MlflowClient(default_uri(tmp_path))
    client.create_experiment("test", "file:///proc/closed")
    closed = tracker(client, "closed")
    for number in (0, 1):
        closed.trial_ended(dataclasses.replace(FINISHED, number=number, per_class={"cat": {"size": 7}}, warning="mind"))
    closed.sweep_ended([FINISHED], {"pareto": [{"trial": 0}]}, [], "FINISHED", "**it**", [FINISHED])
    assert not closed.close(patience=60)
    assert re.search(
        r"refused 3 of the records \(FilesRefused: .*/proc/closed.*\), as it would again", closed.shortfall
    )
    for trial in ("0", "1", "sweep"):
        assert run_of(client, "closed", trial).info.status == "FINISHED"
    last = run_of(client, "closed", "1").data
    assert last.metrics == {"members/accuracy": 0.9, "final/accuracy": 0.8, "test/accuracy": 0.7}
    assert {"warning": "mind", "hardtune.state": "finished", "pareto": "false"}.items() <= last.tags.items()


@pytest.mark.parametrize(("status", "mend"), [(401, "MLFLOW_TRACKING_PASSWORD"), (403, "--allowed-hosts")])
def test_a_server_that_answers_and_turns_everybody_away_is_refused_with_what_would_help(status, mend):
    class Guarded(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health" else status)
            self.end_headers()
            self.wfile.write(b"not you")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        check_tracking(uri)
        with pytest.raises(InputError, match=rf"{uri} takes no records from here: .*{mend}.*{status}.*not you"):
            check_experiment(uri, "any")
        server.shutdown()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_server_with_a_private_certificate_is_reached_with_mlflows_own_variables(tmp_path, monkeypatch):
    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()
            self.wfile.write(b"OK")

        def log_message(self, *_):
            pass

    files = {"-keyout": str(tmp_path / "key.pem"), "-out": str(tmp_path / "certificate.pem")}
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=team", *sum(files.items(), ())]
    subprocess.run([*command, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files["-out"], files["-keyout"])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"https://127.0.0.1:{server.server_port}"
        with pytest.raises(InputError, match=rf"no MLflow server answers at {uri}: .*self.signed certificate"):
            check_tracking(uri)
        for name, value in (
            ("MLFLOW_TRACKING_SERVER_CERT_PATH", files["-out"]),
            ("MLFLOW_TRACKING_INSECURE_TLS", "true"),
        ):
            with monkeypatch.context() as environment:
                environment.setenv(name, value)
                check_tracking(uri)
        server.shutdown()


def test_a_database_of_another_mlflow_is_refused_with_how_to_mend_it(tmp_path):
    MlflowClient(default_uri(tmp_path)).create_experiment("old")
    (tmp_path / "moved").mkdir()  # a client looks at a database's version only when it first opens it
    shutil.copy(tmp_path / "mlflow.db", tmp_path / "moved")
    uri = default_uri(tmp_path / "moved")
    with sqlite3.connect(tmp_path / "moved" / "mlflow.db") as rows:
        rows.execute("update alembic_version set version_num = 'acf3f17fdcc7'")
    with pytest.raises(InputError, match=rf"another version of MLflow: .*`mlflow db upgrade {uri}`"):
        check_experiment(uri, "old")


def test_databases_whose_urls_say_how_long_to_wait_for_a_lock_keep_everything(tmp_path):
    uri = f"{default_uri(tmp_path)}?timeout=60"
    for _ in ("to be made", "there"):
        check_tracking(uri)
        check_experiment(uri, "test")
        said = Tracker(uri, "test", "patient", None)
        said.start({}, {})
        said.trial_ended(FINISHED)
        assert said.close(patience=60), said.trouble
    study_database(f"sqlite:///{tmp_path}/study.db?timeout=60", "patient")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "study.db"]
    assert run_of(MlflowClient(default_uri(tmp_path)), "patient", "0").data.metrics["final/accuracy"] == 0.8


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        (
            "sqlite:////no/such/mlflow.db?timeout=60",
            "there is no folder /no/such to keep the tracking database mlflow.db in$",
        ),
        ("sqlite:////dev/null/mlflow.db", "cannot write a tracking database in /dev/null$"),
        ("sqlite:///mlflow.db?timeout=60", r"needs an absolute path .*got sqlite:///mlflow.db\?timeout=60"),
        ("sqlite:////tmp/mlflow.db?timeout=soon", "cannot track at sqlite.*=soon: could not convert .*'soon'"),
        ("sqlite://", "needs an absolute path"),
        ("sqlite://me:secret@host//tmp/mlflow.db", "needs an absolute path .*got sqlite://me:…@host//tmp/mlflow.db"),
        ("sqlite://me:secret@host:a/mlflow.db", "needs an absolute path .*got sqlite://me:…@host:a/mlflow.db"),
    ],
)
def test_a_url_of_no_database_in_a_folder_is_refused(uri, sentence):
    with pytest.raises(InputError, match=sentence):
        check_tracking(uri)


def test_a_deleted_experiment_is_refused_with_what_to_do(client):
    number = client.create_experiment("thrown-away")
    check_experiment(client.tracking_uri, "thrown-away")
    client.delete_experiment(number)
    with pytest.raises(InputError, match=rf"was deleted: .*restore --experiment-id {number}"):
        check_experiment(client.tracking_uri, "thrown-away")
    client.restore_experiment(number)
    check_experiment(client.tracking_uri, "thrown-away")
