#!/usr/bin/python3
# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look after this worker: what runs with old settings, is it healthy, take it out of rotation and back.

Reads /etc/mastodon/worker.json. Exit code 0: it is so; 1: it is not, and standard error says what is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONFIGURATION = Path("/etc/mastodon/worker.json")
STAMPS = Path("/run/mastodon-worker")
UNITS = Path("/etc/systemd/system")
PAGE_LIMIT = 10.0
"""Seconds that a page may take."""
RESTARTS = 3
"""So many restarts while somebody watches are no accident."""


class NotSo(Exception):
    """What was asked for is not the case; the text says what is wrong and what to do."""


@dataclass(frozen=True)
class Page:
    """How a visitor's request for `host` gets to nginx on this host."""

    host: str
    port: int
    tls: bool
    proxy_protocol: bool


@dataclass(frozen=True)
class Configuration:
    """`files`: unit -> what it reads when it starts. `urls`: container -> where it says OK.

    `sidekiq`: the containers that run jobs. `needed`: units of other roles that have to run as well.
    `page`: how a visitor's request gets here. `health`: what the load balancer asks, on loopback.
    `flag`: the file that makes it fail. `nginx_in_container`: where nginx finds its settings when it runs in
    one. The two logs are nginx's; `health_log` holds what others than this host asked.
    """

    files: dict[str, list[str]]
    urls: dict[str, str]
    sidekiq: list[str]
    needed: list[str]
    page: Page
    health: str
    flag: Path
    nginx_in_container: str
    access_log: Path
    health_log: Path

    @classmethod
    def load(cls, path: Path = CONFIGURATION) -> Configuration:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for name in ("flag", "access_log", "health_log"):
            raw[name] = Path(raw[name])
        return cls(**{**raw, "page": Page(**raw["page"])})


# What runs with old settings


def digests(paths: list[str]) -> dict[str, str]:
    """path -> SHA-256 of its content, or `missing`."""
    found = {}
    for path in paths:
        try:
            found[path] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        except FileNotFoundError:
            found[path] = "missing"
    return found


def clean(unit: str) -> None:
    """Remove the container of `unit` that a killed client, or another mode of nginx, left behind, and its
    scratch volume. That has a name: an engine killed at the wrong moment forgets a nameless one for ever."""
    if unit != "docker":
        run("docker", "container", "rm", "--force", "--volumes", unit)
        run("docker", "volume", "rm", "--force", f"{unit}-scratch")


def prepare(configuration: Configuration, unit: str) -> None:
    """Note what `unit` starts with and clear the way for it. The unit itself calls this before each start."""
    STAMPS.mkdir(mode=0o755, exist_ok=True)
    candidate = STAMPS / f".{unit}"
    candidate.write_text(json.dumps(digests(configuration.files[unit])), encoding="utf-8")
    candidate.rename(STAMPS / unit)
    clean(unit)


def copy_code(image: str, source: str, target: Path, units: Path = UNITS) -> None:
    """Have `source` of `image`, the code that its build has compiled, at `target`: whole, or not at all.

    An image without it gives an empty directory. Copies that no unit names any more are removed. Raises NotSo
    where the engine cannot make a container of `image`.
    """
    STAMPS.mkdir(mode=0o755, exist_ok=True)
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    # Units of the same image start at the same time.
    with (STAMPS / ".code").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        named = [unit.read_text(encoding="utf-8") for unit in units.glob("mastodon-*.service")]
        for other in target.parent.iterdir():
            if other != target and not any(str(other) in text for text in named):
                shutil.rmtree(other)
        if not target.exists():
            candidate = target.with_name(f".{target.name}")
            candidate.mkdir(mode=0o755)
            _copy_from_image(image, source, candidate)
            candidate.rename(target)


