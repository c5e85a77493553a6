from __future__ import annotations

from typing import Any

import pytest

from lab.cloud import CloudError, Member
from lab.haproxy import render, state_of_new, statuses

MEMBERS = [Member(11, "vmst-worker-1", "10.118.0.21"), Member(12, "vmst-worker-2", "10.118.0.22")]


def balancer(**changes: Any) -> dict[str, Any]:
    rule = {"entry_protocol": "tcp", "entry_port": 443, "target_protocol": "tcp", "target_port": 443}
    return {
        "id": "4de7ac8b",
        "name": "vmst-lb",
        "forwarding_rules": [rule],
        "health_check": {
            "protocol": "http",
            "port": 8080,
            "path": "/health",
            "check_interval_seconds": 3,
            "response_timeout_seconds": 4,
            "unhealthy_threshold": 2,
            "healthy_threshold": 5,
        },
        "enable_proxy_protocol": True,
        **changes,
    }


def section(text: str, name: str) -> list[str]:
    """The lines of one section of the settings."""
    lines = text.splitlines()
    start = lines.index(name) + 1
    end = next((i for i in range(start, len(lines)) if not lines[i].startswith(" ")), len(lines))
    return [line.strip() for line in lines[start:end]]


def test_members_are_checked_once_and_as_the_object_says() -> None:
    lines = section(render(balancer(), MEMBERS), "backend members")
    assert "option httpchk GET /health" in lines
    assert "timeout check 4s" in lines
    assert "server vmst-worker-1:11 10.118.0.21:1 check port 8080 inter 3s fall 2 rise 5" in lines
    text = render(balancer(), MEMBERS)
    assert text.count(" check port ") == len(MEMBERS)
    assert "track members/vmst-worker-2:12" in text


def test_the_proxy_protocol_is_sent_to_targets_and_not_in_checks() -> None:
    text = render(balancer(), MEMBERS)
    assert [line for line in section(text, "backend tcp-443") if "send-proxy" in line]
    assert not [line for line in section(text, "backend members") if "proxy" in line]
    assert "send-proxy" not in render(balancer(enable_proxy_protocol=False), MEMBERS)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [("tcp", "mode tcp"), ("http", "option httpchk GET /health"), ("https", "check-ssl verify none")],
)
def test_kinds_of_checks(protocol: str, expected: str) -> None:
    check = {**balancer()["health_check"], "protocol": protocol}
    assert expected in "\n".join(section(render(balancer(health_check=check), MEMBERS), "backend members"))


def test_passed_through_tls_is_not_looked_into() -> None:
    rule = {
        "entry_protocol": "https",
        "entry_port": 443,
        "target_protocol": "https",
        "target_port": 443,
        "tls_passthrough": True,
    }
    lines = section(render(balancer(forwarding_rules=[rule]), MEMBERS), "frontend https-443")
    assert "mode tcp" in lines
    assert "bind :443" in lines


def test_tls_that_ends_here_needs_a_certificate() -> None:
    rule = {"entry_protocol": "https", "entry_port": 443, "target_protocol": "http", "target_port": 80}
    with pytest.raises(CloudError, match="443"):
        render(balancer(forwarding_rules=[rule]), MEMBERS)
    text = render(balancer(forwarding_rules=[{**rule, "certificate_id": "c0ffee"}]), MEMBERS)
    assert "ssl crt /etc/haproxy/certificates/c0ffee.pem" in text


@pytest.mark.parametrize("protocol", ["udp", "http3"])
def test_what_the_lab_cannot_do_is_refused(protocol: str) -> None:
    rule = {"entry_protocol": protocol, "entry_port": 443, "target_protocol": protocol, "target_port": 443}
    with pytest.raises(CloudError, match=protocol):
        render(balancer(forwarding_rules=[rule]), MEMBERS)


def test_http_is_sent_to_https_where_set() -> None:
    rule = {"entry_protocol": "http", "entry_port": 80, "target_protocol": "http", "target_port": 80}
    both = balancer(forwarding_rules=[rule], redirect_http_to_https=True)
    assert "http-request redirect scheme https code 307" in section(render(both, MEMBERS), "frontend http-80")


def test_droplets_of_one_name_stay_apart() -> None:
    twins = [Member(1, "web", "10.118.0.21"), Member(2, "web", "10.118.0.22")]
    lines = section(render(balancer(), twins), "backend members")
    assert len({line.split()[1] for line in lines if line.startswith("server ")}) == 2


KNOWN = """\
1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state
2 members 1 vmst-worker-1:11 10.118.0.21 2 0 1 1 9 15 3 5 6 0 0 0 - 1 - 0 8080 - - 8080
4 tcp-443 1 vmst-worker-1:11 10.118.0.21 2 0 1 1 9 1 0 5 0 0 0 0 - 443 - 0 0 - - 0

"""


def test_a_member_that_is_new_starts_down_and_a_known_one_as_it_was() -> None:
    lines = state_of_new(balancer(), MEMBERS, KNOWN).splitlines()
    states = {(line.split()[1], line.split()[3]): line.split()[5] for line in lines[2:]}
    assert states == {
        ("members", "vmst-worker-1:11"): "2",
        ("tcp-443", "vmst-worker-1:11"): "2",
        ("members", "vmst-worker-2:12"): "0",
        ("tcp-443", "vmst-worker-2:12"): "0",
    }


def test_without_a_known_state_all_start_down() -> None:
    lines = state_of_new(balancer(), MEMBERS).splitlines()
    assert lines[0] == "1"
    assert {line.split()[5] for line in lines[2:]} == {"0"}


def test_statuses() -> None:
    csv = (
        "# pxname,svname,qcur,status\n"
        "tcp-443,vmst-worker-1:11,0,UP\n"
        "members,vmst-worker-1:11,0,DOWN\n"
        "members,vmst-worker-2:12,0,UP 1/2\n"
        "members,BACKEND,0,UP\n"
    )
    assert statuses(csv) == {"vmst-worker-1": "DOWN", "vmst-worker-2": "UP 1/2"}
    assert statuses("") == {}
