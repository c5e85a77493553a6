#!/usr/bin/env python3
"""`make bench`: seconds and module runs of the lab and of a converge; medians of three.

Runs in a lab of its own (`e2e`), which it removes. `--from-nothing` also measures the first run on a
machine: it purges the built images first, so that the next `make lab` builds them again.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
LAB = "e2e"
GOALS = {"from nothing": 15 * 60, "from no droplets": 6 * 60, "converge, nothing to do": 90}
"""Seconds on 2 cores."""


def lab(*arguments: str) -> float:
    """Seconds that `lab ARGUMENTS` took; its output goes to stderr. Raises CalledProcessError if it fails."""
    started = time.monotonic()
    subprocess.run([BIN / "lab", "--name", LAB, *arguments], check=True, cwd=ROOT, stdout=sys.stderr)
    return time.monotonic() - started


def converge() -> tuple[float, Counter[str]]:
    """Seconds, and module runs by host, of site.yml on the running lab."""
    with tempfile.NamedTemporaryFile() as runs:
        environment = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "scripts" / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "module_runs",
            "MODULE_RUNS_FILE": runs.name,
        }
        started = time.monotonic()
        subprocess.run(
            ["ansible-playbook", "-i", f".lab/{LAB}/inventory", "playbooks/site.yml"],
            check=True,
            cwd=ROOT,
            env=environment,
            stdout=sys.stderr,
        )
        took = time.monotonic() - started
        lines = Path(runs.name).read_text().splitlines()
    return took, Counter(line.split("\t")[0] for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--from-nothing", action="store_true", help="purge the built images and measure that too"
    )
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()

    seconds: dict[str, list[float]] = {name: [] for name in GOALS}
    module_runs: Counter[str] = Counter()
    for _ in range(arguments.runs):
        if arguments.from_nothing:
            lab("down")
            lab("purge", "--yes")
            seconds["from nothing"].append(lab("up"))
        lab("down")
        seconds["from no droplets"].append(lab("up"))
        took, module_runs = converge()
        seconds["converge, nothing to do"].append(took)
    lab("down")

    table = Table("what", "median s", "goal s", "ratio", "runs")
    for name, values in seconds.items():
        if values:
            median = statistics.median(values)
            runs = ", ".join(f"{value:.0f}" for value in values)
            table.add_row(name, f"{median:.0f}", str(GOALS[name]), f"{median / GOALS[name]:.2f}", runs)
    console = Console()
    console.print(table)
    console.print(f"module runs of the converge: {dict(sorted(module_runs.items()))}")
    # Each says itself which goal it missed; all run.
    scripts = sorted(ROOT.glob("scripts/bench_*.py"))
    codes = [subprocess.run([sys.executable, script], check=False, cwd=ROOT).returncode for script in scripts]
    sys.exit(max(codes, default=0))


if __name__ == "__main__":
    main()
