"""What runs in a managed database cluster, as text: settings and SQL; no engine.

As on DigitalOcean: PostgreSQL takes TLS only, PgBouncer before it knows pools by name and keeps no prepared
statements, Valkey speaks TLS only and evicts nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from lab.cloud import CloudError, DatabaseState

POSTGRES_PORT = 25060
POOL_PORT = 25061
VALKEY_PORT = 25061
ADMIN = "doadmin"
DEFAULT_DATABASE = "defaultdb"
POSTGRES_VERSION = "17"
"""The lab's PostgreSQL, which is Debian 13's."""
FILES = "/etc/lab"
"""Where settings and certificates lie in a cluster's containers."""


def ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string for SQL with `standard_conforming_strings`, PostgreSQL's default."""
    return "'" + text.replace("'", "''") + "'"


def postgresql_conf() -> str:
    """PostgreSQL's settings. A lab's machine that loses power loses the lab: hence no fsync."""
    return f"""\
listen_addresses = '*'
port = {POSTGRES_PORT}
unix_socket_directories = '/var/run/postgresql'
max_connections = 100
shared_buffers = 128MB
ssl = on
ssl_cert_file = '{FILES}/server.crt'
ssl_key_file = '{FILES}/server.key'
password_encryption = 'scram-sha-256'
hba_file = '{FILES}/pg_hba.conf'
fsync = off
full_page_writes = off
log_destination = 'stderr'
logging_collector = off
log_connections = on
timezone = 'UTC'
"""


def pg_hba() -> str:
    """Over the network TLS and a password; inside the container the system's user, for the lab itself."""
    return "local all postgres peer\nhostssl all all all scram-sha-256\n"


def pgbouncer_ini(state: DatabaseState) -> str:
    """PgBouncer's settings: exactly the pools of the cluster."""
    lines = ["[databases]"]
    for pool in state.pools:
        entry = (
            f"{_pool_name(pool['name'])} = host=127.0.0.1 port={POSTGRES_PORT} dbname={_value(pool['db'])}"
            f" pool_mode={pool['mode']} pool_size={int(pool['size'])}"
        )
        if pool.get("user"):
            entry += f" user={_value(pool['user'])}"
        lines.append(entry)
    lines += [
        "[pgbouncer]",
        "listen_addr = *",
        f"listen_port = {POOL_PORT}",
        "unix_socket_dir =",
        "auth_type = scram-sha-256",
        f"auth_file = {FILES}/userlist.txt",
        "client_tls_sslmode = require",
        f"client_tls_cert_file = {FILES}/server.crt",
        f"client_tls_key_file = {FILES}/server.key",
        "server_tls_sslmode = require",
        "max_client_conn = 1000",
        "max_prepared_statements = 0",
        "ignore_startup_parameters = extra_float_digits",
        "server_check_delay = 5",
    ]
    return "\n".join(lines) + "\n"


def userlist(users: dict[str, str]) -> str:
    return "".join(f"{_bouncer_name(name)} {_bouncer_name(users[name])}\n" for name in sorted(users))


def valkey_conf(password: str) -> str:
    """Valkey's settings; idle connections end after DigitalOcean's default of 300 s."""
    return f"""\
port 0
tls-port {VALKEY_PORT}
tls-cert-file {FILES}/server.crt
tls-key-file {FILES}/server.key
tls-ca-cert-file {FILES}/ca.crt
tls-auth-clients no
bind 0.0.0.0
protected-mode no
requirepass {password}
maxmemory 256mb
maxmemory-policy noeviction
timeout 300
save 300 100
dir /data
"""


def admin_sql(password: str) -> str:
    """The cluster's administrator and first database: no superuser, as on DigitalOcean."""
    role = ident(ADMIN)
    return f"""\
DO $do$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {literal(ADMIN)}) THEN
    CREATE ROLE {role} LOGIN CREATEDB CREATEROLE;
  END IF;
END $do$;
ALTER ROLE {role} PASSWORD {literal(password)};
GRANT pg_monitor, pg_read_all_stats TO {role};
{_create_database(DEFAULT_DATABASE)}
"""


def apply_sql(state: DatabaseState, present_users: Iterable[str], present_databases: Iterable[str]) -> str:
    """SQL that makes users and databases exactly those of `state`. Run on a database that stays.

    What goes: databases first, since roles may own them.
    """
    lines = []
    databases = (DEFAULT_DATABASE, *state.dbs)
    for name, password in sorted(state.users.items()):
        if name == ADMIN:
            continue
        lines.append(
            f"DO $do$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {literal(name)}) THEN"
            f" CREATE ROLE {ident(name)} LOGIN; END IF; END $do$;"
        )
        lines.append(f"ALTER ROLE {ident(name)} LOGIN PASSWORD {literal(password)};")
    lines += [_create_database(name) for name in databases]
    for name in present_databases:
        if name not in databases:
            lines.append(f"DROP DATABASE IF EXISTS {ident(name)} WITH (FORCE);")
    gone = [name for name in present_users if name not in state.users and name != ADMIN]
    for name in gone:
        for database in databases:
            lines.append(f"\\connect {ident(database)}")
            lines.append(f"REASSIGN OWNED BY {ident(name)} TO {ident(ADMIN)};")
            lines.append(f"DROP OWNED BY {ident(name)};")
        lines.append(f"DROP ROLE {ident(name)};")
    return "\n".join(lines) + "\n"


def _create_database(name: str) -> str:
    quoted = literal(name)
    return (
        f"SELECT 'CREATE DATABASE ' || quote_ident({quoted}) || ' OWNER {ADMIN}'"  # noqa: S608 (quoted)
        f" WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = {quoted})\\gexec"
    )


def _value(text: str) -> str:
    """A value in PgBouncer's connection strings."""
    return "'" + text.replace("'", "''") + "'"


def _pool_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", text):
        raise CloudError(f"pool {text!r}: the lab's PgBouncer takes letters, digits and _.- in a pool's name")
    return text


def _bouncer_name(text: str) -> str:
    if "\n" in text:
        raise CloudError(f"{text!r} holds a line break, which PgBouncer's files cannot")
    return '"' + text.replace('"', '""') + '"'
