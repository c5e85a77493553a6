# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to this collection.
"""Keep container images pinned: a tag that was used once means the same digest for ever."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Run = Callable[[Sequence[str]], tuple[int, str, str]]
"""Runs a command: argument list -> (exit code, standard output, standard error)."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ImagesError(Exception):
    """An image is not what it must be, or cannot be had; the text says which and what to do."""


def repository(reference: str) -> str:
    """`host:5000/name` of `host:5000/name:tag`. Raises ImagesError where there is no tag."""
    name, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag or "@" in reference:
        raise ImagesError(f"image {reference!r}: name a tag (repository:tag), its digest is recorded")
    return name


def read_record(path: str) -> dict[str, str]:
    """The recorded digests, `reference -> sha256:...`; empty where there is no record yet."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            record = json.load(file)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ImagesError(f"{path}: not JSON ({error}); restore it or delete it") from error
    if not isinstance(record, dict) or not all(
        isinstance(key, str) and isinstance(value, str) and _DIGEST.fullmatch(value)
        for key, value in record.items()
    ):
        raise ImagesError(f"{path}: not a mapping of images to digests; restore it or delete it")
    return record


def write_record(path: str, record: Mapping[str, str]) -> None:
    handle, candidate = tempfile.mkstemp(prefix=".new-", dir=Path(path).parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)
            json.dump(record, file, indent=2, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(candidate).replace(path)
    except BaseException:
        Path(candidate).unlink()
        raise


@dataclass
class Result:
    digests: dict[str, str] = field(default_factory=dict)
    """What each image is pinned to; an image that a check could not pull is missing."""
    pulled: list[str] = field(default_factory=list)
    record: dict[str, str] = field(default_factory=dict)


def _present(run: Run, name: str, digest: str) -> bool:
    return run(["docker", "image", "inspect", "--format", "{{.Id}}", f"{name}@{digest}"])[0] == 0


def _pull(run: Run, reference: str) -> str:
    code, output, error = run(["docker", "pull", reference])
    if code:
        raise ImagesError(f"cannot pull {reference}: {error.strip() or output.strip()}")
    found = re.search(rf"^Digest: ({_DIGEST.pattern})$", output, re.MULTILINE)
    if not found:
        raise ImagesError(f"pulled {reference}, but the registry named no digest: {output.strip()}")
    return found.group(1)


def ensure(
    run: Run,
    references: Sequence[str],
    record: Mapping[str, str],
    *,
    expected: Mapping[str, str],
    accept_changed: bool,
    check: bool,
) -> Result:
    """Have every image at its recorded digest, and record those that are new.

    `expected` is what others say (reference -> digest); it goes before this host's own `record`.
    Raises ImagesError where a tag's digest is not the recorded one, unless `accept_changed`.
    """
    result = Result(record=dict(record))
    for reference in references:
        name = repository(reference)
        known = expected.get(reference) or record.get(reference)
        present = bool(known) and _present(run, name, str(known))
        if known and present and not accept_changed:
            result.digests[reference] = result.record[reference] = known
            continue
        if check:
            if known:
                result.digests[reference] = known
            result.pulled.append(reference)
            continue
        digest = _pull(run, reference)
        if known and digest != known and not accept_changed:
            raise ImagesError(
                f"{reference} is {digest} in the registry now, and shall be {known}, as it was first used. "
                "Somebody moved the tag. If that is wanted, run once with worker_accept_changed_images=true."
            )
        if digest != known or not present:
            result.pulled.append(reference)
        result.digests[reference] = result.record[reference] = digest
    return result


def prune(run: Run, references: Sequence[str], digests: Mapping[str, str]) -> list[str]:
    """Remove other images of the same repositories. The engine keeps those that still run, which is what a
    way back to the version before needs. Returns what was removed, as `repository@digest`."""
    wanted = {f"{repository(reference)}@{digest}" for reference, digest in digests.items()}
    removed = []
    for name in sorted({repository(reference) for reference in references}):
        listing = run(
            ["docker", "image", "ls", "--digests", "--format", "{{.Repository}}@{{.Digest}}", name]
        )[1]
        for image in sorted(set(listing.split()) - wanted):
            if _DIGEST.search(image) and run(["docker", "image", "rm", image])[0] == 0:
                removed.append(image)
    return removed
