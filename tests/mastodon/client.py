"""Who talks to Mastodon: a browser that signs in and lets applications in, and requests sent as written."""

from __future__ import annotations

import html
import http.client
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

import httpx

SCOPES = "read write follow push"
IN_BROWSER = "urn:ietf:wg:oauth:2.0:oob"
"""Where a code goes to if the application has no address: a page shows it."""


@dataclass
class Browser:
    """Keeps cookies, which are for https alone, although nginx is not there to end it."""

    web: httpx.Client
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, data: Mapping[str, str] | None = None) -> httpx.Response:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = self.web.request(method, path, data=data, headers={"Cookie": cookie} if cookie else {})
        for header in answer.headers.get_list("set-cookie"):
            name, _, value = header.split(";")[0].partition("=")
            self.cookies[name] = value
        return answer

    def send(self, path: str, form: httpx.Response, data: Mapping[str, str]) -> httpx.Response:
        """Fills in and sends a form of the page `form`."""
        return self.ask("POST", path, {**data, "authenticity_token": token_of(form)})

    def sign_in(self, email: str, password: str) -> httpx.Response:
        form = self.ask("GET", "/auth/sign_in")
        return self.send("/auth/sign_in", form, {"user[email]": email, "user[password]": password})

    def authorize(self, scopes: str = SCOPES) -> str:
        """Registers an application and lets it in; its token."""
        application = register(self.web, scopes)
        request = {
            "client_id": application["client_id"],
            "redirect_uri": IN_BROWSER,
            "response_type": "code",
            "scope": scopes,
        }
        form = self.ask("GET", f"/oauth/authorize?{urlencode(request)}")
        assert form.status_code == 200, form.text
        answer = self.send("/oauth/authorize", form, request)
        assert answer.status_code == 302, answer.text
        code = urlsplit(answer.headers["location"]).query.partition("code=")[2]
        grant = {"grant_type": "authorization_code", "code": code, "redirect_uri": IN_BROWSER}
        return token(self.web, application, grant)


def token_of(page: httpx.Response) -> str:
    """What the first form of a page must send along."""
    found = re.search(r'name="authenticity_token" value="([^"]+)"', page.text)
    assert found, page.text
    return html.unescape(found[1])


def register(web: httpx.Client, scopes: str = SCOPES) -> dict[str, str]:
    answer = web.post(
        "/api/v1/apps", json={"client_name": "test", "redirect_uris": IN_BROWSER, "scopes": scopes}
    )
    assert answer.status_code == 200, answer.text
    return {name: answer.json()[name] for name in ("client_id", "client_secret")}


def token(web: httpx.Client, application: Mapping[str, str], grant: Mapping[str, str]) -> str:
    answer = web.post("/oauth/token", json={**application, **grant})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def log_in(web: httpx.Client, password: str, name: str = "owner", scopes: str = SCOPES) -> str:
    """A token for a new application, as a person gives it: sign in, agree."""
    browser = Browser(web)
    answer = browser.sign_in(f"{name}@database", password)
    assert answer.status_code == 302, answer.text
    return browser.authorize(scopes)


def post(web: httpx.Client, token: str, text: str = "hello", **more: object) -> httpx.Response:
    return web.post(
        "/api/v1/statuses", headers={"Authorization": f"Bearer {token}"}, json={"status": text, **more}
    )


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]


def ask(
    address: str, method: str, target: str, headers: Mapping[str, str], body: str | None = None
) -> Answer:
    """One request with exactly this method, target and these headers; the body is left unread."""
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        if body is not None:
            headers = {**headers, "Content-Length": str(len(body.encode()))}
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(body.encode() if body is not None else None)
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()})
    finally:
        connection.close()
