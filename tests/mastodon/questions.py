"""The questions of questions.txt, asked of one version. Run as a program, writes the answers down:

MASTODON_IMAGES=... MASTODON_VERSIONS=... python -m pytest tests/mastodon/test_questions.py --record
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlencode, urlsplit

from .client import Answer, ask
from .conftest import DOMAIN

FILE = Path(__file__).parent / "questions.txt"
SERIES = ("4.5", "4.6", "4.7")
SOCKET = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@dataclass(frozen=True)
class Known:
    """What is written down of an answer."""

    status: str
    type: str
    cache: str
    to: str

    @classmethod
    def of(cls, answer: Answer) -> Known:
        location = urlsplit(answer.headers.get("location", ""))
        return cls(
            str(answer.status),
            answer.headers.get("content-type", "-").partition(";")[0].strip() or "-",
            re.sub(r"\s", "", answer.headers.get("cache-control", "-")),
            location.path + (f"?{location.query}" if location.query else "") or "-",
        )


@dataclass(frozen=True)
class Question:
    who: str
    what: str
    known: tuple[Known, ...] = ()

    def ask(
        self,
        people: Mapping[str, Mapping[str, str]],
        hosts: Mapping[str, str],
        things: Mapping[str, str],
        number: int,
    ) -> Answer:
        words = re.sub(r"{(\w+)}", lambda found: things[found[1]], self.what).split(" ")
        where = words.pop(0) if words[0] in hosts else "WEB"
        method, target, *rest = words
        headers = {
            "Host": DOMAIN,
            "X-Forwarded-Proto": "https",
            # Each question from an address of its own: the limits count addresses.
            "X-Forwarded-For": f"198.51.{number // 250}.{number % 250 + 1}",
            **people[self.who],
            **(SOCKET if where == "SOCKET" else {}),
        }
        fields: list[tuple[str, str]] = []
        body = None
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
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        return ask(
            hosts[where],
            method,
            target,
            headers,
            body if body is not None or method in ("GET", "HEAD") else "",
        )


def read() -> list[str | Question]:
    """Questions, and the lines between them as they are."""
    found: list[str | Question] = []
    for line in FILE.read_text().splitlines():
        if not line or line.startswith("#"):
            found.append(line)
            continue
        who, what, *answers = re.split(r"\s{2,}", line.strip())
        columns = [column.split("|") for column in answers]
        known = tuple(
            Known(*(column[index] if len(column) > 1 else column[0] for column in columns))
            for index in range(len(SERIES) if answers else 0)
        )
        found.append(Question(who, what, known))
    return found


def write(lines: list[str | Question]) -> None:
    def text(line: str | Question) -> str:
        if isinstance(line, str):
            return line
        columns = [
            [str(getattr(known, name)) for known in line.known] for name in ("status", "type", "cache", "to")
        ]
        joined = [column[0] if len(set(column)) == 1 else "|".join(column) for column in columns]
        return f"{line.who:8}{line.what:80}  {joined[0]:12}  {joined[1]:28}  {joined[2]:44}  {joined[3]}".rstrip()

    FILE.write_text("\n".join(text(line) for line in lines) + "\n")
