"""Work side by side, and how a command ends that has some: in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.threads import at_work, workers

COMMAND = """
import signal, sys, threading
import lab.__main__, lab.cli
from lab.cli import _plainly
from lab.engine import LabError
from lab.threads import workers

lab.__main__.as_root = lambda: None
# A shell's background job, as these tests may be, is started with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

@_plainly
def work():
    with workers() as pool:
        pool.submit(threading.Event().wait)  # an image that takes its time
        print("working", flush=True)
        %s

def command():
    work()
    sys.exit(0)

lab.cli.main = command
lab.__main__.main()
"""


@contextmanager
def started(what: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", COMMAND % what]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_ends_though_its_threads_do_not(which: signal.Signals) -> None:
    with started("threading.Event().wait()") as process:
        process.send_signal(which)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said == "lab: interrupted; the same command goes on where this one ended\n"


def test_an_error_is_told_though_other_threads_work() -> None:
    with started("raise LabError('no room on the disk')") as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said == "lab: no room on the disk\n"


def test_without_an_error_the_work_is_done() -> None:
    go = threading.Event()
    with workers() as pool:
        work = pool.submit(go.wait)
        assert at_work()
        go.set()
    assert work.done()
