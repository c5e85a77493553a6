#!/usr/bin/env python3
"""Measures one run of each API module in a process of its own, beside a module that does nothing.

Against the lab's emulators, over TLS, with nothing left to change: the run that happens most. Prints medians
of seconds on the clock and of processor time (which a busy machine changes little), and exits with 1 if a
Cloudflare or SendGrid run takes more than 250 ms of the latter.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lab.emulators import cloudflare, digitalocean, sendgrid
from lab.emulators.common import grant
from lab.emulators.memory_cloud import MemoryCloud
from lab.emulators.testing import running
from lab.pki import Authority

GOAL = 0.25
PACKAGE = "ansible_collections.vmstio.mastodon.plugins.modules"
NOTHING = "from ansible.module_utils.basic import AnsibleModule; AnsibleModule(argument_spec={}).exit_json()"
RECORDS = [
    {"type": "A", "content": "203.0.113.10"},
    {"name": "files", "type": "CNAME", "content": "cdn.example.net"},
    {"type": "CAA", "content": '0 issue "letsencrypt.org"'},
    {"type": "TXT", "content": "v=spf1 -all"},
    {"type": "MX", "content": "mx.example.net", "priority": 10},
]


def once(command: list[str], arguments: dict[str, Any]) -> tuple[float, float]:
    """Seconds on the clock and of processor time. Ends the program if the module fails."""
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+") as output:
        json.dump({"ANSIBLE_MODULE_ARGS": arguments}, given)
        given.seek(0)
        start = time.monotonic()
        process = subprocess.Popen([sys.executable, *command], stdin=given, stdout=output, stderr=output)
        _unused, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        if process.returncode:
            output.seek(0)
            sys.exit(f"{command[-1]} failed:\n{output.read()}")
    return seconds, usage.ru_utime + usage.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=11, help="runs of each module (default: 11)")
    runs = parser.parse_args().runs
    missed = []
    with tempfile.TemporaryDirectory() as name:
        authority = Authority.open(Path(name), "bench")
        certificate = authority.issue("api", ["localhost"], ["127.0.0.1"])
        flare = cloudflare.create_app(tokens=grant("bench"), zones=["social.test"], contract="off")
        grid = sendgrid.create_app(tokens=grant("bench"), contract="off")
        ocean = digitalocean.create_app(
            MemoryCloud(), tokens=grant("bench"), contract="off", synthetic_droplets=4
        )
        with (
            running(flare, certificate) as flare_url,
            running(grid, certificate) as grid_url,
            running(ocean, certificate) as ocean_url,
        ):
            trust = {"ca_file": str(authority.file)}
            zone = {
                "api_token": "bench",
                "endpoint": f"{flare_url}{cloudflare.PREFIX}",
                "zone": "social.test",
            }
            key = {"api_key": "bench", "endpoint": grid_url, **trust}
            token = {"api_token": "bench", "endpoint": ocean_url, **trust}
            droplet = {"name": "vmst-worker-2", "image": "ubuntu-24-04-x64", "_ansible_check_mode": True}
            cases: dict[str, dict[str, Any]] = {
                "cloudflare_dns": {**zone, **trust, "records": RECORDS},
                "cloudflare_zone_settings": {**zone, **trust},
                "sendgrid_tracking": key,
                "sendgrid_domain": {**key, "domain": "social.test"},
                "droplet_rebuild": {**token, **droplet},
            }
            print(f"{'module':<26} {'seconds':>8} {'processor':>10}")
            for module, arguments in {"(nothing)": {}, **cases}.items():
                command = ["-c", NOTHING] if module == "(nothing)" else ["-m", f"{PACKAGE}.{module}"]
                once(command, arguments)
                found = [once(command, arguments) for _unused in range(runs)]
                seconds, processor = (statistics.median(column) for column in zip(*found, strict=True))
                print(f"{module:<26} {seconds:>8.3f} {processor:>10.3f}", flush=True)
                if module.startswith(("cloudflare", "sendgrid")) and processor > GOAL:
                    missed.append(f"{module} takes {processor:.3f} s of processor time, more than {GOAL}")
    for goal in missed:
        print(f"missed: {goal}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
