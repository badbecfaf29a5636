"""SIGTERM, which `kill`, `timeout` and batch systems send, ends a sweep as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import sys
import threading

PATIENCE = 15.0
"""Seconds that a sweep has to end by itself; Slurm gives 30."""

left_ray = threading.Event()
"""Set once nothing waits for Ray any more."""


def stop_at_sigterm(else_says: str = "") -> None:
    """From now on, treat SIGTERM as Ctrl-C, also in the background of a shell script, where SIGINT is ignored.

    If ``else_says`` is not empty, a process that has not left Ray ``PATIENCE`` seconds later prints it and exits with
    130: a signal to a whole process group, as `timeout` sends it, ends Ray's own processes as well, and
    whatever waits for them hangs for a minute and aborts.
    """

    left_ray.clear()

    def stop(*_: object) -> None:
        if else_says:
            timer = threading.Timer(PATIENCE, _give_up, [else_says])
            timer.daemon = True
            timer.start()
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, stop)


def _give_up(says: str) -> None:
    if left_ray.is_set():  # and waits for MLflow, say
        return
    print(f"\n{says}", file=sys.stderr, flush=True)
    os._exit(130)
