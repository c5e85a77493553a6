# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to this collection.
"""Fingerprints of the keys in an OpenPGP file (RFC 9580), without GnuPG, which a fresh droplet lacks."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

PUBLIC_KEY = 6
"""Tag of the packet that holds a primary key; subkeys have 14."""

_BLOCK = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----(.*?)-----END PGP PUBLIC KEY BLOCK-----", re.DOTALL
)


class KeyFileError(Exception):
    """The file holds no keys that can be read; the text says why."""


def dearmored(content: bytes) -> bytes:
    """The packets of a file, whether it is armored (text) or not."""
    if b"-----BEGIN PGP" not in content:
        return content
    packets = b""
    for block in _BLOCK.findall(content.replace(b"\r\n", b"\n")):
        # Headers of the armor end with an empty line; the last line, with `=`, is a checksum.
        body = block.partition(b"\n\n")[2]
        lines = [line for line in body.split() if not line.startswith(b"=")]
        try:
            packets += base64.b64decode(b"".join(lines), validate=True)
        except binascii.Error as error:
            raise KeyFileError(f"its armor is damaged ({error})") from None
    return packets


def _packet(content: bytes, at: int) -> tuple[int, int, int]:
    """Tag, where the body of the packet at `at` begins, and where it ends."""
    first = content[at]
    if not first & 0x80:
        raise KeyFileError("it is no OpenPGP file")
    if first & 0x40:
        tag, size = first & 0x3F, content[at + 1]
        if size < 192:
            begin, length = at + 2, size
        elif size < 224:
            begin, length = at + 3, ((size - 192) << 8) + content[at + 2] + 192
        elif size == 255:
            begin, length = at + 6, int.from_bytes(content[at + 2 : at + 6], "big")
        else:
            raise KeyFileError("it has a packet without a length")
    else:
        tag, octets = first >> 2 & 0x0F, {0: 1, 1: 2, 2: 4}.get(first & 0x03, 0)
        if not octets:
            raise KeyFileError("it has a packet without a length")
        begin = at + 1 + octets
        length = int.from_bytes(content[at + 1 : begin], "big")
    return tag, begin, begin + length


def fingerprints(content: bytes) -> list[str]:
    """Fingerprints (40 upper-case hexadecimal digits) of the primary keys in `content`, in their order.

    Raises KeyFileError where that is no key file.
    """
    packets, found, at = dearmored(content), [], 0
    while at < len(packets):
        try:
            tag, begin, end = _packet(packets, at)
        except IndexError:
            raise KeyFileError("it is cut off") from None
        if end > len(packets):
            raise KeyFileError("it is cut off")
        body = packets[begin:end]
        if tag == PUBLIC_KEY:
            if body[:1] != b"\x04":
                raise KeyFileError("it has a key of another version than 4")
            digest = hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body)  # noqa: S324  - the format's
            found.append(digest.hexdigest().upper())
        at = end
    if not found:
        raise KeyFileError("it holds no public key")
    return found
