#!/usr/bin/env python3
"""Measures the inventory plugin: `ansible-inventory --list` against a DigitalOcean API in its own process.

For 0, 200, 2,000 and 10,000 droplets, with 0 and 150 ms a call: median seconds, peak memory (MiB) and the
number of requests; then the cost of a cache hit beside an empty static inventory. Exits with 1 if a goal is
missed: 2,000 droplets at 150 ms in 3 s, 10,000 in 9 s, ceil(N / 200) requests, a cache hit within 0.15 s of
nothing. The droplets are full API objects (about 5 kB), as on DigitalOcean.
"""

from __future__ import annotations

import argparse
import datetime
import http.server
import ipaddress
import json
import math
import os
import socketserver
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

TOKEN = "bench-token"  # noqa: S105  (of the server below)
GOALS = {(2000, 150): 3.0, (10000, 150): 9.0}


def droplet(number: int) -> dict[str, Any]:
    sizes = [f"s-{cpus}vcpu-{memory}gb" for cpus in range(1, 17) for memory in (1, 2, 4, 8, 16)]
    regions = [f"{city}{n}" for city in ("nyc", "sfo", "ams", "sgp", "lon", "fra") for n in (1, 2, 3)]
    return {
        "id": 3_000_000 + number,
        "name": f"vmst-worker-{number}",
        "memory": 4096,
        "vcpus": 2,
        "disk": 80,
        "locked": False,
        "status": "active",
        "kernel": None,
        "created_at": "2026-07-21T18:37:44Z",
        "features": ["backups", "private_networking", "ipv6"],
        "backup_ids": [],
        "snapshot_ids": [],
        "volume_ids": [],
        "image": {
            "id": 7555620,
            "name": "13 x64",
            "distribution": "Debian",
            "slug": "debian-13-x64",
            "public": True,
            "regions": regions,
            "type": "base",
            "min_disk_size": 7,
            "size_gigabytes": 2.34,
        },
        "size": {
            "slug": "s-2vcpu-4gb",
            "memory": 4096,
            "vcpus": 2,
            "disk": 80,
            "transfer": 4.0,
            "price_monthly": 24.0,
            "price_hourly": 0.036,
            "regions": regions,
            "available": True,
            "description": "Basic",
        },
        "size_slug": "s-2vcpu-4gb",
        "networks": {
            "v4": [
                {
                    "ip_address": str(ipaddress.IPv4Address("10.118.0.0") + number),
                    "netmask": "255.255.240.0",
                    "gateway": "nil",
                    "type": "private",
                },
                {
                    "ip_address": str(ipaddress.IPv4Address("198.18.0.0") + number),
                    "netmask": "255.254.0.0",
                    "gateway": "198.18.0.1",
                    "type": "public",
                },
            ],
            "v6": [],
        },
        "region": {
            "name": "Amsterdam 3",
            "slug": "ams3",
            "features": ["backups", "ipv6", "metadata"],
            "available": True,
            "sizes": sizes,
        },
        "tags": ["vmst-worker", "vmst-lb", "env:bench"],
        "vpc_uuid": "760e09ef-dc84-11e8-981e-3cfdfeaae000",
    }


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64
    requests = 0
    delay = 0.0
    total = 0

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "api.pem")
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self._items = [json.dumps(droplet(number)) for number in range(10_000)]
        self._pages: dict[tuple[int, int, int], bytes] = {}

    def page(self, number: int, size: int) -> bytes:
        key = (self.total, number, size)
        if key not in self._pages:
            items = self._items[: self.total][(number - 1) * size : number * size]
            meta = f'"links": {{}}, "meta": {{"total": {self.total}}}'
            self._pages[key] = f'{{"droplets": [{", ".join(items)}], {meta}}}'.encode()
        return self._pages[key]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        if "total" in query:  # the bench's own call: what to serve next, and how often it was asked meanwhile
            body = json.dumps({"requests": self.server.requests}).encode()
            self.server.requests = 0
            self.server.total, self.server.delay = int(query["total"]), float(query["delay"])
            for number in range(1, self.server.total // 200 + 2):
                self.server.page(number, 200)
        else:
            self.server.requests += 1
            time.sleep(self.server.delay)
            body = self.server.page(int(query.get("page", 1)), int(query.get("per_page", 20)))
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the output is the table."""


def certificate(directory: Path) -> None:
    """A self-signed certificate for 127.0.0.1: api.pem (with key) and ca.pem."""
    from cryptography import x509  # noqa: PLC0415  (the server's process only)
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "ca.pem").write_bytes(public)
    (directory / "api.pem").write_bytes(private + public)


def serve(directory: Path) -> None:
    certificate(directory)
    server = Server(directory)
    print(server.server_address[1], flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    server.serve_forever()


class Run(NamedTuple):
    """One `ansible-inventory --list`: seconds on the clock, seconds of processor time, peak MiB, hosts."""

    seconds: float
    processor: float
    memory: float
    hosts: int


class Bench:
    def __init__(self, directory: Path, port: int, runs: int) -> None:
        self.directory = directory
        self.port = port
        self.runs = runs
        self.context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
        (directory / "ansible.cfg").write_text("[defaults]\n")
        self.environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(directory / "ansible.cfg"),
            "ANSIBLE_INVENTORY_ENABLED": "vmstio.mastodon.droplets,ansible.builtin.yaml",
            "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "DIGITALOCEAN_TOKEN": TOKEN,
        }

    def control(self, total: int, delay_ms: int) -> int:
        """Sets what is served; returns the number of requests since the last call."""
        import http.client  # noqa: PLC0415

        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context, timeout=60)
        connection.request("GET", f"/?total={total}&delay={delay_ms / 1000}")
        requests: int = json.loads(connection.getresponse().read())["requests"]
        connection.close()
        return requests

    def source(self, text: str) -> Path:
        path = self.directory / "digitalocean.yml"
        path.write_text(text)
        return path

    def droplets(self, extra: str = "") -> Path:
        return self.source(
            "plugin: vmstio.mastodon.droplets\ninstance: vmst\ntag_groups: true\n"
            f"endpoint: https://127.0.0.1:{self.port}\nca_file: {self.directory}/ca.pem\n{extra}"
        )

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
    missed = []
    print(
        f"{'droplets':>9} {'ms a call':>10} {'seconds':>8} {'processor':>10} {'peak MiB':>9} {'requests':>9}"
    )
    for delay in (0, 150):
        for total in sizes:
            bench.control(total, delay)
            run = bench.median(bench.droplets())
            requests = bench.control(total, delay) / bench.runs
            print(
                f"{total:>9} {delay:>10} {run.seconds:>8.2f} {run.processor:>10.2f} {run.memory:>9.0f} "
                f"{requests:>9.0f}",
                flush=True,
            )
            if run.hosts != total:
                missed.append(f"{total} droplets gave {run.hosts} hosts")
            if requests != max(1, math.ceil(total / 200)):
                missed.append(f"{total} droplets took {requests:g} requests")
            if run.seconds > GOALS.get((total, delay), math.inf):
                missed.append(f"{total} droplets at {delay} ms took {run.seconds:.2f} s")
    bench.control(4, 150)
    nothing = bench.directory / "static.yml"
    nothing.write_text("all: {}\n")
    cache = (
        f"cache: true\ncache_plugin: ansible.builtin.jsonfile\ncache_connection: {bench.directory}/cache\n"
    )
    hit = bench.droplets(cache)
    bench.run(hit)
    bench.control(4, 150)
    pairs = [(bench.run(nothing).seconds, bench.run(hit).seconds) for _unused in range(max(5, bench.runs))]
    empty, cached = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"empty static inventory {empty:.2f} s, cache hit {cached:.2f} s ({cached - empty:+.2f} s)")
    if bench.control(0, 0):
        missed.append("a cache hit asked the API")
    if cached - empty > 0.15:
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
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        try:
            missed = measure(Bench(directory, int(server.stdout.readline()), arguments.runs), arguments.sizes)
        finally:
            server.kill()
            server.wait()
    for goal in missed:
        print(f"missed: {goal}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
