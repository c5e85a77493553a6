# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to this collection.
"""Keep container images pinned: a tag that was used once means the same digest for ever.

An image of a registry is run as `repository@sha256:...`. One that was made elsewhere and loaded from an OCI
layout has no such name in the engine; there its digest stands in the tag, `repository:sha256-...`.
"""

from __future__ import annotations

import hashlib
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


@dataclass(frozen=True)
class Layout:
    """A directory in the OCI image layout (image-spec 1.0). Each image in it is called as the last part of
    its repository."""

    path: str | None
    images: Sequence[str]
    """Which images come from it, as references."""

    def digest(self, reference: str) -> str:
        """Of the image's manifest. Raises ImagesError where it is not there, or not what its digest says."""
        name = repository(reference).rpartition("/")[2]
        if not self.path:
            raise ImagesError(f"{reference} is not on this host: name the layout that it can be loaded from")
        try:
            with Path(self.path, "index.json").open(encoding="utf-8") as file:
                entries = json.load(file)["manifests"]
            digest = next(
                str(entry["digest"])
                for entry in entries
                if entry["annotations"]["org.opencontainers.image.ref.name"] == name
            )
            content = Path(self.path, "blobs", "sha256", digest.removeprefix("sha256:")).read_bytes()
        except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
            raise ImagesError(f"{self.path} has no image {name}: {error!r}") from error
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise ImagesError(f"{self.path}: the manifest of {name} is damaged; run again to fetch it anew")
        return digest

    def load(self, run: Run, reference: str, digest: str) -> None:
        """Into the engine. skopeo compares every layer with the checksum that the manifest gives."""
        name = repository(reference)
        with tempfile.TemporaryDirectory(dir=self.path, prefix=".load-") as folder:
            archive = f"{folder}/image.tar"
            source = f"oci:{self.path}:{name.rpartition('/')[2]}"
            for command in (
                [
                    "skopeo",
                    "copy",
                    "--quiet",
                    source,
                    f"docker-archive:{archive}:{loaded_name(name, digest)}",
                ],
                ["docker", "load", "--quiet", "--input", archive],
            ):
                code, output, error = run(command)
                if code:
                    raise ImagesError(f"cannot load {reference}: {error.strip() or output.strip()}")


def loaded_name(name: str, digest: str) -> str:
    return f"{name}:{digest.replace(':', '-')}"


@dataclass
class Result:
    digests: dict[str, str] = field(default_factory=dict)
    """What each image is pinned to; an image that a check could not pull is missing."""
    pins: dict[str, str] = field(default_factory=dict)
    """What to run for each image: its name with the digest, where that is known."""
    pulled: list[str] = field(default_factory=list)
    record: dict[str, str] = field(default_factory=dict)


def _names(reference: str, digest: str) -> tuple[str, str]:
    """What the engine calls an image: pulled, and loaded. What is loaded is in no registry."""
    name = repository(reference)
    return f"{name}@{digest}", loaded_name(name, digest)


def _present(run: Run, reference: str, digest: str) -> bool:
    inspect = ["docker", "image", "inspect", "--format", "{{.Id}}"]
    return any(run([*inspect, name])[0] == 0 for name in _names(reference, digest))


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
    layout: Layout | None = None,
) -> Result:
    """Have every image at its recorded digest, and record those that are new.

    `expected` is what others say (reference -> digest); it goes before this host's own `record`. Images of
    `layout` are loaded from there, the others pulled. Raises ImagesError where a tag's digest is not the
    recorded one, unless `accept_changed`.
    """
    result = Result(record=dict(record))
    made = frozenset(layout.images) if layout else frozenset()

    def pin(reference: str, digest: str) -> str:
        loaded = reference in made
        return loaded_name(repository(reference), digest) if loaded else f"{reference}@{digest}"

    for reference in references:
        repository(reference)
        known = expected.get(reference) or record.get(reference)
        present = bool(known) and _present(run, reference, str(known))
        # What exec made has no other digest than the one that exec says.
        if known and present and (reference in made or not accept_changed):
            digest = known
        elif check:
            result.pulled.append(reference)
            if known:
                result.digests[reference] = known
            result.pins[reference] = pin(reference, known) if known else reference
            continue
        else:
            digest = _fetch(run, reference, known, layout if reference in made else None, accept_changed)
            if digest != known or not present:
                result.pulled.append(reference)
        result.digests[reference] = result.record[reference] = digest
        result.pins[reference] = pin(reference, digest)
    return result


def _fetch(run: Run, reference: str, known: str | None, layout: Layout | None, accept_changed: bool) -> str:
    """Have the image in the engine; its digest. Raises ImagesError where that is not `known`."""
    if layout:
        digest = layout.digest(reference)
        if known and digest != known:
            raise ImagesError(
                f"{layout.path} has {reference} as {digest}, and exec recorded {known}: it was made anew "
                "meanwhile. Run the playbook again, without --limit."
            )
        layout.load(run, reference, digest)
        return digest
    digest = _pull(run, reference)
    if known and digest != known and not accept_changed:
        raise ImagesError(
            f"{reference} is {digest} in the registry now, and shall be {known}, as it was first used. "
            "Somebody moved the tag. If that is wanted, run once with worker_accept_changed_images=true."
        )
    return digest


def prune(run: Run, references: Sequence[str], digests: Mapping[str, str]) -> list[str]:
    """Remove other images of the same repositories. The engine keeps those that still run, which is what a
    way back to the version before needs. Returns what was removed, by the engine's names."""
    wanted = {name for reference, digest in digests.items() for name in _names(reference, digest)}
    removed = []
    for name in sorted({repository(reference) for reference in references}):
        form = "{{.Repository}}@{{.Digest}}\n{{.Repository}}:{{.Tag}}"
        listing = run(["docker", "image", "ls", "--digests", "--format", form, name])[1]
        for image in sorted(set(listing.split()) - wanted):
            pinned = _DIGEST.search(image.replace(":sha256-", "@sha256:"))
            if pinned and run(["docker", "image", "rm", image])[0] == 0:
                removed.append(image)
    return removed
