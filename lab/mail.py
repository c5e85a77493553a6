"""The lab's mail server: takes mail as SendGrid does, keeps it, and shows it over HTTPS.

While click or open tracking is on in the emulated SendGrid account, a mail's links are rewritten and a
pixel is added, as SendGrid does with mail that comes in by SMTP.

    GET    /_lab/health
    GET    /mails[?to=ADDRESS]   newest first: id, at, from, to, subject
    GET    /mails/ID             the same with text, html, links, and `original` (html before rewriting)
    GET    /mails/ID/raw         message/rfc822, as it would be delivered
    DELETE /mails
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import email
import email.policy
import hmac
import json
import logging
import re
import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

log = logging.getLogger("lab.mail")

CLICK = "https://u1.ct.sendgrid.net/ls/click?upn="
OPEN = "https://u1.ct.sendgrid.net/wf/open?upn="
USER = "apikey"
"""SendGrid's SMTP user name; the password is an API key."""

_HREF = re.compile(r"""(<a\b[^>]*?\bhref\s*=\s*)(["'])(https?://[^"'>]+)\2""", re.IGNORECASE)
_URL = re.compile(r"https?://[^\s<>\"']+")
_MAX_BYTES = 30 * 1024 * 1024
"""SendGrid's limit for a message."""


@dataclass(frozen=True)
class Tracking:
    """What the account does to mail. `click_text` rewrites links in plain text, too."""

    click: bool = False
    click_text: bool = False
    open: bool = False


def _upn(target: str) -> str:
    return base64.urlsafe_b64encode(target.encode()).decode().rstrip("=")


def rewrite_html(html: str, tracking: Tracking) -> str:
    """Links of `<a href>` and the pixel at the end of the body."""
    if tracking.click:
        html = _HREF.sub(lambda found: f"{found[1]}{found[2]}{CLICK}{_upn(found[3])}{found[2]}", html)
    if tracking.open:
        pixel = (
            f'<img src="{OPEN}{_upn("open")}" alt="" width="1" height="1" border="0"'
            ' style="height:1px !important;width:1px !important;"/>'
        )
        end = html.lower().rfind("</body>")
        html = html[:end] + pixel + html[end:] if end >= 0 else html + pixel
    return html


def rewrite_text(text: str, tracking: Tracking) -> str:
    if not (tracking.click and tracking.click_text):
        return text
    return _URL.sub(lambda found: CLICK + _upn(found[0]), text)


def rewrite(raw: bytes, tracking: Tracking) -> bytes:
    """The message as SendGrid would deliver it. Attachments and headers stay."""
    message = email.message_from_bytes(raw, policy=email.policy.SMTP)
    changed = False
    for part in message.walk():
        if part.is_multipart() or part.get_content_disposition() == "attachment":
            continue
        kind = part.get_content_type()
        if kind not in ("text/html", "text/plain"):
            continue
        before = part.get_content()
        after = rewrite_html(before, tracking) if kind == "text/html" else rewrite_text(before, tracking)
        if after != before:
            kept = {name: part[name] for name in ("Content-Disposition", "Content-ID") if part[name]}
            part.set_content(after, subtype=kind.partition("/")[2], charset="utf-8", cte="quoted-printable")
            for name, value in kept.items():
                del part[name]
                part[name] = value
            changed = True
    return message.as_bytes() if changed else raw


def describe(raw: bytes, original: bytes) -> dict[str, Any]:
    """A mail as the HTTP API shows it: what a test or a person wants to read of it."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    html, text = _body(message, "html"), _body(message, "plain")
    links = [found[2] for found in re.findall(_HREF, html)] or _URL.findall(text)
    before = email.message_from_bytes(original, policy=email.policy.default)
    return {
        "from": str(message["from"] or ""),
        "to": str(message["to"] or ""),
        "subject": str(message["subject"] or ""),
        "text": text,
        "html": html,
        "links": links,
        "original": _body(before, "html"),
    }


def _body(message: EmailMessage, kind: str) -> str:
    part = message.get_body(preferencelist=(kind,))
    return str(part.get_content()) if part is not None else ""


class Mailbox:
    """Mails in a directory: `NUMBER.eml` as delivered, `NUMBER.original` as received, `NUMBER.json`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()

    def add(self, raw: bytes, original: bytes, sender: str, recipients: list[str]) -> int:
        with self._lock:
            number = max((int(path.stem) for path in self.directory.glob("*.json")), default=0) + 1
            entry = {"id": number, "at": datetime.now(UTC).isoformat(timespec="milliseconds")}
            entry |= {"envelope_from": sender, "envelope_to": recipients}
            entry |= {k: v for k, v in describe(raw, original).items() if k in ("from", "to", "subject")}
            (self.directory / f"{number}.eml").write_bytes(raw)
            (self.directory / f"{number}.original").write_bytes(original)
            beside = self.directory / f"{number}.new"
            beside.write_text(json.dumps(entry))
            beside.rename(self.directory / f"{number}.json")
            return number

    def list(self, to: str | None = None) -> list[dict[str, Any]]:
        entries = [json.loads(path.read_text()) for path in self.directory.glob("*.json")]
        entries.sort(key=lambda entry: -entry["id"])
        return [entry for entry in entries if to is None or to in entry["envelope_to"]]

    def get(self, number: int) -> dict[str, Any] | None:
        path = self.directory / f"{number}.json"
        if not path.exists():
            return None
        original = (self.directory / f"{number}.original").read_bytes()
        return {**json.loads(path.read_text()), **describe(self.raw(number), original)}

    def raw(self, number: int) -> bytes:
        return (self.directory / f"{number}.eml").read_bytes()

    def clear(self) -> None:
        with self._lock:
            for path in self.directory.iterdir():
                path.unlink()


