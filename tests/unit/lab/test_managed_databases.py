from __future__ import annotations

import pytest

from lab.cloud import CloudError, DatabaseState
from lab.managed_databases import (
    admin_sql,
    apply_sql,
    ident,
    literal,
    pg_hba,
    pgbouncer_ini,
    userlist,
    valkey_conf,
)

POOL = {"name": "mastodon-pool", "mode": "transaction", "size": 20, "db": "mastodon", "user": "mastodon"}
STATE = DatabaseState(("mastodon",), {"mastodon": "pa'ss"}, (POOL,))


def test_exactly_the_pools_are_served() -> None:
    ini = pgbouncer_ini(STATE)
    databases = ini.split("[pgbouncer]")[0].splitlines()[1:]
    assert databases == [
        "mastodon-pool = host=127.0.0.1 port=25060 dbname='mastodon' pool_mode=transaction"
        " pool_size=20 user='mastodon'"
    ]
    assert "max_prepared_statements = 0" in ini
    assert "client_tls_sslmode = require" in ini
    assert "[databases]\n[pgbouncer]" in pgbouncer_ini(DatabaseState())


@pytest.mark.parametrize("name", ["a b", "x=y", "a\nb = host=elsewhere", ""])
def test_a_pool_cannot_smuggle_settings_in(name: str) -> None:
    with pytest.raises(CloudError, match="pool"):
        pgbouncer_ini(DatabaseState(pools=({**POOL, "name": name},)))


def test_users_are_quoted() -> None:
    assert userlist({'o"ne': 'p"w', "b": "x"}) == '"b" "x"\n"o""ne" "p""w"\n'
    with pytest.raises(CloudError):
        userlist({"a": "two\nlines"})


def test_sql_is_quoted() -> None:
    assert ident('we"ird') == '"we""ird"'
    assert literal("it's") == "'it''s'"
    assert "PASSWORD 'pa''ss'" in apply_sql(STATE, [], [])


def test_what_is_not_listed_goes_and_the_default_stays() -> None:
    script = apply_sql(STATE, ["doadmin", "mastodon", "old"], ["defaultdb", "mastodon", "gone"])
    assert 'DROP DATABASE IF EXISTS "gone"' in script
    assert 'DROP ROLE "old"' in script
    for kept in ('DROP DATABASE IF EXISTS "defaultdb"', 'DROP DATABASE IF EXISTS "mastodon"'):
        assert kept not in script
    for kept in ('DROP ROLE "mastodon"', 'DROP ROLE "doadmin"'):
        assert kept not in script
    # what the role owns is given away in every database that stays, before the role goes
    assert script.count('REASSIGN OWNED BY "old"') == 2
    assert script.index("REASSIGN OWNED") < script.index("DROP ROLE")


def test_the_administrator_is_no_superuser() -> None:
    assert "SUPERUSER" not in admin_sql("secret")


def test_no_connection_without_tls() -> None:
    over_network = [line for line in pg_hba().splitlines() if not line.startswith("local ")]
    assert over_network
    assert all(line.startswith("hostssl ") for line in over_network)


def test_valkey_speaks_tls_only_and_forgets_nothing() -> None:
    lines = valkey_conf("pw").splitlines()
    assert "port 0" in lines
    assert "requirepass pw" in lines
    assert "maxmemory-policy noeviction" in lines
