#!/usr/bin/env python3
"""Measures the inventory plugin: `ansible-inventory --list` against the emulated DigitalOcean of the lab.

For 0, 200, 2,000 and 10,000 droplets, with 0 and 150 ms a call: median seconds, peak memory (MiB) and the
number of requests; then the cost of a cache hit beside an empty static inventory. Exits with 1 if a goal is
missed: 2,000 droplets at 150 ms in 3 s, 10,000 in 9 s, ceil(N / 200) requests, a cache hit within 0.15 s of
nothing. The emulator has a process of its own and counts the requests; its droplets are full API objects of
2.3 kB.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx

from lab.config import REPOSITORY
from lab.emulators.testing import eventually
from lab.pki import Authority

TOKEN = "bench-token"  # noqa: S105  (of the emulator)
GOALS = {(2000, 150): 3.0, (10000, 150): 9.0}
CACHE_GOAL = 0.15


class Emulator:
    """A running emulator at `url`."""

    def __init__(self, url: str, trust: ssl.SSLContext) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, verify=trust)

    def serves(self) -> bool:
        try:
            return self._client.get("/_lab/health").status_code == 200
        except httpx.TransportError:
            return False

    def requests(self) -> int:
        """The number of calls since the last look."""
        total: int = self._client.get("/_lab/requests").json()["total"]
        self._client.delete("/_lab/requests").raise_for_status()
        return total


@contextlib.contextmanager
def emulator(directory: Path, droplets: int, delay_ms: int) -> Iterator[Emulator]:
    """The DigitalOcean emulator with so many droplets; `directory` holds its certificate and its log."""
    authority = Authority.open(directory, "bench")
    issued = authority.issue("api", ["localhost"], ["127.0.0.1"])
    tokens = directory / "tokens"
    tokens.write_text(TOKEN)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "lab.emulators.digitalocean", "--cloud", "memory", "--contract", "off"]
    command += ["--listen", address, "--tls-cert", str(issued.certificate), "--tls-key", str(issued.key)]
    command += ["--token-file", str(tokens), "--latency", str(delay_ms)]
    command += ["--synthetic-droplets", str(droplets)]
    log = directory / "emulator.log"
    with (
        log.open("w") as output,
        subprocess.Popen(command, cwd=REPOSITORY, stdout=output, stderr=output) as process,
    ):
        made = Emulator(f"https://{address}", ssl.create_default_context(cafile=str(authority.file)))
        try:
            eventually(lambda: made.serves() or process.poll() is not None, 60)
            if process.returncode is not None:
                sys.exit(f"the emulator ended with {process.returncode}:\n{log.read_text()}")
            yield made
        finally:
            process.kill()


class Run(NamedTuple):
    """One `ansible-inventory --list`: seconds on the clock, seconds of processor time, peak MiB, hosts."""

    seconds: float
    processor: float
    memory: float
    hosts: int


class Bench:
    def __init__(self, directory: Path, runs: int) -> None:
        self.directory = directory
        self.runs = runs
        (directory / "ansible.cfg").write_text("[defaults]\n")
        self.environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(directory / "ansible.cfg"),
            "ANSIBLE_INVENTORY_ENABLED": "vmstio.mastodon.droplets,ansible.builtin.yaml",
            "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "DIGITALOCEAN_TOKEN": TOKEN,
        }

    def droplets(self, emulated: Emulator, extra: str = "") -> Path:
        path = self.directory / "digitalocean.yml"
        path.write_text(
            "plugin: vmstio.mastodon.droplets\ninstance: vmst\ntag_groups: true\n"
            f"endpoint: {emulated.url}\nca_file: {self.directory}/ca.crt\n{extra}"
        )
        return path

    def run(self, source: Path) -> Run:
        program = str(Path(sys.executable).parent / "ansible-inventory")
        output, errors = self.directory / "list.json", self.directory / "errors"
        start = time.monotonic()
        with output.open("w") as stdout, errors.open("w") as stderr:
            process = subprocess.Popen(
                [program, "-i", str(source), "--list"], stdout=stdout, stderr=stderr, env=self.environment
            )
            _unused, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        if process.returncode:
            sys.exit(f"ansible-inventory failed with {process.returncode}:\n{errors.read_text()}")
        hosts = len(json.loads(output.read_text())["_meta"]["hostvars"])
        return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, hosts)

    def median(self, source: Path) -> Run:
        runs = [self.run(source) for _unused in range(self.runs)]
        return Run(
            statistics.median(run.seconds for run in runs),
            statistics.median(run.processor for run in runs),
            max(run.memory for run in runs),
            runs[0].hosts,
        )


def measure(bench: Bench, sizes: list[int]) -> list[str]:
    """Prints the table. Returns the goals that were missed."""
    missed = []
    print(
        f"{'droplets':>9} {'ms a call':>10} {'seconds':>8} {'processor':>10} {'peak MiB':>9} {'requests':>9}"
    )
    for delay in (0, 150):
        for total in sizes:
            with emulator(bench.directory, total, delay) as emulated:
                run = bench.median(bench.droplets(emulated))
                requests = emulated.requests() / bench.runs
            print(
                f"{total:>9} {delay:>10} {run.seconds:>8.2f} {run.processor:>10.2f} {run.memory:>9.0f} "
                f"{requests:>9g}",
                flush=True,
            )
            if run.hosts != total:
                missed.append(f"{total} droplets gave {run.hosts} hosts")
            if requests != max(1, math.ceil(total / 200)):
                missed.append(f"{total} droplets took {requests:g} requests")
            if run.seconds > GOALS.get((total, delay), math.inf):
                missed.append(f"{total} droplets at {delay} ms took {run.seconds:.2f} s")
    return missed + measure_cache(bench)


def measure_cache(bench: Bench) -> list[str]:
    missed = []
    nothing = bench.directory / "static.yml"
    nothing.write_text("all: {}\n")
    cache = (
        f"cache: true\ncache_plugin: ansible.builtin.jsonfile\ncache_connection: {bench.directory}/cache\n"
    )
    with emulator(bench.directory, 4, 150) as emulated:
        hit = bench.droplets(emulated, cache)
        bench.run(hit)
        emulated.requests()
        pairs = [
            (bench.run(nothing).seconds, bench.run(hit).seconds) for _unused in range(max(5, bench.runs))
        ]
        if emulated.requests():
            missed.append("a cache hit asked the API")
    empty, cached = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"empty static inventory {empty:.2f} s, cache hit {cached:.2f} s ({cached - empty:+.2f} s)")
    if cached - empty > CACHE_GOAL:
        missed.append(f"a cache hit costs {cached - empty:.2f} s more than an empty inventory")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of each case (default: 3)")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[0, 200, 2000, 10000], help="numbers of droplets"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        missed = measure(Bench(Path(name), arguments.runs), arguments.sizes)
    for goal in missed:
        print(f"missed: {goal}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
