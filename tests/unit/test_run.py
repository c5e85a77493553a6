"""What `make test` says again at its end."""

from __future__ import annotations

from tests.run import told


def test_what_failed_is_found_in_long_output() -> None:
    log = """\
worker > verify: Executed: Failed
E       AssertionError: seen == {503}
E         Extra items in the left set
molecule/worker/tests/test_worker.py:41: AssertionError
=========================== short test summary info ============================
FAILED molecule/worker/tests/test_worker.py::test_health - AssertionError: seen == {503}
1 failed, 96 passed in 400 s

SCENARIO RECAP
"""
    assert told(log) == [
        "E       AssertionError: seen == {503}",
        "E         Extra items in the left set",
        "FAILED molecule/worker/tests/test_worker.py::test_health - AssertionError: seen == {503}",
    ]


def test_of_many_failures_the_last_are_said() -> None:
    assert told("\n".join(f"FAILED test_x.py::test_{number}" for number in range(30)), most=2) == [
        "FAILED test_x.py::test_28",
        "FAILED test_x.py::test_29",
    ]


def test_output_that_names_nothing_is_shown_as_it_ends() -> None:
    assert told("one\n\ntwo\nthree\n", most=2) == ["two", "three"]
