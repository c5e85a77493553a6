from __future__ import annotations

import email
import email.policy
import smtplib
import socket
import ssl
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from starlette.testclient import TestClient

from lab.mail import Mailbox, Sink, Tracking, authenticator, create_app, rewrite, rewrite_html
from lab.pki import Authority

LINK = "https://social.test/auth/confirmation?token=a&b=c"
CLICKS = Tracking(click=True)
ALL = Tracking(click=True, click_text=True, open=True)


def message() -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "notifications@social.test", "a@b.test", "Bestätigen"
    mail.set_content(f"Hier: {LINK}\n")
    mail.add_alternative(f'<html><body><p>Grüße</p><a class="x" href="{LINK}">ok</a></body></html>', "html")
    mail.add_attachment(b'<a href="https://x.test/">', maintype="text", subtype="html", filename="a.html")
    return mail


def parts(raw: bytes) -> tuple[str, str, bytes]:
    found = email.message_from_bytes(raw, policy=email.policy.default)
    text, html = found.get_body(("plain",)), found.get_body(("html",))
    assert text is not None
    assert html is not None
    attachment = next(found.iter_attachments()).get_payload(decode=True)
    assert isinstance(attachment, bytes)
    return text.get_content(), html.get_content(), attachment


def test_without_tracking_not_a_byte_changes() -> None:
    raw = message().as_bytes()
    assert rewrite(raw, Tracking()) == raw


def test_click_tracking_hides_the_link_in_html() -> None:
    text, html, attachment = parts(rewrite(message().as_bytes(), CLICKS))
    assert LINK in text
    assert LINK not in html
    assert 'href="https://u1.ct.sendgrid.net/ls/click?upn=' in html
    assert "Grüße" in html
    assert "<img" not in html
    assert b"https://x.test/" in attachment


def test_all_tracking_reaches_plain_text_and_adds_the_pixel_at_the_end() -> None:
    text, html, _ = parts(rewrite(message().as_bytes(), ALL))
    assert LINK not in text
    assert html.index("wf/open") < html.index("</body>")
    assert html.index("ls/click") < html.index("wf/open")


def test_other_links_stay() -> None:
    html = '<a href="mailto:a@b.test">m</a><a href="#top">t</a><img src="https://social.test/logo.png">'
    assert rewrite_html(html, CLICKS) == html


def test_the_pixel_without_a_body() -> None:
    assert rewrite_html("<p>x</p>", Tracking(open=True)).startswith("<p>x</p><img ")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, Mailbox, ssl.SSLContext]]:
    pki = Authority.open(tmp_path / "pki", "Test CA")
    pair = pki.issue("mail", ["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    mailbox = Mailbox(tmp_path / "mails")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(
        Sink(mailbox, None, None),
        hostname="127.0.0.1",
        port=port,
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=authenticator("apikey", "right"),
    )
    controller.start()
    yield port, mailbox, ssl.create_default_context(cafile=str(pki.file))
    controller.stop()


def test_a_mail_arrives_and_is_shown(server: tuple[int, Mailbox, ssl.SSLContext]) -> None:
    port, mailbox, trust = server
    with smtplib.SMTP("localhost", port) as client:
        client.starttls(context=trust)
        client.login("apikey", "right")
        client.send_message(message())
    http = TestClient(create_app(mailbox))
    [entry] = http.get("/mails", params={"to": "a@b.test"}).json()
    assert entry["subject"] == "Bestätigen"
    assert http.get("/mails", params={"to": "nobody@b.test"}).json() == []
    shown = http.get(f"/mails/{entry['id']}").json()
    assert shown["links"] == [LINK]
    assert http.get(f"/mails/{entry['id']}/raw").headers["content-type"] == "message/rfc822"
    assert http.get("/mails/99").status_code == 404
    http.delete("/mails")
    assert http.get("/mails").json() == []


def test_neither_plaintext_nor_a_wrong_key(server: tuple[int, Mailbox, ssl.SSLContext]) -> None:
    port, mailbox, trust = server
    with smtplib.SMTP("localhost", port) as client:
        with pytest.raises(smtplib.SMTPException):
            client.sendmail("a@b.test", "c@d.test", "x")
        client.starttls(context=trust)
        with pytest.raises(smtplib.SMTPResponseException):
            client.sendmail("a@b.test", "c@d.test", "x")
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("apikey", "wrong")
    assert mailbox.list() == []
