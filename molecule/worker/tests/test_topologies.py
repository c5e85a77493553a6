"""Who asks, and how: what the application is told of it in every topology, honest and forged.

For each topology the role's template is rendered, and an nginx of its own runs on the worker with it. It is
asked over loopback, where every party has an address of its own. What is expected was reasoned from the
topology, as the comments say.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.config import REPOSITORY, Lab
from tests.application import application, told, until_it_listens

BALANCER, CLOUDFLARE, VISITOR, STRANGER = "127.0.1.1", "127.0.2.1", "127.0.3.1", "127.0.4.1"
"""STRANGER is a visitor who comes another way than the instance's DNS records say."""
RANGES = {"load_balancer": "127.0.1.0/24", "cloudflare": "127.0.2.0/24"}
FORGED = "192.0.2.66"
"""An address that nobody has here: wherever it is told, a lie was believed."""
APPLICATION = 3999


@dataclass(frozen=True)
class Topology:
    tls_terminates_at: str
    proxy_protocol: bool
    cloudflare_proxied: bool
    port: int
    """nginx's plain port; the one with TLS is the next."""

    @property
    def name(self) -> str:
        parts = [f"tls-at-{self.tls_terminates_at.replace('_', '-')}"]
        parts += ["proxy-protocol"] if self.proxy_protocol else []
        parts += ["cloudflare"] if self.cloudflare_proxied else []
        return "+".join(parts)


TOPOLOGIES = {
    settings: Topology(*settings, port=8200 + 10 * number)
    for number, settings in enumerate(
        itertools.product(("worker", "load_balancer"), (True, False), (True, False))
    )
}


@dataclass(frozen=True)
class Request:
    """What reaches the worker, and what shall come of it.

    `source`: where the connection comes from; `proxy`: the address that a PROXY header before all else names;
    `headers`: lines. `address`: whom the application and the log are told of; None where the connection must
    come to nothing. `secure`: whether the visitor came by https; who did not is sent there.
    """

    what: str
    source: str
    proxy: str | None
    headers: tuple[str, ...]
    address: str | None
    secure: bool = True


LIES = (
    f"X-Forwarded-For: {FORGED}",
    f"X-Real-IP: {FORGED}",
    f"CF-Connecting-IP: {FORGED}",
    f"Forwarded: for={FORGED};proto=http",
)
"""What a visitor may claim."""
HTTP, HTTPS = "X-Forwarded-Proto: http", "X-Forwarded-Proto: https"


def forwarded(*addresses: str) -> str:
    return f"X-Forwarded-For: {', '.join(addresses)}"


def by_cloudflare(visitor: str, *claimed: str) -> tuple[str, ...]:
    """What Cloudflare sends: it adds to X-Forwarded-For, and replaces what others say in its own header."""
    return (forwarded(*claimed, visitor), f"CF-Connecting-IP: {visitor}", HTTPS)


def straight_to_the_worker(cloudflare: bool) -> list[Request]:
    """TLS ends here, and the load balancer's PROXY header says who is at the other end of its connection.
    nginx insists on that header, from everybody."""
    common = [
        Request("visitor", BALANCER, VISITOR, (), VISITOR),
        Request("visitor with lies", BALANCER, VISITOR, (*LIES, HTTP), VISITOR),
        # Its PROXY header is read, but only the load balancer's counts.
        Request("stranger with lies past the load balancer", STRANGER, FORGED, (*LIES, HTTP), STRANGER),
        Request("stranger without a PROXY header", STRANGER, None, (), None),
        Request("visitor where the load balancer says nothing", BALANCER, None, (), None),
    ]
    if not cloudflare:
        # Somebody else's proxy at Cloudflare, as far as this instance knows.
        return [
            *common,
            Request("Cloudflare, unexpected", BALANCER, CLOUDFLARE, by_cloudflare(FORGED), CLOUDFLARE),
        ]
    return [
        *common,
        Request("visitor through Cloudflare", BALANCER, CLOUDFLARE, by_cloudflare(VISITOR), VISITOR),
        Request(
            "visitor with lies through Cloudflare",
            BALANCER,
            CLOUDFLARE,
            (*by_cloudflare(VISITOR, FORGED), f"X-Real-IP: {FORGED}"),
            VISITOR,
        ),
        Request("visitor with IPv6", BALANCER, CLOUDFLARE, by_cloudflare("2001:db8::7"), "2001:db8::7"),
        Request("no address from Cloudflare", BALANCER, CLOUDFLARE, ('CF-Connecting-IP: x" y',), CLOUDFLARE),
        Request("stranger past Cloudflare", BALANCER, STRANGER, (*LIES, HTTP), STRANGER),
        Request("stranger as Cloudflare", STRANGER, CLOUDFLARE, by_cloudflare(FORGED), STRANGER),
    ]


