"""Nobody is let in who was not asked in, and nobody reads what was not meant for him."""

import ast
import contextlib
import ipaddress
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import ray

from hardtune.errors import InputError
from hardtune.sweep import cluster, main, parser
from hardtune.sweep.databases import study_database
from hardtune.sweep.passwords import has_password, scrubbed, without_password
from hardtune.sweep.tracking_uri import check_tracking

ROOT = Path(__file__).parents[2]
SECRET = "hunter2%21"  # "hunter2!", as a URL has it


@contextlib.contextmanager
def taken(port):
    """As by another Ray on this machine, which may be there in truth."""
    with socket.socket() as other:
        with contextlib.suppress(OSError):
            other.bind(("127.0.0.1", port))
            other.listen()
        yield


def test_a_sweep_of_this_machine_listens_on_the_loopback_only_and_waits_for_no_port_that_another_ray_has():
    with taken(52365), cluster.connected(None):
        assert ray._private.worker._global_node.dashboard_agent_listen_port > 0, "it gave up, after 3.5 s"
        ray.get(ray.remote(lambda: None).remote())
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        started = " ".join(" ".join(process.cmdline()) for process in processes)
        listening = {
            f"{process.name()} on {connection.laddr.ip}"
            for process in processes
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN and not _is_loopback(connection.laddr.ip)
        }
    assert not listening
    assert "raylet" in started
    assert not {name for name in ("dashboard.py", "monitor.py", "log_monitor.py") if f"/{name} " in started}, (
        "a sweep has no use for it"
    )


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


@pytest.mark.parametrize(
    "refuse",
    [
        lambda: check_tracking(f"http://me:{SECRET}@127.0.0.1:9"),
        lambda: check_tracking(f"postgresql+psycopg://me:{SECRET}@127.0.0.1:9/mlflow"),
        lambda: check_tracking(f"postgresql+psycopg://127.0.0.1:9/mlflow?user=me&password={SECRET}"),
        lambda: check_tracking(f"ftp://me:{SECRET}@host"),
        lambda: check_tracking(f"http://me:{SECRET}@host:port"),
        lambda: check_tracking(f"http://me:{SECRET}/unquoted@127.0.0.1:9"),
        lambda: study_database(f"postgresql+psycopg://me:{SECRET}@127.0.0.1:9/optuna", "any"),
        lambda: study_database(f"postgresql://me:{SECRET}@127.0.0.1:port/optuna", "any"),
        lambda: study_database(f"postgresql+psycopg://me:un/quoted@{SECRET}@127.0.0.1:9/optuna", "any"),
        lambda: study_database(f"nosuch://me:{SECRET}@127.0.0.1/optuna", "any"),
    ],
)
def test_what_refuses_a_url_does_not_show_its_password(refuse):
    with pytest.raises(InputError) as refused:
        refuse()
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://mlflow:5000/a@b", None),
        ("http://[::1]:5000/a@b", None),
        ("http://me@mlflow:5000/a@b", None),
        ("--storage=sqlite:////data/run:1@home/mlflow.db", None),
        ("http://me:5000@mlflow", "http://me:…@mlflow"),
        ("http://me@team.org:a@b@mlflow:5000", "http://me@team.org:…@mlflow:5000"),
        ("http://me:a/b@mlflow", "http://me:…@mlflow"),
        ("--study-storage=postgresql://me:1/b@db/optuna", "--study-storage=postgresql://me:…@db/optuna"),
        ("postgresql://:a@db/optuna", "postgresql://:…@db/optuna"),
        ("of('http://mlflow:5000/', 'postgresql://me:pw@db/o')", "of('http://mlflow:5000/', 'postgresql://me:…@db/o')"),
    ],
)
def test_a_password_stands_in_a_login_and_not_in_a_path_or_port(url, shown):
    assert without_password(url) == (shown or url)
    assert has_password(url) == (shown is not None)


def test_a_short_password_is_not_to_be_read_from_the_gaps_that_it_would_leave():
    url = "postgresql://me:a@db"
    assert (
        scrubbed(f'fatal: {url}, password "a" of database', url)
        == 'fatal: postgresql://me:…@db, password "…" of database'
    )


def test_a_password_is_not_handed_to_a_cluster_in_a_jobs_command_line(capsys, monkeypatch, tmp_path):
    from hardtune import Recipe, Treatment
    from hardtune.sweep import Sweep

    flags = ["--address", "http://127.0.0.1:9", "--tracking-uri", f"http://me:{SECRET}@mlflow:5000"]
    monkeypatch.setattr(sys, "argv", ["sweep.py", *flags])
    with pytest.raises(SystemExit) as stop:
        main(Sweep("any", "digits", Recipe(), [Treatment(alpha=1.0)]), parser("").parse_args(flags))
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "no place for a password" in said
    assert "hunter2" not in said


def test_rays_books_and_ps_do_not_have_the_password_of_the_command_line():
    code = (
        "import psutil, ray; from hardtune.sweep import cluster\n"
        "with cluster.connected(None):\n"
        "    from ray._private.state import state\n"
        "    print(psutil.Process().cmdline(), ray._private.state.jobs())"
    )
    command = [sys.executable, "-c", code, "--tracking-uri", f"http://me:{SECRET}@mlflow:5000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "http://me:…@mlflow:5000" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    assert shlex.quote(sys.executable) in done.stdout


def test_no_file_is_unpickled():
    """Who can write a file into the results or the data must not thereby run code."""
    for path in [*ROOT.glob("hardtune/**/*.py"), *ROOT.glob("sweeps/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.name.partition(".")[0] for alias in node.names} | {getattr(node, "module", None)}
                assert not names & {"cloudpickle", "dill", "joblib", "shelve"}, f"{path} imports what unpickles"
            if isinstance(node, ast.ClassDef) and "pickle.Unpickler" in map(ast.unparse, node.bases):
                own = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
                assert "find_class" in own, f"{path}: {node.name} must say what it lets a pickle name"
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert called not in ("pickle.load", "pickle.loads", "pickle.Unpickler"), f"{path} unpickles"
                if called == "torch.load":
                    assert options.get("weights_only") == "True", f"{path}: torch.load without weights_only=True"
                if called in ("np.load", "numpy.load"):
                    assert options.get("allow_pickle", "False") == "False", f"{path}: np.load with pickles"
