"""The fixed parts of a lab: which containers they are, what they run, how one sees that they are well.

Only text here; `lab.runtime` starts them. Settings that hold a secret are files below `Lab.state`, mounted
read-only; nothing secret stands on a command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from lab.config import REPOSITORY, Lab

INSTANCE = "vmst"
"""Tag prefix of the lab's instance, and what its resources' names start with."""
DOMAIN = "social.test"

_LAB = REPOSITORY / "lab"
_PKI = "/pki"
SECRETS = "/secrets"
"""Where a part finds its own secret files."""


@dataclass(frozen=True)
class Part:
    """A container with a fixed address.

    `image` is `services` or `spaces`. `binds` are host path -> path in the container, read-only but for
    those that end in `:rw`; `volume` is where the part keeps its state (a named volume, or nothing).
    `healthy` is a shell command that succeeds while the part serves. `names` are more DNS names than
    PART.lab.internal. `sources` are the files whose change asks for a new container.
    """

    name: str
    command: tuple[str, ...]
    healthy: str
    image: str = "services"
    binds: Mapping[str, str] = field(default_factory=dict)
    volume: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    private: bool = False
    """On the private network, too (at the same host number)."""
    sources: tuple[Path, ...] = ()


def _https(path: str = "/_lab/health", port: int = 443) -> str:
    # -k: the container's own address is not in its certificate as 127.0.0.1
    return f"curl -fsSk -m 5 -o /dev/null https://127.0.0.1:{port}{path}"


def _shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


def sources(*patterns: str) -> tuple[Path, ...]:
    return tuple(sorted(path for pattern in patterns for path in _LAB.glob(pattern) if path.is_file()))


_EMULATOR_SOURCES = sources("emulators/*.py", "config.py", "cloud.py")


def certificate_names(lab: Lab) -> dict[str, tuple[list[str], list[str]]]:
    """Part -> DNS names and addresses of its certificate."""
    found = {
        name: ([lab.host(name)], [lab.address(name)])
        for name in ("digitalocean", "cloudflare", "sendgrid", "mail", "mirror", "spaces", "influxdb")
    }
    found["digitalocean"][0].append("api.digitalocean.com")
    found["cloudflare"][0].append("api.cloudflare.com")
    found["sendgrid"][0].append("api.sendgrid.com")
    found["spaces"][0].append(f"*.{lab.host('spaces')}")
    return found


def fixed(
    lab: Lab,
    *,
    openapi: Path | None = None,
    mirror: Path | None = None,
    own: Mapping[str, str] = MappingProxyType({}),
) -> list[Part]:
    """The parts in the order in which they start.

    `openapi`: the vendors' API documents, if there are any. `mirror`: directory with `git/`, `gems/` and
    `node/`. `own`: what the mirror serves besides, path below /own/ -> folder of this machine.
    """
    pki = lab.state / "pki"
    secrets = lab.state / "parts"

    def key(name: str) -> dict[str, str]:
        return {
            str(pki / f"{name}.crt"): f"{_PKI}/{name}.crt",
            str(pki / f"{name}.key"): f"{_PKI}/{name}.key",
            str(pki / "ca.crt"): f"{_PKI}/ca.crt",
        }

    code = {str(_LAB): "/opt/lab/lab"}
    documents = {str(openapi): "/openapi"} if openapi else {}

    def emulator(name: str, *more: str) -> tuple[str, ...]:
        return (
            *("python3", "-m", f"lab.emulators.{name}", "--listen", "0.0.0.0:443", "--state", "/data"),
            *("--tls-cert", f"{_PKI}/{name}.crt", "--tls-key", f"{_PKI}/{name}.key"),
            *("--token-file", f"{SECRETS}/{name}.tokens", *more),
        )

    def tokens(name: str) -> dict[str, str]:
        return {str(secrets / f"{name}.tokens"): f"{SECRETS}/{name}.tokens"}

    environment = {"VENDOR_OPENAPI": "/openapi"} if openapi else {}
    subnets = {"LAB_NAME": lab.name, "LAB_PUBLIC": str(lab.public), "LAB_PRIVATE": str(lab.private)}
    return [
        Part(
            "cloudflare",
            emulator("cloudflare", "--zone", DOMAIN),
            _https(),
            binds=code | key("cloudflare") | tokens("cloudflare") | documents,
            volume="/data",
            environment=environment,
            sources=_EMULATOR_SOURCES + sources("emulators/cloudflare/*.py"),
        ),
        Part(
            "sendgrid",
            emulator("sendgrid", "--dns", lab.address("dns")),
            _https(),
            binds=code | key("sendgrid") | tokens("sendgrid") | documents,
            volume="/data",
            environment=environment,
            sources=_EMULATOR_SOURCES,
        ),
        Part(
            "digitalocean",
            emulator("digitalocean"),
            _https(),
            binds={
                **code,
                str(pki): f"{_PKI}",
                **tokens("digitalocean"),
                **documents,
                "/var/run/docker.sock": "/var/run/docker.sock:rw",
            },
            volume="/data",
            environment=environment | subnets,
            sources=_EMULATOR_SOURCES
            + sources(
                "emulators/digitalocean/*.py",
                "docker_cloud.py",
                "haproxy.py",
                "managed_databases.py",
                "engine.py",
                "pki.py",
            ),
        ),
        Part(
            "dns",
            (
                *("python3", "-m", "lab.dns", "--cloudflare", f"https://{lab.address('cloudflare')}"),
                *("--ca", f"{_PKI}/ca.crt"),
            ),
            'python3 -c "from dnslib import DNSRecord;'
            " DNSRecord.question('social.test', 'SOA').send('127.0.0.1', 53, timeout=3)\"",
            binds=code | {str(pki / "ca.crt"): f"{_PKI}/ca.crt"},
            private=True,
            sources=sources("dns.py"),
        ),
        Part(
            "mail",
            (
                *("python3", "-m", "lab.mail", "--state", "/data", "--password-file", f"{SECRETS}/smtp"),
                *("--tls-cert", f"{_PKI}/mail.crt", "--tls-key", f"{_PKI}/mail.key"),
                *("--sendgrid", f"https://{lab.address('sendgrid')}", "--ca", f"{_PKI}/ca.crt"),
            ),
            _https(),
            binds=code | key("mail") | {str(secrets / "smtp"): f"{SECRETS}/smtp"},
            volume="/data",
            sources=sources("mail.py"),
        ),
        Part(
            "registry",
            ("docker-registry", "serve", "/etc/lab/registry.yml"),
            "curl -fsS -m 5 -o /dev/null http://127.0.0.1:5000/v2/",
            binds={
                str(_LAB / "services/mirror/registry.yml"): "/etc/lab/registry.yml",
                # Blobs are named by their content, so that labs may share them.
                str(lab.cache / "registry"): "/data:rw",
            },
            sources=sources("services/mirror/registry.yml"),
        ),
        Part(
            "apt",
            _shell(
                "chown apt-cacher-ng:apt-cacher-ng /data && mkdir -p /run/apt-cacher-ng"
                " && chown apt-cacher-ng /run/apt-cacher-ng"
                " && exec setpriv --reuid=apt-cacher-ng --regid=apt-cacher-ng --init-groups"
                " apt-cacher-ng ForeGround=1 CacheDir=/data LogDir=/tmp SocketPath= Port=3142"
                # Its defaults give up after 4 s, and remember a failed look-up for half an hour.
                " FastTimeout=30 DnsCacheSeconds=5"
                " 'PassThroughPattern=.*' -c /etc/apt-cacher-ng"
            ),
            "curl -fsS -m 5 -o /dev/null http://127.0.0.1:3142/acng-report.html",
            binds={str(lab.cache / f"apt-{lab.name}"): "/data:rw"},
        ),
        Part(
            "mirror",
            _shell(
                "spawn-fcgi -s /run/fcgiwrap.sock -M 0666 -- /usr/sbin/fcgiwrap -f >/dev/null"
                " && git config --system safe.directory '*'"
                " && exec nginx -c /etc/lab/nginx.conf -g 'daemon off;'"
            ),
            _https(),
            binds={
                **key("mirror"),
                str(_LAB / "services/mirror/nginx.conf"): "/etc/lab/nginx.conf",
                # The parent: its directories are replaced as a whole when they are built anew.
                **({str(mirror): "/srv/mirror"} if mirror else {}),
                **{folder: f"/srv/own/{path}" for path, folder in own.items()},
            },
            sources=sources("services/mirror/nginx.conf"),
        ),
        Part(
            "spaces",
            _shell(f". {SECRETS}/spaces.env && exec versitygw posix /data"),
            _https("/_lab/health"),
            image="spaces",
            binds=key("spaces") | {str(secrets / "spaces.env"): f"{SECRETS}/spaces.env"},
            volume="/data",
            environment={
                "VGW_PORT": ":443",
                "VGW_CERT": f"{_PKI}/spaces.crt",
                "VGW_KEY": f"{_PKI}/spaces.key",
                "VGW_REGION": "ams3",
                # The web interface, another origin, fetches media: an admin sets it for the bucket.
                "VGW_CORS_ALLOW_ORIGIN": "*",
                "VGW_HEALTH": "/_lab/health",
                "VGW_VIRTUAL_DOMAIN": lab.host("spaces"),
            },
            names=(f"media.{lab.host('spaces')}",),
        ),
        Part(
            "influxdb",
            _shell(
                f"chown influxdb /data && install -o influxdb -m 0600 {_PKI}/influxdb.key /run/influxdb.key"
                " && exec setpriv --reuid=influxdb --regid=nogroup --init-groups influxd"
            ),
            _https("/ping", 8086),
            binds=key("influxdb"),
            volume="/data",
            environment={
                "INFLUXDB_DATA_DIR": "/data/data",
                "INFLUXDB_DATA_WAL_DIR": "/data/wal",
                "INFLUXDB_META_DIR": "/data/meta",
                "INFLUXDB_DATA_QUERY_LOG_ENABLED": "false",
                "INFLUXDB_REPORTING_DISABLED": "true",
                "INFLUXDB_MONITOR_STORE_ENABLED": "false",
                "INFLUXDB_HTTP_HTTPS_ENABLED": "true",
                "INFLUXDB_HTTP_HTTPS_CERTIFICATE": f"{_PKI}/influxdb.crt",
                "INFLUXDB_HTTP_HTTPS_PRIVATE_KEY": "/run/influxdb.key",
                "INFLUXDB_HTTP_AUTH_ENABLED": "true",
                "INFLUXDB_HTTP_PING_AUTH_ENABLED": "false",
                "INFLUXDB_HTTP_LOG_ENABLED": "false",
            },
        ),
    ]