def straight_to_the_worker_unsaid(cloudflare: bool) -> list[Request]:
    """TLS ends here, and the load balancer passes bytes on: all who come through it have its address."""
    common = [
        Request("visitor", BALANCER, None, (), BALANCER),
        Request("visitor with lies", BALANCER, None, (*LIES, HTTP), BALANCER),
        Request("stranger with lies past the load balancer", STRANGER, None, (*LIES, HTTP), STRANGER),
        Request("stranger with a PROXY header", STRANGER, FORGED, (), None),
        Request("PROXY header through the load balancer", BALANCER, FORGED, (), None),
        # Whether it was Cloudflare that connected to the load balancer, nobody can know.
        Request("visitor through Cloudflare", BALANCER, None, by_cloudflare(FORGED), BALANCER),
    ]
    if not cloudflare:
        return [
            *common,
            Request("Cloudflare, unexpected", CLOUDFLARE, None, by_cloudflare(FORGED), CLOUDFLARE),
        ]
    return [
        *common,
        Request("visitor, Cloudflare alone in between", CLOUDFLARE, None, by_cloudflare(VISITOR), VISITOR),
        Request(
            "visitor with lies, Cloudflare alone in between",
            CLOUDFLARE,
            None,
            by_cloudflare(VISITOR, FORGED),
            VISITOR,
        ),
        Request("no address from Cloudflare", CLOUDFLARE, None, ('CF-Connecting-IP: x" y',), CLOUDFLARE),
    ]


def over_http(cloudflare: bool) -> list[Request]:
    """TLS ends at the load balancer, which adds whom it sees to X-Forwarded-For and tells the scheme in
    X-Forwarded-Proto. From anybody else neither counts, and a plain connection is what it is."""
    common = [
        Request("visitor", BALANCER, None, (forwarded(VISITOR), HTTPS), VISITOR),
        Request("visitor by http", BALANCER, None, (forwarded(VISITOR), HTTP), VISITOR, secure=False),
        Request(
            "visitor with lies",
            BALANCER,
            None,
            (*LIES[1:], forwarded(FORGED, VISITOR), HTTPS),
            VISITOR,
        ),
        Request(
            "visitor with lies, in a header of its own",
            BALANCER,
            None,
            (*LIES, forwarded(VISITOR), HTTPS),
            VISITOR,
        ),
        Request("stranger", STRANGER, None, (), STRANGER, secure=False),
        Request("stranger with lies", STRANGER, None, (*LIES, HTTPS), STRANGER, secure=False),
        Request("stranger with a PROXY header", STRANGER, FORGED, (forwarded(FORGED), HTTPS), None),
    ]
    if not cloudflare:
        return [
            *common,
            Request(
                "Cloudflare, unexpected",
                BALANCER,
                None,
                (forwarded(FORGED, CLOUDFLARE), f"CF-Connecting-IP: {FORGED}", HTTPS),
                CLOUDFLARE,
            ),
        ]
    return [
        *common,
        Request(
            "visitor through Cloudflare",
            BALANCER,
            None,
            (forwarded(VISITOR, CLOUDFLARE), f"CF-Connecting-IP: {VISITOR}", HTTPS),
            VISITOR,
        ),
        Request(
            "visitor with lies through Cloudflare",
            BALANCER,
            None,
            (forwarded(FORGED, VISITOR, CLOUDFLARE), f"CF-Connecting-IP: {VISITOR}", HTTPS),
            VISITOR,
        ),
        # It claims to come from Cloudflare; the load balancer saw who it is.
        Request(
            "stranger past Cloudflare",
            BALANCER,
            None,
            (forwarded(CLOUDFLARE, STRANGER), f"CF-Connecting-IP: {FORGED}", HTTPS),
            STRANGER,
        ),
        Request(
            "stranger as Cloudflare",
            STRANGER,
            None,
            (forwarded(CLOUDFLARE), f"CF-Connecting-IP: {FORGED}", HTTPS),
            STRANGER,
            secure=False,
        ),
    ]


