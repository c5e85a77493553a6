"""The client of DigitalOcean's API: what neither the inventory's nor the modules' tests come across."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.vmstio.mastodon.plugins.module_utils import _digitalocean
from ansible_collections.vmstio.mastodon.plugins.module_utils._api import ApiError, UnclearError

SECRET = "s3cr3t-t0k3n"
PAGE = "<html>an error page of a proxy</html>"


def call(**settings: Any) -> Any:
    client = _digitalocean.DigitalOcean(SECRET)
    return client.call("GET /v2/droplets/7", client.api.droplets.get, 7, scopes="droplet:read", **settings)


@pytest.mark.parametrize("content_type", ["text/html", "application/json"])
def test_a_page_in_place_of_json(script: Any, content_type: str) -> None:
    for _unused in range(5):
        script.expect(
            "GET", "/v2/droplets/7", answer=PAGE.encode(), answer_headers={"Content-Type": content_type}
        )
    with pytest.raises(ApiError, match="the answer broke off or is no JSON") as caught:
        call()
    assert not isinstance(caught.value, UnclearError)
    assert len(script.sleeps) == 4


def test_a_page_after_a_call_that_creates_is_unclear(script: Any) -> None:
    script.expect("GET", "/v2/droplets/7", answer=PAGE.encode(), answer_headers={"Content-Type": "text/html"})
    with pytest.raises(UnclearError):
        call(creates=True)
    assert script.sleeps == []


def test_a_call_that_creates_is_repeated_while_nothing_was_sent(script: Any) -> None:
    import requests

    script.expect("GET", "/v2/droplets/7", answer=requests.exceptions.ConnectTimeout("no route"))
    script.expect("GET", "/v2/droplets/7", answer={"droplet": {}})
    assert call(creates=True) == {"droplet": {}}
    assert script.sleeps == [0.5]


def test_a_list_that_never_stands_still_is_read_three_times(
    script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _unused in range(3):
        script.expect(
            "GET",
            "/v2/droplets",
            query={"per_page": "200", "page": "1"},
            answer={"droplets": [{"id": 1}], "meta": {"total": 2}},
        )
    client = _digitalocean.DigitalOcean(SECRET)
    found = client.pages("GET /v2/droplets", client.api.droplets.list, "droplets", scopes="droplet:read")
    assert found == [{"id": 1}]


def test_the_environments_authorities_do_not_win(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    seen: dict[str, Any] = {}

    def send(session: Any, request: Any, **settings: Any) -> Any:
        seen.update(settings)
        raise requests.exceptions.ConnectTimeout("enough")

    ours = tmp_path / "ca.pem"
    ours.write_text("x")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "other.pem"))
    monkeypatch.setattr(requests.Session, "send", send)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    client = _digitalocean.DigitalOcean(SECRET, ca_file=str(ours))
    with pytest.raises(ApiError):
        client.call("GET /v2/account", client.api.account.get, scopes="account:read")
    assert seen["verify"] == str(ours)
