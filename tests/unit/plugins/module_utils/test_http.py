"""The transport under the Cloudflare and SendGrid clients, against a real server."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vmstio.mastodon.plugins.module_utils._api import ApiError, Retry, UnclearError
from ansible_collections.vmstio.mastodon.plugins.module_utils._http import Connection, JsonApi

from lab.pki import Authority

ONCE = Retry(attempts=1)


class Api(JsonApi):  # type: ignore[misc]
    def _error(self, body: Any) -> tuple[str | int | None, str]:
        return None, str(body.get("error", "")) if isinstance(body, dict) else ""


class Server(http.server.ThreadingHTTPServer):
    """Answers with what `answers` holds; notes requests and connections."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.answers: list[Callable[[Handler], None]] = []
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.connections = 0
        self.port = self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: clients that give up are what is tested."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", "0")))
        self.server.seen.append((self.command, self.path, headers, body))
        (self.server.answers.pop(0) if self.server.answers else ok())(self)

    do_POST = do_CONNECT = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def ok(body: bytes = b"{}", status: int = 200, **headers: str) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def cut(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b'{"half": ')
    handler.close_connection = True


def silence(handler: Handler) -> None:
    handler.close_connection = True


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(context: ssl.SSLContext | None = None) -> Server:
        server = Server(context)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr("time.sleep", found.append)
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return found


def api(server: Server, scheme: str = "http", **settings: Any) -> Api:
    settings = {"option": "api_token", "variable": "API_TOKEN", "timeout": 5.0, "retry": ONCE, **settings}
    return Api("secret", endpoint=f"{scheme}://127.0.0.1:{server.port}/v4/", **settings)


def test_keeps_the_connection(serve: Any) -> None:
    server = serve()
    client = api(server, headers={"on-behalf-of": "social"})
    server.answers = [ok(b'{"a": 1}'), ok(b'{"b": 2}', status=201), ok(Connection="close"), ok()]
    assert client.request("GET", "/x", query={"q": "a b"}) == (200, {"a": 1})
    assert client.request("POST", "/y", body={"k": "ü"}) == (201, {"b": 2})
    assert server.connections == 1
    client.request("GET", "/")
    client.request("GET", "/")
    assert server.connections == 2
    (method, target, headers, body), second = server.seen[:2]
    assert (method, target, body) == ("GET", "/v4/x?q=a+b", b"")
    assert headers["authorization"] == "Bearer secret"
    assert headers["user-agent"].startswith("vmstio.mastodon/")
    assert headers["on-behalf-of"] == "social"
    assert "content-type" not in headers
    assert second[2]["content-type"] == "application/json"
    assert json.loads(second[3]) == {"k": "ü"}


@pytest.mark.parametrize("broken", [cut, silence, ok(b"<html>")])
def test_reads_again_after_a_broken_answer(serve: Any, pauses: list[float], broken: Any) -> None:
    server = serve()
    server.answers = [broken, ok(b'{"a": 1}')]
    assert api(server, retry=Retry()).request("GET", "/x") == (200, {"a": 1})
    assert pauses == [0.5]


@pytest.mark.parametrize("broken", [cut, silence, ok(b"<html>"), ok(b'{"error": "oops"}', status=500)])
def test_never_repeats_what_may_have_been_done(serve: Any, pauses: list[float], broken: Any) -> None:
    server = serve()
    server.answers = [broken]
    with pytest.raises(UnclearError):
        api(server, retry=Retry()).request("POST", "/x", body={}, creates=True)
    assert len(server.seen) == 1
    assert pauses == []


def test_repeats_what_was_refused_unseen(serve: Any, pauses: list[float]) -> None:
    server = serve()
    server.answers = [ok(b'{"error": "slow"}', status=429, Retry_After="2"), ok()]
    api(server, retry=Retry()).request("POST", "/x", body={}, creates=True)
    assert pauses == [2]


def test_no_server(serve: Any, pauses: list[float]) -> None:
    server = serve()
    server.shutdown()
    server.server_close()
    client = api(server, retry=Retry(attempts=3))
    with pytest.raises(ApiError, match=r"no answer .*refused.* Check the network, proxy and endpoint"):
        client.request("GET", "/x")
    assert pauses == [0.5, 1.0]


