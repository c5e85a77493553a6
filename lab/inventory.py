"""The generated inventory: the dynamic source, and the variables that an admin would keep in a vault."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lab.config import Lab
from lab.images import NGINX
from lab.origin import OFFICIAL, STAND_IN, Origin
from lab.parts import DOMAIN, INSTANCE
from lab.pki import Certificate
from lab.provision import POOL, REGION, Provisioned
from lab.secret import write

MASTODON_VERSION = "v4.7.0"
"""The newest version of the stand-in."""
BUCKET = "media"


class _Dumper(yaml.SafeDumper):
    """Certificates and keys as blocks, which a person can read and copy."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def dump(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)


def source(lab: Lab, token: str) -> dict[str, Any]:
    """Settings of the inventory plugin."""
    return {
        "plugin": "vmstio.mastodon.droplets",
        "instance": INSTANCE,
        "api_token": token,
        "endpoint": f"https://{lab.address('digitalocean')}",
        "ca_file": str(lab.ca),
    }


def variables(
    lab: Lab, secrets: Mapping[str, str], made: Provisioned, certificate: Certificate, ssh_key: Path
) -> dict[str, Any]:
    """Variables of every host: addresses, credentials and authorities, by the names the roles know.

    Where Mastodon comes from is not among them (`sources`).
    """
    ca = lab.ca.read_text()
    known_hosts = lab.state / "ssh" / "known_hosts"
    mirror = lab.host("mirror")
    return {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(ssh_key),
        "ansible_ssh_common_args": (
            f"-o UserKnownHostsFile={known_hosts} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
        ),
        "base_ca_certificates": [ca],
        "base_apt_proxy": f"http://{mirror}:3142",
        # Swap and NFS belong to the kernel, which containers share with this machine.
        "base_swap_mib": 0,
        "share_transport": "ssh",
        # As often as this load balancer's health check must fail, or pass (lab/provision.py).
        "worker_drain_probes": 2,
        "mastodon_instance": INSTANCE,
        "mastodon_local_domain": DOMAIN,
        "mastodon_private_network": str(lab.private),
        "mastodon_db_host": made.postgres.host,
        "mastodon_db_port": made.postgres.port,
        "mastodon_db_name": "mastodon",
        "mastodon_db_user": made.postgres.user,
        "mastodon_db_password": made.postgres.password,
        "mastodon_db_pool_port": 25061,
        "mastodon_db_pool_name": POOL,
        "mastodon_db_ca": made.postgres.ca,
        "mastodon_redis_host": made.valkey.host,
        "mastodon_redis_port": made.valkey.port,
        "mastodon_redis_user": made.valkey.user,
        "mastodon_redis_password": made.valkey.password,
        "mastodon_redis_ca": made.valkey.ca,
        "mastodon_s3_bucket": BUCKET,
        "mastodon_s3_region": REGION,
        "mastodon_s3_endpoint": f"https://{lab.host('spaces')}",
        "mastodon_s3_hostname": lab.host("spaces"),
        "mastodon_s3_access_key_id": secrets["spaces_access_key"],
        "mastodon_s3_secret_access_key": secrets["spaces_secret_key"],
        "mastodon_smtp_server": lab.host("mail"),
        "mastodon_smtp_port": 587,
        "mastodon_smtp_login": "apikey",
        "mastodon_smtp_password": secrets["sendgrid_token"],
        "mastodon_smtp_from_address": f"notifications@{DOMAIN}",
        "mastodon_cloudflare_endpoint": f"https://{lab.address('cloudflare')}/client/v4",
        "dns_zone": DOMAIN,
        "dns_api_token": secrets["cloudflare_token"],
        "dns_endpoint": f"https://{lab.address('cloudflare')}/client/v4",
        "dns_ca_file": str(lab.ca),
        "dns_digitalocean_token": secrets["digitalocean_token"],
        "dns_digitalocean_endpoint": f"https://{lab.address('digitalocean')}",
        "dns_digitalocean_ca_file": str(lab.ca),
        "dns_aliases": {"files": lab.host("spaces")},
        "dns_caa": ["letsencrypt.org"],
        "dns_zone_settings": {"ssl": "strict", "min_tls_version": "1.2"},
        "mail_domain": DOMAIN,
        "mail_api_key": secrets["sendgrid_token"],
        "mail_endpoint": f"https://{lab.address('sendgrid')}",
        "mail_ca_file": str(lab.ca),
        "mail_dmarc": "v=DMARC1; p=quarantine",
        "mastodon_tls_certificate": certificate.certificate.read_text() + ca,
        "mastodon_tls_private_key": certificate.key.read_text(),
    }


def stand_in(lab: Lab, origin: Origin) -> dict[str, Any]:
    """Where the stand-in comes from."""
    mirror = lab.host("mirror")
    return {
        "exec_gem_source": f"https://{mirror}/gems/",
        # Debian's Node, and the libraries that the stand-in's gems are linked with: it builds nothing native.
        "exec_node_repository": "",
        "exec_packages": ["libgumbo3", "libjemalloc2", "libpq5", "libxml2", "libxslt1.1", "libyaml-0-2"],
        "exec_image_packages": ["ca-certificates", "curl", "libjemalloc2", "procps", "tini", "tzdata"],
        "mastodon_version": origin.version or MASTODON_VERSION,
        "mastodon_git_repository": f"https://{mirror}/git/mastodon.git",
        "mastodon_image_source": origin.images,
        "mastodon_image": f"{mirror}:5000/mastodon/mastodon",
        "mastodon_streaming_image": f"{mirror}:5000/mastodon/mastodon-streaming",
    }


def sources(lab: Lab, origin: Origin, npm_registry: str) -> dict[str, Any]:
    """Where Mastodon comes from. Of the official one nothing: the roles' own defaults lead there."""
    if origin.kind == OFFICIAL:
        return {"mastodon_version": origin.version} if origin.version else {}
    return {
        **(stand_in(lab, origin) if origin.kind == STAND_IN else origin.settings(lab)),
        "exec_npm_registry": npm_registry,
        "worker_nginx_image": f"{lab.host('mirror')}:5000/library/{NGINX}",
    }


def write_inventory(lab: Lab, settings: Mapping[str, Any], plugin: Mapping[str, Any]) -> Path:
    """The inventory's directory, written whole where it differs; files 0600, since they hold secrets."""
    target = lab.state / "inventory"
    head = "# Written by `lab up`.\n"
    write(target / "digitalocean.yml", head + dump(dict(plugin)))
    write(target / "group_vars" / "all" / "lab.yml", head + dump(dict(settings)))
    for path in (target, target / "group_vars", target / "group_vars" / "all"):
        path.chmod(0o700)
    return target


def known_hosts(keys: Mapping[str, list[str]]) -> str:
    """SSH's file: address -> lines of public keys, as the machine itself has them."""
    lines = []
    for addresses, public_keys in sorted(keys.items()):
        for line in sorted(public_keys):
            kind, key = line.split()[:2]
            lines.append(f"{addresses} {kind} {key}\n")
    return "".join(lines)
