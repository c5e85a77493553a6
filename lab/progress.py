"""Says what a long command does, how far it is and since when: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_SPARE_SECONDS = 3
"""Without a terminal, a step says what it does at most this often."""
_QUIET_SECONDS = 15
"""Without a terminal, a step that goes on says so this often."""


def clock(seconds: float) -> str:
    """`7 s`, `3:05`."""
    whole = int(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60}:{whole % 60:02d}"


class Step:
    """One step: `say` tells what it does now, `far` how much of it is done."""

    def __init__(self, progress: Progress, name: str) -> None:
        self.name = name
        self.started = time.monotonic()
        self.text = ""
        self.done: int | None = None
        self.total: int | None = None
        self._progress = progress

    def say(self, text: str) -> None:
        self.text = text.splitlines()[0] if text else ""
        self._progress.changed(self)

    def far(self, done: int, total: int | None) -> None:
        """`total` None: nobody knows how much it will be."""
        self.done, self.total = done, total

    @property
    def measure(self) -> str:
        if self.done is None:
            return ""
        if not self.total or self.done > self.total:
            return str(self.done)
        return f"{self.done}/{self.total}"

    def line(self) -> str:
        parts = [self.name, self.measure, self.text]
        return " · ".join(part for part in parts if part)


class Progress:
    """Steps one after another; several may run at once in threads."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._live: Live | None = None
        self._running: list[Step] = []
        self._lock = threading.RLock()
        self._last_line = 0.0
        self.started = time.monotonic()

    @contextmanager
    def run(self) -> Iterator[Progress]:
        """Show what happens inside, until it ends."""
        if not self.console.is_terminal:
            stop = threading.Event()
            ticker = threading.Thread(target=self._tick, args=(stop,), daemon=True)
            ticker.start()
            try:
                yield self
            finally:
                stop.set()
                ticker.join()
            return
        with Live(
            get_renderable=self._table, console=self.console, refresh_per_second=4, transient=True
        ) as live:
            self._live = live
            try:
                yield self
            finally:
                self._live = None

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        step = Step(self, name)
        with self._lock:
            self._running.append(step)
        if self._live is None:
            self._print(f"{self._at()} {name} ...")
        try:
            yield step
        except BaseException:
            self._end(step, "[red]✗[/red]")
            raise
        self._end(step, "[green]✓[/green]")

    def changed(self, step: Step) -> None:
        if self._live is None and time.monotonic() - self._last_line > _SPARE_SECONDS:
            self._print(f"{self._at()}   {step.line()}")

    def _end(self, step: Step, mark: str) -> None:
        with self._lock:
            self._running.remove(step)
        took = clock(time.monotonic() - step.started)
        measure = f" ({step.measure})" if step.measure else ""
        if self._live is None:
            self._print(f"{self._at()} {Text.from_markup(mark).plain} {step.name}{measure}, {took}")
        else:
            self.console.print(f"{mark} {step.name}{measure} [dim]{took}[/dim]")

    def _print(self, text: str) -> None:
        with self._lock:
            self._last_line = time.monotonic()
            self.console.print(Text(text), soft_wrap=True)

    def _at(self) -> str:
        return f"[{clock(time.monotonic() - self.started):>5}]"

    def _tick(self, stop: threading.Event) -> None:
        while not stop.wait(1):
            with self._lock:
                running = list(self._running)
            if running and time.monotonic() - self._last_line > _QUIET_SECONDS:
                for step in running:
                    since = clock(time.monotonic() - step.started)
                    self._print(f"{self._at()}   {step.line()} (for {since})")

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 1))
        with self._lock:
            for step in self._running:
                since = clock(time.monotonic() - step.started)
                text = Text(step.line(), no_wrap=True, overflow="ellipsis")
                table.add_row(Spinner("dots"), Text(since, style="dim"), text)
        return table
