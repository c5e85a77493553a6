from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vmstio.mastodon.plugins.filter.environment_file import environment_file
from ansible_collections.vmstio.mastodon.plugins.filter.settings_problems import settings_problems

PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
SCHEDULER = {"name": "scheduler", "queues": ["scheduler", "mailers,2"], "concurrency": 5}
GENERAL = {
    "name": "default",
    "queues": ["default,8", "push,6", "ingress,4", "pull", "fasp"],
    "concurrency": 10,
}


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "version": "v4.7.3",
        "domains": ["social.example"],
        "certificates": {"mastodon_db_ca": PEM, "mastodon_redis_ca": ""},
        "private_key": "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n",
        "required": {"mastodon_db_host": "pg.example"},
        "private_network": "10.118.0.0/20",
        "secrets": {},
        "environment": {"common": {"LOCAL_DOMAIN": "social.example"}},
        "secret_names": ["SECRET_KEY_BASE"],
        "extra_environment": {},
        "exec_hosts": ["exec"],
        "worker_hosts": ["w1", "w2", "w3"],
        "exec_sidekiq": [SCHEDULER],
        "worker_sidekiq": [GENERAL],
        "web_connections": 10,
        "streaming_connections": 10,
        "max_connections": 0,
        **changes,
    }


def test_good_settings_have_no_problem() -> None:
    assert settings_problems(settings()) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"version": "4.7.3"}, "mastodon_version: '4.7.3' is not a release's git tag"),
        ({"version": "v4.7"}, "is not a release's git tag"),
        ({"version": "latest"}, "it should look like v4.7.3, v4.7.0-rc.1 or, of a fork, v4.7.3+glitch.2"),
        ({"version": "v4.2.9"}, "before 4.3 is not supported"),
        ({"domains": ["https://social.example"]}, "is not a domain name"),
        ({"domains": ["Social.Example"]}, "write it in lower case"),
        (
            {"certificates": {"mastodon_db_ca": "/etc/ca.crt"}},
            "mastodon_db_ca is not a certificate in PEM form",
        ),
        ({"private_key": "-----BEGIN ENCRYPTED PRIVATE KEY-----"}, "not an unencrypted private key"),
        ({"required": {"mastodon_db_host": ""}}, "mastodon_db_host is empty; set it."),
        ({"private_network": "10.118.0.1/20"}, "has host bits set"),
        ({"private_network": "203.0.114.0/24"}, "is public"),
        ({"secrets": {"otp_secret": "x"}}, "mastodon_secrets.otp_secret is unknown"),
        ({"secrets": {"secret_key_base": ""}}, "secret_key_base is empty"),
        ({"secrets": {"secret_key_base": "abc"}}, "secret_key_base has not the right shape"),
        ({"secrets": {"vapid_private_key": "A" * 43}}, "are a pair; give both or neither"),
        ({"extra_environment": {"LOCAL_DOMAIN": "x"}}, "LOCAL_DOMAIN is rendered from another setting"),
        ({"extra_environment": {"SECRET_KEY_BASE": "x"}}, "SECRET_KEY_BASE is rendered from another setting"),
        ({"extra_environment": {"3_BUCKET": "x"}}, "'3_BUCKET' is not a name of an environment variable"),
        *(
            ({"extra_environment": {name: ""}}, f"{name} must not be set: ")
            for name in ("DATABASE_URL", "REDIS_URL", "SKIP_POST_DEPLOYMENT_MIGRATIONS", "SOCKET")
        ),
        ({"extra_environment": {"OIDC_ENABLED": "True"}}, "OIDC_ENABLED must be in lower case"),
        ({"environment": {"common": {"DB_PASS": "a'b"}}}, "DB_PASS holds the character '"),
        ({"exec_hosts": []}, "0 hosts in group exec (none)"),
        ({"exec_hosts": ["a", "b"]}, "2 hosts in group exec (a, b)"),
        ({"worker_sidekiq": [GENERAL, {**SCHEDULER, "name": "s"}]}, "scheduler is heard by 4 processes"),
        ({"exec_sidekiq": [{**SCHEDULER, "queues": ["mailers"]}]}, "scheduler is heard by 0 processes"),
        ({"worker_hosts": []}, "No process of the instance listens on default, push, ingress, pull, fasp"),
        ({"worker_sidekiq": [GENERAL, GENERAL]}, "two processes are called 'default'"),
        ({"worker_sidekiq": [{**GENERAL, "name": "A b"}, GENERAL]}, "must be lower-case letters"),
        ({"worker_sidekiq": [GENERAL, {**GENERAL, "name": "x", "queues": ["pushh"]}]}, "listens on 'pushh'"),
        (
            {"worker_sidekiq": [GENERAL, {**GENERAL, "name": "x", "queues": ["push,0"]}]},
            "listens on 'push,0'",
        ),
        ({"max_connections": 94}, "want 95 database connections (3 workers x 30, exec 5)"),
    ],
)
def test_a_problem_is_named_with_what_to_do(changes: dict[str, Any], expected: str) -> None:
    problems = settings_problems(settings(**changes))
    assert any(expected in problem for problem in problems), problems


def test_what_mastodon_knows_may_be_set() -> None:
    """Empty values and two names in lower case among it."""
    variables = {
        "S3_PERMISSION": "",
        "http_proxy": "http://proxy:3128",
        "OIDC_ENABLED": True,
        "LDAP_PORT": 636,
    }
    assert settings_problems(settings(extra_environment=variables)) == []


def test_the_budget_that_just_suffices_is_accepted() -> None:
    assert settings_problems(settings(max_connections=95)) == []


def test_all_problems_are_named_at_once() -> None:
    assert len(settings_problems(settings(version="x", exec_hosts=[], private_network="x"))) >= 3


def test_values_of_secrets_are_not_in_the_answer() -> None:
    found = settings_problems(
        settings(
            secrets={"secret_key_base": "hunter22", "otp_secret": "hunter23"},
            environment={"common": {"DB_PASS": "hunter24'"}},
            private_key="hunter25",
        )
    )
    assert len(found) == 4
    assert "hunter2" not in "".join(found)


def test_missing_settings_are_an_error() -> None:
    with pytest.raises(AnsibleFilterError, match="the settings lack 'required'"):
        settings_problems({})


def test_environment_file_is_sorted_and_leaves_out_what_is_empty() -> None:
    found = environment_file({"B": 2, "A": True, "C": "", "D": None, "E": "x = y # z <a@b>"})
    assert found == "A=true\nB=2\nE=x = y # z <a@b>\n"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("a", "x", "is not a name"),
        ("A", "x\ny", "line break"),
        ("A", " x", "begins or ends with a blank"),
        ("A", "x ", "begins or ends with a blank"),
        ("A", 'x"y', "differently"),
        ("A", "x\\y", "differently"),
    ],
)
def test_environment_file_refuses_what_is_read_differently(name: str, value: str, expected: str) -> None:
    with pytest.raises(AnsibleFilterError, match=expected):
        environment_file({name: value})