def _copy_from_image(image: str, source: str, target: Path) -> None:
    made = run("docker", "container", "create", "--pull", "never", "--network", "none", image)
    if made.returncode:
        raise NotSo(f"{image}: {made.stderr.strip()}")
    container = made.stdout.strip()
    copied = run("docker", "container", "cp", f"{container}:{source}/.", str(target))
    run("docker", "container", "rm", "--force", container)
    if copied.returncode and "Could not find the file" not in copied.stderr:
        raise NotSo(f"{image}: {copied.stderr.strip()}")
    # It belongs to root now, and is for the user in the container to read.
    run("chmod", "--recursive", "a+rX", str(target))


def outdated(configuration: Configuration) -> list[str]:
    """Units that run with other settings than those on this host now. A unit that is stopped is not among
    them: it starts with what is there."""
    found = []
    for unit, files in configuration.files.items():
        path = STAMPS / unit
        started_with = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if started_with != digests(files) and is_active(unit):
            found.append(unit)
    return found


def stopped(configuration: Configuration) -> list[str]:
    """Units that do not run, and are not about to."""
    return [unit for unit in configuration.files if not is_active(unit)]


def orphans(configuration: Configuration, units: Path = UNITS) -> list[str]:
    """Units of sidekiq processes that the settings name no more."""
    present = {path.stem for path in units.glob("mastodon-sidekiq-*.service")}
    return sorted(present - configuration.files.keys())


def is_active(unit: str) -> bool:
    return run("systemctl", "is-active", unit).stdout.strip() in ("active", "activating", "reloading")


@dataclass(frozen=True)
class Unit:
    """What systemd says of a unit. `up`: seconds since it became active. `restarts`: how often systemd itself
    restarted it since it was last started by somebody."""

    exists: bool
    active: str
    sub: str
    result: str
    restarts: int
    up: float

    @property
    def trouble(self) -> str | None:
        """None where it runs and can be expected to go on, else what is wrong.

        The more often systemd had to restart it, the longer it has to run until that is believed.
        """
        if self.active not in ("active", "reloading"):
            often = f", restarted {self.restarts} times" if self.restarts else ""
            last = f", last result: {self.result}" if self.result not in ("", "success") else ""
            return f"is {self.active} ({self.sub}){often}{last}"
        if self.up < min(5 * self.restarts, 60):
            return f"runs for {self.up:.0f} s only, restarted {self.restarts} times"
        return None


def look(units: list[str]) -> dict[str, Unit]:
    names = [unit if "." in unit else f"{unit}.service" for unit in units]
    answer = run(
        "systemctl",
        "show",
        "--property=LoadState,ActiveState,SubState,Result,NRestarts,ActiveEnterTimestampMonotonic",
        "--",
        *names,
    )
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines())
        for block in answer.stdout.strip().split("\n\n")
    ]
    if answer.returncode or len(blocks) != len(units):
        raise NotSo(f"systemctl show: {(answer.stderr or answer.stdout).strip()}")
    return {
        unit: Unit(
            exists=block["LoadState"] != "not-found",
            active=block["ActiveState"],
            sub=block["SubState"],
            result=block.get("Result", ""),
            restarts=int(block.get("NRestarts", 0)),
            up=time.monotonic() - int(block["ActiveEnterTimestampMonotonic"]) / 1e6,
        )
        for unit, block in zip(units, blocks, strict=True)
    }


def journal_end(unit: str) -> str:
    return run("journalctl", "--no-pager", "--lines=25", "--output=cat", f"--unit={unit}").stdout.strip()


def signal_nginx(configuration: Configuration, signal: str) -> None:
    """Tells nginx (`reload`, `reopen`), wherever it runs now: the settings may have moved it already.

    Raises NotSo with what it finds wrong in its settings.
    """
    argv = ["nginx", "-s", signal]
    if run("docker", "container", "inspect", "nginx").returncode == 0:
        argv = ["docker", "exec", "nginx", "nginx", "-c", configuration.nginx_in_container, "-s", signal]
    answer = run(*argv)
    if answer.returncode:
        raise NotSo((answer.stderr or answer.stdout).strip())


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False)


# Health