def over_http_with_proxy_protocol(cloudflare: bool) -> list[Request]:
    """TLS ends at the load balancer, which names whom it sees in a PROXY header and tells the scheme in
    X-Forwarded-Proto. X-Forwarded-For says nothing here."""
    common = [
        Request("visitor", BALANCER, VISITOR, (HTTPS,), VISITOR),
        Request("visitor by http", BALANCER, VISITOR, (HTTP,), VISITOR, secure=False),
        Request("visitor with lies", BALANCER, VISITOR, (*LIES, HTTPS), VISITOR),
        Request("stranger with lies", STRANGER, FORGED, (*LIES, HTTPS), STRANGER, secure=False),
        Request("stranger without a PROXY header", STRANGER, None, (*LIES, HTTPS), None),
    ]
    if not cloudflare:
        return [
            *common,
            Request("Cloudflare, unexpected", BALANCER, CLOUDFLARE, by_cloudflare(FORGED), CLOUDFLARE),
        ]
    return [
        *common,
        Request("visitor through Cloudflare", BALANCER, CLOUDFLARE, by_cloudflare(VISITOR), VISITOR),
        Request(
            "visitor with lies through Cloudflare",
            BALANCER,
            CLOUDFLARE,
            (*by_cloudflare(VISITOR, FORGED), f"X-Real-IP: {FORGED}"),
            VISITOR,
        ),
        Request("stranger past Cloudflare", BALANCER, STRANGER, (*LIES, HTTPS), STRANGER),
        Request(
            "stranger as Cloudflare", STRANGER, CLOUDFLARE, by_cloudflare(FORGED), STRANGER, secure=False
        ),
    ]


REQUESTS = {
    ("worker", True): straight_to_the_worker,
    ("worker", False): straight_to_the_worker_unsaid,
    ("load_balancer", True): over_http_with_proxy_protocol,
    ("load_balancer", False): over_http,
}
CASES = [
    (topology, request)
    for (end, proxy, cloudflare), topology in TOPOLOGIES.items()
    for request in REQUESTS[end, proxy](cloudflare)
]

CLIENT = """
import json, socket, ssl, sys
def ask(host, number, port, tls, source, proxy, headers):
    raw = socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0))
    if proxy:
        raw.sendall(f"PROXY TCP4 {proxy} 127.0.0.1 40000 {port}\\r\\n".encode())
    opened = ssl.create_default_context().wrap_socket(raw, server_hostname=host) if tls else raw
    lines = [f"GET /{number} HTTP/1.1", f"Host: {host}", *headers, "Connection: close", "", ""]
    opened.sendall("\\r\\n".join(lines).encode())
    answer = b"".join(iter(lambda: opened.recv(65536), b"")).decode()
    head, _, body = answer.partition("\\r\\n\\r\\n")
    return {"status": int(head.split()[1]), "head": head, "body": body} if head else {}
answers = []
for number, request in enumerate(json.loads(sys.argv[2])):
    try:
        answers.append(ask(sys.argv[1], number, *request))
    except OSError as error:
        answers.append({"error": str(error)})
print(json.dumps(answers))
"""


@dataclass(frozen=True)
class Outcome:
    """`status` is None where there was no answer. `logged`: the address in nginx's log."""

    status: int | None
    head: str
    body: str
    logged: str | None


