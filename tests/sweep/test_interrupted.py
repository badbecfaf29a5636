"""Ctrl-C ends a sweep wherever it falls, and is handed back to whoever it was taken from."""

import os
import re
import signal

import pytest
from ray import tune

from hardtune import Recipe
from hardtune.sweep import Sweep, cluster, engine, main, parser
from hardtune.sweep.sigterm import _give_up, left_ray, stop_at_sigterm


def test_sigterm_is_heard_where_a_shells_background_ignores_ctrl_c():
    with cluster.given_back(signal.SIGINT), cluster.given_back(signal.SIGTERM):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        stop_at_sigterm()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("flags", "former", "began", "says"),
    [
        ([], True, False, "stopped before the sweep began"),
        ([], False, True, "finished networks are kept: go on with python .* --resume"),
        (["--resume"], True, False, "finished networks are kept: go on with python .* --resume"),
        (["--resume"], False, False, "stopped before the sweep began"),
    ],
)
def test_only_a_sweep_that_began_is_said_to_go_on(tmp_path, monkeypatch, capsys, flags, former, began, says):
    if former:
        (tmp_path / "sweeps" / "any-20260101-000000").mkdir(parents=True)
        (tmp_path / "sweeps" / "any-20260101-000000" / "sweep.json").touch()

    def pressed(sweep, place, view):
        if began:
            view.begin(tmp_path)
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "run_sweep", pressed)
    sweep = Sweep("any", "digits", Recipe(), {"alpha": tune.uniform(0, 1)})
    with cluster.given_back(signal.SIGTERM), pytest.raises(SystemExit) as stop:
        main(sweep, parser("").parse_args([*flags, "--storage", str(tmp_path)]))
    assert stop.value.code == 130
    assert re.search(says, capsys.readouterr().err)


def test_a_sweep_that_has_left_ray_may_take_its_time_to_end(monkeypatch):
    """For MLflow, say; only what waits for a Ray that does not answer is ended."""
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    left_ray.set()
    _give_up("stopped")
    assert ended == []
    left_ray.clear()
    _give_up("stopped")
    assert ended == [130]
