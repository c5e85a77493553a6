"""The questions of questions.txt, and the answers that are written down there beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlencode, urlsplit

from .client import Answer, ask
from .conftest import DOMAIN

FILE = Path(__file__).parent / "questions.txt"
SOCKET = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}

SHORT = {
    "never": "private,no-store",
    "visitors": "max-age=15,public,stale-while-revalidate=30,stale-if-error=86400",
    "visitors-1h": "max-age=15,public,stale-while-revalidate=30,stale-if-error=3600",
    "everyone": "max-age=300,public,stale-while-revalidate=30,stale-if-error=86400",
    "file": "public,max-age=2419200,must-revalidate",
}
"""Words of questions.txt for what Cache-Control often says."""

DIFFERENT: Mapping[str, str] = {
    "nobody GET /api/v1/instance/terms_of_service": "a 404 that 4.6 lets a cache keep, and 4.5 does not",
    "nobody GET /users/alice/collections/devices": "a 404 as a page in 4.6, and as JSON in 4.5",
    "nobody POST /oauth/authorize": "a forged form's page is kept for revalidation, or not",
}
"""Questions that the stand-in may answer otherwise, and why."""


@dataclass(frozen=True)
class Known:
    """What is written down of an answer: status, content type, Cache-Control, and where it sends one to."""

    status: str
    type: str
    cache: str
    to: str

    @classmethod
    def of(cls, answer: Answer, things: Mapping[str, str]) -> Known:
        location = urlsplit(answer.headers.get("location", ""))
        to = location.path + (f"?{location.query}" if location.query else "")
        for name, value in things.items():
            to = to.replace(f"/{value}", f"/{{{name}}}")
        cache = re.sub(r"\s", "", answer.headers.get("cache-control", "")) or "-"
        return cls(
            str(answer.status),
            answer.headers.get("content-type", "").partition(";")[0].strip() or "-",
            next((word for word, meant in SHORT.items() if meant == cache), cache),
            to or "-",
        )


@dataclass(frozen=True)
class Question:
    """`known` has an answer for each series; none where they were not yet written down."""

    who: str
    what: str
    known: tuple[Known, ...] = ()

    def __str__(self) -> str:
        return f"{self.who} {self.what}"

    def ask(self, to: Audience, number: int) -> Known:
        """Questions of different numbers come from different addresses, whose limits are their own."""
        words = re.sub(r"{(\w+)}", lambda found: to.things[found[1]], self.what).split(" ")
        where = words.pop(0) if words[0] in {"STREAM", "SOCKET"} else "WEB"
        method, target, *rest = words
        headers = {
            "Host": DOMAIN,
            "X-Forwarded-Proto": "https",
            "X-Forwarded-For": f"198.51.{number // 250}.{number % 250 + 1}",
            **to.people[self.who],
            **(SOCKET if where == "SOCKET" else {}),
        }
        body = None if method in {"GET", "HEAD"} else ""
        fields: list[tuple[str, str]] = []
        for word in rest:
            name, sign, value = re.split(r"([:=])", word, maxsplit=1)
            if sign == ":":
                headers[name] = unquote(value)
            elif name == "body":
                body = value
            else:
                fields.append((name, value))
        if fields:
            body = urlencode(fields)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        address = to.web if where == "WEB" else to.streaming
        return Known.of(ask(address, method, target, headers, body), to.things)


@dataclass(frozen=True)
class Audience:
    """Who can be asked, by whom, about what."""

    web: str
    streaming: str
    people: Mapping[str, Mapping[str, str]]
    things: Mapping[str, str]


@dataclass
class Group:
    title: str
    questions: list[Question] = field(default_factory=list)


def read() -> list[Group]:
    groups: list[Group] = []
    for line in FILE.read_text().splitlines():
        if line.startswith("## "):
            groups.append(Group(line.removeprefix("## ")))
        elif line and not line.startswith("#"):
            who, what, *answers = re.split(r"\s{2,}", line.strip())
            columns = [column.split("|") for column in answers]
            most = max(map(len, columns), default=0)
            # One word for all series, or one for each.
            full = [column * 3 if len(column) == 1 else column for column in columns]
            groups[-1].questions.append(
                Question(
                    who, what, tuple(Known(*(column[i] for column in full)) for i in range(3 if most else 0))
                )
            )
    return groups


def write_down(found: Mapping[str, Sequence[Known]]) -> None:
    """Puts answers beside the questions, one for each series."""
    lines = [line for line in FILE.read_text().splitlines() if line.startswith("# ")]
    for group in read():
        lines += ["", f"## {group.title}"]
        for question in group.questions:
            columns = []
            for name in ("status", "type", "cache", "to"):
                words = [str(getattr(known, name)) for known in found[str(question)]]
                columns.append(words[0] if len(set(words)) == 1 else "|".join(words))
            widths = (6, 72, 3, 26, 24, 0)
            row = (question.who, question.what, *columns)
            lines.append("  ".join(f"{word:{width}}" for word, width in zip(row, widths, strict=True)))
    FILE.write_text("\n".join(lines) + "\n")