class Sink:
    """aiosmtpd's handler."""

    def __init__(self, mailbox: Mailbox, sendgrid: str | None, ca: Path | None) -> None:
        self.mailbox = mailbox
        context = ssl.create_default_context(cafile=ca) if ca else True
        self._client = (
            httpx.Client(base_url=sendgrid, verify=context, timeout=3, trust_env=False) if sendgrid else None
        )

    def tracking(self) -> Tracking:
        """What the account says now; raises httpx.HTTPError where it cannot be asked."""
        if self._client is None:
            return Tracking()
        response = self._client.get("/_lab/tracking")
        response.raise_for_status()
        settings = response.json()
        click = settings["click"]
        return Tracking(
            bool(click["enabled"]), bool(click.get("enable_text")), bool(settings["open"]["enabled"])
        )

    async def handle_DATA(self, _server: Any, _session: Session, envelope: Envelope) -> str:
        original = envelope.original_content or b""
        try:
            tracking = await asyncio.to_thread(self.tracking)
        except httpx.HTTPError as error:
            log.warning("the SendGrid emulator does not answer: %s", error)
            return "451 4.3.0 the account's settings cannot be read, try again"
        raw = await asyncio.to_thread(rewrite, original, tracking)
        sender, recipients = envelope.mail_from or "", [str(to) for to in envelope.rcpt_tos]
        number = await asyncio.to_thread(self.mailbox.add, raw, original, sender, recipients)
        log.info("mail %d from %s to %s", number, sender, ", ".join(recipients))
        return f"250 Ok: queued as {number}"


def authenticator(user: str, password: str) -> Any:
    """aiosmtpd's check of AUTH PLAIN and LOGIN."""

    def check(_server: Any, _session: Any, _envelope: Any, mechanism: str, data: Any) -> AuthResult:
        good = (
            mechanism in ("PLAIN", "LOGIN")
            and isinstance(data, LoginPassword)
            and hmac.compare_digest(data.login, user.encode())
            and hmac.compare_digest(data.password, password.encode())
        )
        # Not handled: aiosmtpd itself shall answer 535.
        return AuthResult(success=good, handled=good)

    return check


def create_app(mailbox: Mailbox) -> Starlette:
    def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    def mails(request: Request) -> Response:
        if request.method == "DELETE":
            mailbox.clear()
            return Response(status_code=204)
        return JSONResponse(mailbox.list(request.query_params.get("to")))

    def mail(request: Request) -> Response:
        number = int(request.path_params["id"])
        found = mailbox.get(number)
        if found is None:
            return JSONResponse({"error": f"no mail {number}"}, 404)
        if request.url.path.endswith("/raw"):
            return Response(mailbox.raw(number), media_type="message/rfc822")
        return JSONResponse(found)

    return Starlette(
        routes=[
            Route("/_lab/health", health),
            Route("/mails", mails, methods=["GET", "DELETE"]),
            Route("/mails/{id:int}", mail),
            Route("/mails/{id:int}/raw", mail),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m lab.mail", description="The lab's mail server.")
    parser.add_argument("--state", type=Path, required=True, metavar="DIRECTORY")
    parser.add_argument("--tls-cert", type=Path, required=True, metavar="FILE")
    parser.add_argument("--tls-key", type=Path, required=True, metavar="FILE")
    parser.add_argument("--password-file", type=Path, required=True, metavar="FILE", help=f"of user {USER}")
    parser.add_argument("--sendgrid", metavar="URL", help="the emulator that has the tracking settings")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="authority of its certificate")
    parser.add_argument("--smtp-port", type=int, default=587)
    parser.add_argument("--http-port", type=int, default=443)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    mailbox = Mailbox(arguments.state)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(arguments.tls_cert, arguments.tls_key)
    controller = Controller(
        Sink(mailbox, arguments.sendgrid, arguments.ca),
        hostname="0.0.0.0",  # noqa: S104 (in a container)
        port=arguments.smtp_port,
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=authenticator(USER, arguments.password_file.read_text().strip()),
        data_size_limit=_MAX_BYTES,
        server_hostname="mail.lab.internal",
    )
    controller.start()
    uvicorn.run(
        create_app(mailbox),
        host="0.0.0.0",  # noqa: S104 (in a container)
        port=arguments.http_port,
        ssl_certfile=arguments.tls_cert,
        ssl_keyfile=arguments.tls_key,
        access_log=False,
        timeout_graceful_shutdown=3,
    )
    controller.stop()


if __name__ == "__main__":
    main()
