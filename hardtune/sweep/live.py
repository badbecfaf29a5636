"""The live view of a running sweep."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from hardtune.command_line import plain_console
from hardtune.report.metric_names import label
from hardtune.report.records import Record

QUIET_SECONDS = 15.0
"""Interval between printed lines when the output is not a terminal."""


class View:
    """Phase, trials, members, best figures so far and the time left.

    Redrawn in place on a terminal; otherwise, a line is printed now and then.
    """

    def __init__(self, title: str, objectives: Mapping[str, str], console: Console | None = None) -> None:
        self.console = console or plain_console()
        self._objectives = objectives
        self._best: dict[str, float] = {}
        self._states = {"running": 0, "stopped": 0, "failed": 0, "finished": 0}
        self._members, self._saved = 0, 0
        self._started = time.monotonic()
        self._phase_started = self._started
        self._last_line = 0.0
        self._next_line: threading.Timer | None = None
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(30),
            _Amount(),
        )
        self._task = self._progress.add_task("starting", total=None)
        self._title = title
        self._phase = ""
        self._unit = ""
        self._done, self._of, self._already = 0, 0, 0
        self.folder: Path | None = None
        """The sweep's folder, once it has one."""
        self.note = ""
        """A line on a problem, or on work alongside the phase; empty if there is neither."""
        self._live = Live(get_renderable=self._draw, console=self.console, refresh_per_second=4, transient=True)

    def __enter__(self) -> View:
        self.console.print(Text(self._title, style="bold"))
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()
        self._cancel()

    def say(self, text: str) -> None:
        """Print a sentence that stays; a terminal wraps it at spaces only."""
        self.whole(_wrapped(text, self.console.width) if self.console.is_terminal else text)

    def whole(self, text: str) -> None:
        """Print a line that stays in one piece, however long, so that the command in it can be copied."""
        self.console.print(text, soft_wrap=True)

    def begin(self, folder: Path) -> None:
        """Print where the sweep keeps its results, from which --resume continues."""
        self.folder = folder
        self.whole(f"results in {folder}")

    def remark(self, note: str) -> None:
        """Show a line below the others until the next one; an empty one clears it."""
        self.note = note
        self._line()

    def phase(self, name: str, total: int, unit: str = "", already: int = 0) -> None:
        """Begin a phase of ``total`` steps, ``already`` of them done; ``unit`` names them if ``name`` does not."""
        self._phase, self._unit, self._done, self._of, self._already = name, unit, already, total, already
        self._phase_started = time.monotonic()
        self._progress.reset(self._task, total=total or None, completed=already, description=name)
        self._line(force=True)

    def advance(self, done: int, already: int = 0) -> None:
        """Update how much of the phase is done; ``already`` of it cost nothing."""
        self._done, self._already = done, already
        self._progress.update(self._task, completed=done)
        self._line()

    def reading(self, done: int, of: int) -> None:
        """Show how many of a folder's images are read, which for large folders takes minutes."""
        if done == of:
            self.phase("starting", 0)
        elif done == 0:
            self.phase("reading", of, "images")
        else:
            self.advance(done)

    def trials(self, running: int, members: int, saved: int = 0) -> None:
        """Update how many trials run, how many of their members are done, and how many were saved by stopping."""
        self._states["running"], self._members, self._saved = running, members, saved
        self._line()

    def ended(self, record: Record) -> None:
        """Count a trial that ended, and keep its figures if they are the best so far."""
        if not record.is_control:
            self._states[record.state] += 1
        if record.state != "finished" or record.shortfall > 0:
            return
        for name, direction in self._objectives.items():
            pick = min if direction == "min" else max
            self._best[name] = pick(self._best.get(name, record.metrics[name]), record.metrics[name])

    def _draw(self) -> RenderableType:
        return Group(self._progress, *(Text(f"  {line}", style="dim") for line in self._lines()))

    def _lines(self) -> list[str]:
        lines = []
        if self._phase == "trials":
            counts = {**self._states, "members done": self._members, "saved": self._saved}
            said = ", ".join(f"{count} {what}" for what, count in counts.items() if count and what != "finished")
            lines += [said] if said else []
        if self._best:
            figures = " · ".join(f"{label(name)} {value:.4f}" for name, value in self._best.items())
            lines.append(f"best so far: {figures}")
        lines.append(f"{_clock(time.monotonic() - self._started)} so far{self._left()}")
        if self.note:
            lines.append(self.note)
        return lines

    def _left(self) -> str:
        worked = self._done - self._already
        if worked <= 0 or self._done >= self._of:
            return ""
        pace = (time.monotonic() - self._phase_started) / worked
        return f", about {_clock(pace * (self._of - self._done))} left in this phase"

    def _line(self, force: bool = False) -> None:
        if self.console.is_terminal:
            return
        wait = self._last_line + QUIET_SECONDS - time.monotonic()
        if wait > 0 and not force:
            # Too soon for another line: print the news when the wait is over, even if nothing else happens.
            if self._next_line is None:
                self._next_line = threading.Timer(wait, self._line, [True])
                self._next_line.daemon = True
                self._next_line.start()
            return
        self._cancel()
        self._last_line = time.monotonic()
        amount = f" {self._done}/{self._of} {self._unit}".rstrip() if self._of else ""
        self.whole(f"{self._phase}{amount} · {' · '.join(self._lines())}")

    def _cancel(self) -> None:
        timer, self._next_line = self._next_line, None  # at once, since the timer's own thread comes here, too
        if timer is not None:
            timer.cancel()


class _Amount(ProgressColumn):
    """The amount done and the total, once known."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.completed}/{task.total}")


def _wrapped(text: str, width: int) -> str:
    """The text in lines of at most ``width`` columns, but for longer words: rich would break those, paths too."""
    lines = []
    for line in text.splitlines():
        words = iter(line.split(" "))
        lines.append(next(words))
        for word in words:
            longer = f"{lines[-1]} {word}"
            if cell_len(longer) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
