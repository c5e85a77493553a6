"""Pictures to upload, and what the object store has of them."""

from __future__ import annotations

import os
import ssl
import struct
import zlib

import httpx

from lab.config import Lab


def picture(width: int = 1, height: int = 1) -> bytes:
    """A PNG of random pixels: about 3 bytes each, since noise cannot be compressed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    lines = b"".join(b"\0" + os.urandom(3 * width) for _ in range(height))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines, 0))
        + chunk(b"IEND", b"")
    )


def size(png: bytes) -> tuple[int, int]:
    """Width and height: Mastodon writes a picture anew, so its bytes do not stay."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def stored(lab: Lab, address: str) -> bytes:
    """What lies in the object store under the public address (URL) that Mastodon gave it."""
    url = httpx.URL(address)
    with httpx.Client(verify=ssl.create_default_context(cafile=str(lab.ca)), trust_env=False) as spaces:
        answer = spaces.get(
            url.copy_with(host=lab.address("spaces")),
            headers={"Host": url.netloc.decode()},
            extensions={"sni_hostname": url.host},
        )
    return answer.raise_for_status().content
