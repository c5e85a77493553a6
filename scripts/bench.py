#!/usr/bin/env python3
"""`make bench`: seconds and module runs of the lab and of a converge, requests of a worker; medians of three.

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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from rich.console import Console
from rich.table import Table

from lab.caller import as_root
from lab.config import LABEL, LABEL_PART, Lab
from lab.docker_cloud import LABEL_PUBLIC
from lab.images import SERVICES
from lab.instance import Instance
from lab.load import assets, h2load
from lab.parts import DOMAIN
from lab.runtime import Runtime

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
LAB = "e2e"
GOALS = {"from nothing": 15 * 60, "from no droplets": 6 * 60, "converge, nothing to do": 90}
"""Seconds on 2 cores."""
CLIENTS, SECONDS = 20, 10
"""The load of one measurement of a worker."""
NGINX, CONTAINER = 18443, 18000
"""Ports, on a worker's loopback, of the forwarder's two ways."""
FORWARDER = f"""
defaults
  mode tcp
  maxconn 1000
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen nginx
  bind 127.0.0.1:{NGINX}
  server worker 127.0.0.1:443 send-proxy
listen container
  bind 127.0.0.1:{CONTAINER}
  server web 127.0.0.1:3000
"""


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


@dataclass(frozen=True)
class Throughput:
    """Requests a second through nginx and the container, and of the container alone."""

    nginx: float
    container: float


@contextmanager
def forwarder(client: docker.DockerClient, settings: Lab, worker: Any) -> Iterator[None]:
    """HAProxy in the worker's network: both ways go through it, so that it costs both the same."""
    container: Any = client.containers.run(
        SERVICES,
        ["sh", "-c", 'printf %s "$SETTINGS" > /tmp/haproxy.cfg && exec haproxy -W -db -f /tmp/haproxy.cfg'],
        detach=True,
        environment={"SETTINGS": FORWARDER},
        network_mode=f"container:{worker.id}",
        labels={LABEL: settings.name, LABEL_PART: "load"},
    )
    try:
        ready = f"until socat -u OPEN:/dev/null TCP:127.0.0.1:{CONTAINER}; do sleep 0.1; done"
        container.exec_run(["timeout", "30", "sh", "-c", ready])
        yield
    finally:
        container.remove(force=True)


def throughput(runs: int) -> dict[str, list[Throughput]]:
    """Of one worker of the running lab, by what is asked for. The client runs on the same two cores.

    Raises RuntimeError where a request failed.
    """
    client, settings = docker.from_env(), Lab.load(LAB)
    runtime = Runtime(client, settings)
    worker = runtime.resolve("vmst-worker-1")
    balancer = runtime.resolve("vmst-lb")
    with Instance(DOMAIN, balancer.labels[LABEL_PUBLIC], settings.ca) as instance:
        page = instance.request("GET", "/").raise_for_status().text
    paths = {"API, not cached": "/api/v2/instance", "static file, cached": assets(page)[0]}

    def measure(scheme: str, port: int, path: str) -> float:
        outcome = h2load(
            client,
            settings,
            [f"{scheme}://{DOMAIN}:{port}{path}"],
            network=f"container:{worker.id}",
            connect_to=f"127.0.0.1:{port}",
            clients=CLIENTS,
            seconds=SECONDS,
            # As nginx tells the container.
            headers={"X-Forwarded-Proto": "https"},
        )
        if outcome.unanswered or set(outcome.statuses) != {2}:
            raise RuntimeError(f"{path} on port {port}: {outcome}")
        return outcome.per_second

    found: dict[str, list[Throughput]] = {what: [] for what in paths}
    with forwarder(client, settings, worker):
        for _ in range(runs):
            for what, path in paths.items():
                measured = Throughput(measure("https", NGINX, path), measure("http", CONTAINER, path))
                found[what].append(measured)
    return found


def show_throughput(console: Console, found: dict[str, list[Throughput]]) -> None:
    table = Table("requests/s of a worker", "nginx + container", "container alone", "ratio", "ratios")
    for what, values in found.items():
        ratios = [value.nginx / value.container for value in values]
        table.add_row(
            what,
            f"{statistics.median(value.nginx for value in values):.0f}",
            f"{statistics.median(value.container for value in values):.0f}",
            f"{statistics.median(ratios):.2f}",
            ", ".join(f"{ratio:.2f}" for ratio in ratios),
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--from-nothing", action="store_true", help="purge the built images and measure that too"
    )
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    as_root()

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
    requests = throughput(arguments.runs)
    lab("down")

    table = Table("what", "median s", "goal s", "ratio", "runs")
    for name, values in seconds.items():
        if values:
            median = statistics.median(values)
            runs = ", ".join(f"{value:.0f}" for value in values)
            table.add_row(name, f"{median:.0f}", str(GOALS[name]), f"{median / GOALS[name]:.2f}", runs)
    console = Console()
    console.print(table)
    show_throughput(console, requests)
    console.print(f"module runs of the converge: {dict(sorted(module_runs.items()))}")
    # Each says itself which goal it missed; all run.
    scripts = sorted(ROOT.glob("scripts/bench_*.py"))
    codes = [subprocess.run([sys.executable, script], check=False, cwd=ROOT).returncode for script in scripts]
    sys.exit(max(codes, default=0))


if __name__ == "__main__":
    main()