def test_a_time_out(serve: Any) -> None:
    server, done = serve(), threading.Event()

    def late(handler: Handler) -> None:
        done.wait(10)
        silence(handler)

    server.answers = [late]
    with pytest.raises(ApiError, match=r"no answer .*timed out"):
        api(server, timeout=0.1).request("GET", "/x")
    done.set()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            ok(b"moved", status=301),
            "301 an answer that is no JSON .moved.. Check that the endpoint is the API",
        ),
        (
            ok(b"{}", status=418),
            "418 an answer that is JSON without a reason .{}.. Change what was asked for",
        ),
        (
            ok(b'{"error": "secret is wrong"}', status=401),
            r"401 \*{8} is wrong. Set a valid token in api_token",
        ),
    ],
)
def test_answers_that_do_not_help(serve: Any, answer: Any, message: str) -> None:
    server = serve()
    server.answers = [answer]
    with pytest.raises(ApiError, match=message):
        api(server).request("GET", "/x")


def test_a_status_that_the_caller_wants(serve: Any) -> None:
    server = serve()
    server.answers = [ok(b"oops", status=500)]
    assert api(server).request("GET", "/x", also=(500,)) == (500, None)


# --- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("pki"), "test")


@pytest.fixture
def tls(authority: Authority) -> ssl.SSLContext:
    issued = authority.issue("api", ["localhost"], ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    return context


def test_verifies_the_server(
    serve: Any, tls: ssl.SSLContext, authority: Authority, pauses: list[float]
) -> None:
    server = serve(tls)
    assert api(server, "https", ca_file=str(authority.file)).request("GET", "/x") == (200, {})
    with pytest.raises(ApiError, match=r"certificate is not trusted .* Set ca_file to the authority"):
        api(server, "https", retry=Retry()).request("GET", "/x")
    assert pauses == []
    assert len(server.seen) == 1


def test_through_a_proxy(
    serve: Any, tls: ssl.SSLContext, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, server = serve(), serve(tls)
    monkeypatch.setenv("HTTPS_PROXY", f"user:p%40ss@127.0.0.1:{proxy.port}")
    proxy.answers = [ok(b"no", status=403)]
    client = api(server, "https", ca_file=str(authority.file))
    with pytest.raises(ApiError, match=r"no answer .*Tunnel connection failed: 403"):
        client.request("GET", "/x")
    method, target, headers, _body = proxy.seen[0]
    assert (method, target) == ("CONNECT", f"127.0.0.1:{server.port}")
    assert base64.b64decode(headers["proxy-authorization"].removeprefix("Basic ")) == b"user:p@ss"
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    proxy.answers = [ok(b"no", status=403)]
    with pytest.raises(ApiError, match="Tunnel"):
        client.request("GET", "/x")
    assert "proxy-authorization" not in proxy.seen[1][2]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert client.request("GET", "/x") == (200, {})
    assert len(proxy.seen) == 2


# --- settings that cannot work


@pytest.mark.parametrize(
    ("token", "settings", "message"),
    [
        ("", {}, "no API token is set. Set api_token, or API_TOKEN in the environment."),
        (
            "t",
            {"endpoint": "http://api.example"},
            "the endpoint is not an https:// URL. A token is never sent",
        ),
        ("t", {"ca_file": "/none.pem"}, "there is no file /none.pem. Set ca_file to a PEM file"),
    ],
)
def test_refuses_settings(token: str, settings: dict[str, Any], message: str) -> None:
    given = {"endpoint": "https://api.example", "option": "api_token", "variable": "API_TOKEN", **settings}
    with pytest.raises(ApiError, match=message):
        Api(token, **given)


def test_a_broken_authority(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    with pytest.raises(ApiError, match="no answer"):
        api(serve(), "https", ca_file=str(tmp_path / "ca.pem")).request("GET", "/x")


def test_each_api_words_its_errors() -> None:
    with pytest.raises(NotImplementedError):
        JsonApi("t", endpoint="https://api.example", option="o", variable="V")._error({})


def test_closing_twice() -> None:
    connection = Connection("https://api.example", ca_file=None, timeout=1)
    connection.close()
    connection.close()