def ask(url: str, timeout: float = 3.0) -> str | None:
    """None where `url` answers 200, else what is wrong. No proxy is asked, whatever the environment says."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        return f"answers {error.code} {error.read(200).decode(errors='replace').strip()}".rstrip()
    except OSError as error:
        return str(getattr(error, "reason", error))
    return None


def trouble(configuration: Configuration, container: str) -> str | None:
    """None where `container` does its work, else what is wrong."""
    url = configuration.urls.get(container)
    if url:
        problem = ask(url)
        return f"{url} {problem}" if problem else None
    answer = run("docker", "container", "inspect", "--format", "{{.State.Health.Status}}", container)
    status = answer.stdout.strip() or answer.stderr.strip()
    return None if status == "healthy" else status


def starting(configuration: Configuration, container: str) -> str | None:
    """As `trouble`, for the unit that starts it. Raises NotSo where its process is gone already."""
    problem = trouble(configuration, container)
    process = os.environ.get("MAINPID", "")
    if problem and process and not Path("/proc", process).exists():
        raise NotSo(f"{container} ended while it started")
    return problem


def page_trouble(page: Page) -> str | None:
    """None where a visitor gets a page of Mastodon from this host, else what is wrong.

    The page is one that no cache has: it is made for this question, from the database and from Redis.
    """
    path = f"/?mastodon-worker={time.time_ns()}"
    try:
        for _ in range(3):
            with contextlib.closing(_Connection(page)) as connection:
                connection.request("GET", path, headers={"Host": page.host, "X-Forwarded-Proto": "https"})
                answer = connection.getresponse()
                answer.read()
            to = urllib.parse.urlsplit(answer.headers.get("Location", ""))
            if to.hostname not in (None, page.host) or not to.path:
                break
            path = to.path
        problem = f"answers {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        problem = str(error) or type(error).__name__
    else:
        if answer.status == 200:
            return None
    return f"a page of {page.host}, asked for at port {page.port}: {problem}"


class _Connection(http.client.HTTPConnection):
    """To nginx on this host, as the load balancer comes. Its certificate is not judged: who issued it, and
    whether Cloudflare shows another one to visitors, is not known here."""

    def __init__(self, page: Page) -> None:
        super().__init__("127.0.0.1", page.port, timeout=PAGE_LIMIT)
        self.page = page

    def connect(self) -> None:
        super().connect()
        if self.page.proxy_protocol:
            self.sock.sendall(f"PROXY TCP4 127.0.0.1 127.0.0.1 1 {self.page.port}\r\n".encode())
        if self.page.tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock, server_hostname=self.page.host)


def sick(configuration: Configuration, units: dict[str, Unit] | None = None) -> dict[str, str]:
    """What does not do its work here, drained or not: unit -> what is wrong. `units`: just seen so."""
    units = units or look([*configuration.files, *configuration.needed])
    found = {
        name: problem
        for name, unit in units.items()
        if (unit.exists or name in configuration.files) and (problem := unit.trouble)
    }
    for container in (*configuration.urls, *configuration.sidekiq):
        if container not in found and (problem := trouble(configuration, container)):
            found[container] = problem
    if "nginx" not in found and "mastodon-web" not in found:
        problem = in_rotation(configuration)
        if problem and not problem.endswith("503 draining"):
            found["nginx"] = problem
        elif problem := page_trouble(configuration.page):
            found["mastodon-web"] = problem
    return found


def in_rotation(configuration: Configuration) -> str | None:
    """None where the load balancer may send, else what is wrong."""
    problem = ask(configuration.health)
    return f"{configuration.health} {problem}" if problem else None


def await_health(configuration: Configuration, *, count: int, limit: float) -> None:
    """Until everything here was found well `count` times in a row.

    Raises NotSo, with everything that is not well and the end of its journal, after `limit` seconds, and as
    soon as a unit is seen to be restarted again and again.
    """
    names = [*configuration.files, *configuration.needed]
    end = time.monotonic() + limit
    first: dict[str, Unit] = {}
    good = 0
    while True:
        units = look(names)
        first = first or units
        problems = sick(configuration, units)
        good = 0 if problems else good + 1
        if good >= count:
            return
        again = [name for name in problems if units[name].restarts - first[name].restarts >= RESTARTS]
        if again or time.monotonic() > end:
            why = f"{', '.join(again)} restarted again and again" if again else f"after {limit:g} s"
            raise NotSo("\n".join([why, *(_diagnosis(*problem) for problem in sorted(problems.items()))]))
        time.sleep(1)


def _diagnosis(unit: str, problem: str) -> str:
    return f"\n{unit}: {problem}\nThe journal of {unit} ends with:\n{journal_end(unit)}"


def wait(check: Callable[[], str | None], *, count: int, interval: float, limit: float) -> None:
    """Until `check` finds no trouble `count` times in a row. Raises NotSo after `limit` seconds."""
    end = time.monotonic() + limit
    good = 0
    while True:
        problem = check()
        good = 0 if problem else good + 1
        if good >= count:
            return
        if time.monotonic() > end:
            raise NotSo(f"after {limit:g} s: {problem or f'well {good} times in a row, not {count}'}")
        time.sleep(interval)


# Rotation


@dataclass
class Tail:
    """Lines that are added to a log from now on; follows it when it is rotated."""

    path: Path
    _inode: int = 0
    _offset: int = 0

    def __post_init__(self) -> None:
        if self.path.exists():
            status = self.path.stat()
            self._inode, self._offset = status.st_ino, status.st_size

    def lines(self) -> list[str]:
        try:
            with self.path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                if inode != self._inode:
                    self._inode, self._offset = inode, 0
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data.rfind(b"\n") + 1
        self._offset += whole
        return data[:whole].decode(errors="replace").splitlines()


@dataclass
class Probes:
    """What the load balancer was answered: per address that asked, how often `status` in a row."""

    status: str
    in_row: dict[str, int] = field(default_factory=dict)

    def add(self, lines: list[str]) -> None:
        for line in lines:
            address, status, *_ = line.split()
            self.in_row[address] = self.in_row.get(address, 0) + 1 if status == self.status else 0

    def enough(self, count: int) -> bool:
        return count == 0 or (bool(self.in_row) and min(self.in_row.values()) >= count)


def await_probes(configuration: Configuration, status: str, *, count: int, limit: float, tail: Tail) -> None:
    """Until every address that asks was answered `status` `count` times in a row."""
    probes = Probes(status)
    end = time.monotonic() + limit
    while not probes.enough(count):
        if time.monotonic() > end:
            seen = ", ".join(f"{a} {n} times" for a, n in probes.in_row.items()) or "nobody asked"
            raise NotSo(
                f"after {limit:g} s no load balancer has been told {status} {count} times in a row ({seen}). "
                f"Look at {configuration.health_log} and at the load balancer's health check."
            )
        time.sleep(0.5)
        probes.add(tail.lines())


def connections() -> set[str]:
    """Connections of visitors (peer address and port) that are open now."""
    answer = run(
        "ss", "--no-header", "--numeric", "--tcp", "state", "connected", "( sport = :443 or sport = :80 )"
    )
    if answer.returncode:
        raise NotSo(f"ss: {answer.stderr.strip()}")
    return {line.split()[-1] for line in answer.stdout.splitlines() if not line.startswith("LISTEN")}


def requests(lines: list[str]) -> Iterator[bool]:
    """For each request in the log: whether it was the first of its connection."""
    for line in lines:
        yield line.rsplit(" ", 1)[-1] == "1"


def drain(configuration: Configuration, *, reason: str, probes: int, quiet: float, limit: float) -> None:
    """Out of rotation, seen: the load balancer was told, no new connection comes, no request either.

    Open WebSockets stay until the processes stop. Raises NotSo after `limit` seconds; the flag stays, since
    a worker that shall go must not get new visitors.
    """
    end = time.monotonic() + limit
    asked = Tail(configuration.health_log)
    configuration.flag.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    configuration.flag.write_text(f"{reason}\n", encoding="utf-8")
    if in_rotation(configuration) is None:
        raise NotSo(
            f"{configuration.health} still answers 200 with {configuration.flag} in place; reload nginx"
        )
    await_probes(configuration, "503", count=probes, limit=limit, tail=asked)

    log = Tail(configuration.access_log)
    _silence(log, end, quiet, "new connections", lambda lines, opened: bool(opened) or any(requests(lines)))
    # Connections that visitors keep open would bring requests for ever; a reload says good-bye on each.
    reload = run("systemctl", "reload", "nginx.service")
    if reload.returncode:
        raise NotSo(f"systemctl reload nginx: {reload.stderr.strip()}")
    _silence(log, end, quiet, "requests", lambda lines, _: bool(lines))


def _silence(
    log: Tail, end: float, quiet: float, what: str, noisy: Callable[[list[str], set[str]], bool]
) -> None:
    """Until nothing `noisy` happened for `quiet` seconds."""
    before = connections()
    since = time.monotonic()
    while (now := time.monotonic()) - since < quiet:
        if now > end:
            raise NotSo(f"{what} still come in. Look at {log.path}: who sends them?")
        time.sleep(0.5)
        after = connections()
        if noisy(log.lines(), after - before):
            since = time.monotonic()
        before = after


def admit(configuration: Configuration, *, probes: int, limit: float) -> None:
    """Back in rotation, seen: every address that asks for its health has been told 200."""
    asked = Tail(configuration.health_log)
    configuration.flag.unlink(missing_ok=True)
    wait(lambda: in_rotation(configuration), count=1, interval=0.5, limit=limit)
    await_probes(configuration, "200", count=probes, limit=limit, tail=asked)


# Jobs

_TITLE = re.compile(r"^\s*\d+\s+sidekiq \d\S* .*\[(\d+) of \d+ busy\](.*)", re.MULTILINE)


def title(container: str) -> re.Match[str] | None:
    """What sidekiq says of itself, in the title of its process: jobs that run, and its mood."""
    return _TITLE.search(run("docker", "container", "top", container, "-o", "pid,args").stdout)


def is_quiet(container: str) -> bool:
    said = title(container)
    return said is not None and "stopping" in said.group(2)


def jobs(container: str) -> str | None:
    """None where sidekiq is quiet and idle, else what it does."""
    said = title(container)
    if said is None:
        return f"{container}: no sidekiq in it" if is_active(container) else None
    if "stopping" not in said.group(2):
        return f"{container}: still takes jobs"
    return f"{container}: {said.group(1)} jobs still run" if said.group(1) != "0" else None


def quieten(configuration: Configuration, *, limit: float) -> None:
    """No sidekiq here takes new jobs, and those that ran have ended. Only a restart undoes it.

    Raises NotSo after `limit` seconds; a job that is cut off then runs again elsewhere.
    """
    for container in configuration.sidekiq:
        wait(lambda name=container: _quieten(name), count=1, interval=1, limit=limit)  # type: ignore[misc]


def _quieten(container: str) -> str | None:
    """Says it again as long as it takes jobs: one that was just restarted has not heard it."""
    said = title(container)
    if said is not None and "stopping" not in said.group(2):
        run("docker", "container", "kill", "--signal", "TSTP", container)
    return jobs(container)


def start(configuration: Configuration) -> list[str]:
    """Starts what does not run, and what waits for its next restart at once. Returns the units."""
    units = stopped(configuration)
    if units:
        run("systemctl", "start", "--no-block", *units)
    return units


def restart(configuration: Configuration) -> list[str]:
    """Restarts what runs with old settings or was quieted, starts what does not run. Returns the units.

    Whether they work then is for `await_health` to say.
    """
    run("systemctl", "daemon-reload")
    units = outdated(configuration)
    if "docker" in units:
        # The engine stops and starts everything that needs it.
        run("systemctl", "restart", "docker")
        units = ["docker"]
    else:
        units += [name for name in configuration.sidekiq if name not in units and is_quiet(name)]
    rest = [unit for unit in units if unit != "docker"] + stopped(configuration)
    if rest:
        run("systemctl", "restart", *rest)
    return sorted({*units, *rest})


def state(configuration: Configuration) -> dict[str, Any]:
    flag = configuration.flag
    return {
        "outdated": outdated(configuration),
        "stopped": stopped(configuration),
        "orphans": orphans(configuration),
        "quiet": [name for name in configuration.sidekiq if is_quiet(name)],
        "draining": flag.read_text(encoding="utf-8").strip() or "unknown" if flag.exists() else "",
    }


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mastodon-worker", description=(__doc__ or "").split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser(
        "state",
        help="print (JSON) what runs with old settings, what is stopped, quiet, in excess; why it drains",
    )
    for name, text in (
        ("prepare", "before the start of a unit: note what it starts with"),
        ("clean", "after its end: remove what it left behind"),
    ):
        verbs.add_parser(name, help=text).add_argument("unit")
    code = verbs.add_parser("code", help="before the start of a unit: copy the compiled code of its image")
    code.add_argument("image")
    code.add_argument("source", help="directory in the image")
    code.add_argument("target", type=Path, help="directory on this host")
    ready = verbs.add_parser("ready", help="wait until a container does its work")
    ready.add_argument("unit")
    nginx = verbs.add_parser("nginx", help="tell nginx to take its new settings, or to reopen its logs")
    nginx.add_argument("signal", choices=["reload", "reopen"])
    begin = verbs.add_parser("start", help="start what does not run, and see that everything works")
    again = verbs.add_parser("restart", help="restart what runs with old settings or was quieted")
    healthy = verbs.add_parser("healthy", help="wait until everything here does its work")
    for verb in (begin, again, healthy):
        verb.add_argument("--count", type=int, default=3, help="healthy this often in a row")
    out = verbs.add_parser("drain", help="take this worker out of the load balancer's rotation")
    out.add_argument("--reason", default="admin", help="who wants it")
    out.add_argument("--quiet", type=float, default=3.0, help="seconds without a request")
    back = verbs.add_parser("admit", help="put it back")
    for verb in (out, back):
        verb.add_argument("--probes", type=int, default=3, help="answers to the load balancer in a row")
    quiet = verbs.add_parser("quiet", help="let sidekiq finish its jobs and take no more")
    for verb in (ready, begin, again, healthy, out, back, quiet):
        verb.add_argument("--limit", type=float, default=180.0, help="seconds to wait at most")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        configuration = Configuration.load()
        match options.verb:
            case "state":
                print(json.dumps(state(configuration)))
            case "prepare":
                prepare(configuration, options.unit)
            case "clean":
                clean(options.unit)
            case "nginx":
                signal_nginx(configuration, options.signal)
            case "ready":
                wait(lambda: starting(configuration, options.unit), count=1, interval=1, limit=options.limit)
            case "code":
                copy_code(options.image, options.source, options.target)
            case "start":
                if units := start(configuration):
                    print(" ".join(units))
                # What runs with old settings is judged after its restart.
                if not outdated(configuration):
                    count = options.count if units else 1
                    await_health(configuration, count=count, limit=options.limit)
            case "restart" | "healthy":
                if options.verb == "restart" and (units := restart(configuration)):
                    print(" ".join(units))
                await_health(configuration, count=options.count, limit=options.limit)
            case "drain":
                drain(
                    configuration,
                    reason=options.reason,
                    probes=options.probes,
                    quiet=options.quiet,
                    limit=options.limit,
                )
            case "admit":
                admit(configuration, probes=options.probes, limit=options.limit)
            case "quiet":
                quieten(configuration, limit=options.limit)
    except (NotSo, OSError, ValueError) as error:
        print(f"mastodon-worker {options.verb}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
