"""Validates exchanges with openapi-core. Used through `lab.emulators.contract`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openapi_core import OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from openapi_core.templating.responses.exceptions import ResponseNotFound
from werkzeug.datastructures import Headers, ImmutableMultiDict

if TYPE_CHECKING:
    from lab.emulators.common import Call, Reply

_HOST = "https://emulator.invalid"

_SAMPLE = 10
"""Of a longer list, so many items are checked from each end: 200 droplets take 0.2 s otherwise."""


_OVERLAPS = {
    "cloudflare-fixed.json": (
        # a list without jdcloud_cidrs is valid under both alternatives
        "paths|/ips|get|responses|200|content|application/json|schema|allOf|1|properties|result",
        # a PATCH of, say, the comment alone is valid under every record type
        "components|schemas|dns-records_dns-record-without-data",
        "components|schemas|dns-records_dns-record-with-data",
    ),
}
"""Where a document says oneOf of alternatives that good exchanges match twice: read as anyOf."""


@functools.lru_cache(maxsize=8)
def _load(path: Path, server: str) -> OpenAPI:
    spec = json.loads(path.read_text())
    for steps in _OVERLAPS.get(path.name, ()):
        schema = functools.reduce(
            lambda node, step: node[int(step) if isinstance(node, list) else step], steps.split("|"), spec
        )
        schema["anyOf"] = schema.pop("oneOf")
    if spec["openapi"].startswith("3.1"):
        _translate_nullable(spec)
    spec["servers"] = [{"url": _HOST + server}]
    # tokens and scopes are the emulator's to refuse, in the vendor's words
    spec.pop("security", None)
    for parameter in spec["components"].get("parameters", {}).values():
        parameter["schema"] = _writable(spec, parameter.get("schema", {}))
    for operations in spec["paths"].values():
        operations.pop("servers", None)
        for operation in operations.values():
            if isinstance(operation, dict):
                operation.pop("security", None)
        # Cloudflare's text demands a body without a schema of every DELETE; no client sends one
        body = operations.get("delete", {}).get("requestBody", {})
        if not any("schema" in media for media in body.get("content", {}).values()):
            body.pop("required", None)
    return OpenAPI.from_dict(spec)


def _writable(spec: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter's schema without `readOnly`: it may share its schema with a property of an answer."""
    while "$ref" in schema:
        schema = functools.reduce(lambda node, step: node[step], schema["$ref"].split("/")[1:], spec)
    schema = {key: value for key, value in schema.items() if key != "readOnly"}
    for key in ("anyOf", "oneOf"):
        if key in schema:
            schema[key] = [_writable(spec, choice) for choice in schema[key]]
    return schema


def _translate_nullable(node: Any) -> None:
    """`nullable` is OpenAPI 3.0; SendGrid's text claims 3.1, where it says nothing, and means it."""
    if isinstance(node, dict):
        if node.pop("nullable", False) is True and isinstance(node.get("type"), str):
            node["type"] = [node["type"], "null"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            _translate_nullable(child)


class _Request:
    """A call as openapi-core wants to see it."""

    def __init__(self, call: Call) -> None:
        self.method = call.method.lower()
        self.host_url = _HOST
        self.path = call.path
        self.body = call.body or None
        self.content_type = call.headers.get("content-type", "application/json").partition(";")[0]
        self.parameters = RequestParameters(
            query=ImmutableMultiDict(call.query.multi_items()), header=Headers(dict(call.headers.items()))
        )


class _Response:
    def __init__(self, status: int, body: Any, headers: dict[str, str]) -> None:
        self.status_code = status
        self.headers = Headers(headers)
        self.content_type = "application/json"
        self.data = b"" if body is None else json.dumps(body).encode()


def checker(path: Path, server: str, *, errors_declared: bool) -> Callable[[Call, Reply | None], str | None]:
    """What checks a call, or the reply to it, against a document: it gives what is wrong, or None."""
    api = _load(path, server)

    def check(call: Call, reply: Reply | None) -> str | None:
        if call.method == "HEAD":
            return None
        request = _Request(call)
        try:
            if reply is None:
                api.validate_request(request)
            else:
                response = _Response(reply.status, _sample(reply.body), reply.headers)
                api.validate_response(request, response)
        except ResponseNotFound as error:
            if reply is not None and reply.status >= 400 and not errors_declared:
                return None
            return str(error)
        except OpenAPIError as error:
            return _explain(error)
        return None

    return check


def _sample(body: Any) -> Any:
    if not isinstance(body, dict):
        return body
    return {
        key: value[:_SAMPLE] + value[-_SAMPLE:]
        if isinstance(value, list) and len(value) > 2 * _SAMPLE
        else value
        for key, value in body.items()
    }


def _explain(error: BaseException) -> str:
    """The chain of an openapi-core error, and the innermost schema errors, in one line."""
    parts: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        parts.append(str(seen) or type(seen).__name__)
        for schema_error in getattr(seen, "schema_errors", ()) or ():
            parts.extend(_schema_lines(schema_error))
        seen = seen.__cause__
    return "; ".join(dict.fromkeys(" ".join(part.split())[:300] for part in parts))


def _schema_lines(error: Any, depth: int = 0) -> list[str]:
    where = "/".join(str(step) for step in error.absolute_path)
    lines = [f"{where or '(body)'}: {error.message[:300]}"]
    if depth < 3:
        for inner in error.context or ():
            lines.extend(_schema_lines(inner, depth + 1))
    return lines
