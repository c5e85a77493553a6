"""Work done side by side, which neither an error nor Ctrl-C waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """Four threads. Left by an exception, what they are at is abandoned; else its end is awaited."""
    pool = ThreadPoolExecutor(max_workers=4)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def at_work() -> bool:
    """Whether there are threads that Python would wait for before it ends the process."""
    return any(
        thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()
    )
