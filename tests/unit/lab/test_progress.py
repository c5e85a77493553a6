from __future__ import annotations

import io

import pytest
from rich.console import Console

from lab.converge import Watcher
from lab.progress import Progress, clock


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0.4, 59.9, 60, 3725)] == ["0 s", "59 s", "1:00", "62:05"]


def plain() -> tuple[Progress, io.StringIO]:
    output = io.StringIO()
    return Progress(Console(file=output, force_terminal=False)), output


def test_plain_lines_name_the_step_and_its_end() -> None:
    progress, output = plain()
    with progress.run(), progress.step("images") as step:
        step.far(2, 5)
        step.say("droplet [1/2]\nnot this")
    lines = output.getvalue().splitlines()
    assert lines[0].endswith("images ...")
    assert "✓ images (2/5), 0 s" in lines[-1]
    assert "not this" not in output.getvalue()


def test_a_failed_step_is_marked_and_the_error_goes_on() -> None:
    progress, output = plain()
    with pytest.raises(ValueError, match="no"), progress.run(), progress.step("images"):
        raise ValueError("no")
    assert "✗ images" in output.getvalue()


def test_on_a_terminal_finished_steps_stay() -> None:
    output = io.StringIO()
    progress = Progress(Console(file=output, force_terminal=True, width=80, color_system=None))
    with progress.run(), progress.step("images") as step:
        step.say("droplet")
    assert "✓ images" in output.getvalue()


def test_how_far_is_only_said_when_it_can_be_true() -> None:
    progress, _ = plain()
    with progress.step("x") as step:
        assert step.measure == ""
        step.far(3, None)
        assert step.measure == "3"
        step.far(9, 5)  # the total was last time's
        assert step.measure == "9"


OUTPUT = """
PLAY [Exec] ********************************************************************

TASK [vmstio.mastodon.base : Packages] *****************************************
ok: [vmst-exec]

TASK [vmstio.mastodon.exec : Migrate] ******************************************
[ERROR]: Task failed: Module failed: boom
Origin: /x/main.yml:3:3

fatal: [vmst-exec]: FAILED! =>
    changed: false
    msg: boom

PLAY RECAP *********************************************************************
vmst-exec                  : ok=1    changed=4    unreachable=0    failed=1    skipped=0
"""


def test_the_playbooks_output_is_followed() -> None:
    watcher = Watcher()
    began = [watcher.read(line) for line in OUTPUT.splitlines()]
    assert began.count(True) == 3
    assert watcher.tasks == 2
    assert watcher.changed == {"vmst-exec": 4}
    reason = "\n".join(watcher.failure)
    assert "[vmstio.mastodon.exec : Migrate]" in reason
    assert "msg: boom" in reason
    assert "PLAY RECAP" not in reason