@pytest.fixture(name="outcomes", scope="module")
def _outcomes(host: Any, lab: Lab, variables: dict[str, Any]) -> Iterator[list[Outcome]]:
    """What came of each of CASES."""
    render(lab)
    units = {f"test-nginx-{topology.port}": topology for topology in TOPOLOGIES.values()}
    try:
        with application(host, APPLICATION):
            started = host.run(" && ".join(starts(unit, topology) for unit, topology in units.items()))
            assert started.rc == 0, started.stderr
            until_it_listens(host, *(topology.port for topology in TOPOLOGIES.values()))
            yield ask_everything(host, variables["mastodon_local_domain"])
    finally:
        host.run(f"systemctl stop {' '.join(units)}; rm -rf /srv/topologies")


def render(lab: Lab) -> None:
    settings = {
        "topologies": [{"name": topology.name, **vars(topology)} for topology in TOPOLOGIES.values()],
        "application": f"127.0.0.1:{APPLICATION}",
        **RANGES,
    }
    playbook = Path(__file__).parent.parent / "topologies.yml"
    done = subprocess.run(
        ["ansible-playbook", "-i", lab.state / "inventory", "-e", json.dumps(settings), playbook],
        check=False,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def starts(unit: str, topology: Topology) -> str:
    directory = f"/srv/topologies/{topology.name}"
    nginx = [
        "nginx",
        "-e",
        f"{directory}/log/error.log",
        "-c",
        f"{directory}/nginx.conf",
        "-g",
        "daemon off;",
    ]
    return shlex.join(["systemd-run", f"--unit={unit}", "--collect", *nginx])


def ask_everything(host: Any, domain: str) -> list[Outcome]:
    requests = []
    for topology, request in CASES:
        tls = topology.tls_terminates_at == "worker"
        requests.append([topology.port + tls, tls, request.source, request.proxy, request.headers])
    asked = host.run("python3 -c %s %s %s", CLIENT, domain, json.dumps(requests))
    assert asked.rc == 0, asked.stderr
    lines = host.run("cat /srv/topologies/*/log/access.log").stdout.splitlines()
    logged = {line.split('"GET /')[1].split()[0]: line.split()[0] for line in lines if '"GET /' in line}
    return [
        Outcome(answer.get("status"), answer.get("head", ""), answer.get("body", ""), logged.get(str(number)))
        for number, answer in enumerate(json.loads(asked.stdout))
    ]


@pytest.mark.parametrize(
    "number", range(len(CASES)), ids=[f"{topology.name}: {request.what}" for topology, request in CASES]
)
def test_who_asks(outcomes: list[Outcome], number: int, variables: dict[str, Any]) -> None:
    _, request = CASES[number]
    outcome = outcomes[number]
    assert outcome.logged == request.address
    if request.address is None:
        assert outcome.status in (None, 400)
    elif not request.secure:
        assert outcome.status == 301
        location = f"Location: https://{variables['mastodon_local_domain']}/{number}"
        assert location in outcome.head.splitlines()
    else:
        assert outcome.status == 200
        heard = told(outcome.body)
        assert heard["X-Forwarded-For"] == heard["X-Real-IP"] == request.address
        assert heard["X-Forwarded-Proto"] == "https"


WORKER_ASKS = """
import importlib.machinery, importlib.util, json, sys
loader = importlib.machinery.SourceFileLoader("mastodon_worker", "/usr/local/sbin/mastodon-worker")
worker = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
sys.modules[loader.name] = worker
loader.exec_module(worker)
print(json.dumps([worker.page_trouble(worker.Page(**page)) for page in json.loads(sys.argv[1])]))
"""


@pytest.mark.usefixtures("outcomes")
def test_the_worker_itself_gets_a_page_in_every_topology(host: Any, variables: dict[str, Any]) -> None:
    pages = [
        {
            "host": variables["mastodon_local_domain"],
            "port": topology.port + (topology.tls_terminates_at == "worker"),
            "tls": topology.tls_terminates_at == "worker",
            "proxy_protocol": topology.proxy_protocol,
        }
        for topology in TOPOLOGIES.values()
    ]
    answer = host.run("python3 -B -c %s %s", WORKER_ASKS, json.dumps(pages))
    assert answer.rc == 0, answer.stderr
    assert json.loads(answer.stdout) == [None] * len(TOPOLOGIES)
