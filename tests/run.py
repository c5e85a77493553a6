"""`make test`: runs the parts, keeps each one's output in tests/output/, closes with one line of totals.

Usage: run.py [PART ...] [--scenario NAME] [--lab NAME]. Parts in order: lint, unit, contract, machines,
mastodon, molecule, e2e. Two run only when they are named: vm boots virtual machines, which is slow where they
are emulated; real runs mastodon and e2e on a lab that is up and runs another Mastodon than the stand-in.
A part is a list of checks; a check is a command, or a pytest run whose own counts are added up. All run,
also after a failure; the exit code is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.vmstio.mastodon.plugins.module_utils._mastodon_version import Version

from lab.caller import as_root
from lab.made_images import MADE

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "tests" / "output"
PARTS = ("lint", "unit", "contract", "machines", "mastodon", "molecule", "e2e")
UNPRIVILEGED = {"lint", "unit", "contract"}
"""Parts that use no engine."""
VM_SCENARIOS = {"share"}
"""Molecule scenarios of the part vm."""
TAIL = 60
"""Lines of a failed check's output that are shown at once."""
TELLING = re.compile(r"(FAILED|ERROR) \S+::|E  |fatal: |CRITICAL ")
"""How lines begin that say what failed: pytest's, Ansible's, Molecule's."""


@dataclass(frozen=True)
class Check:
    """One command. `pytest` runs report their own counts, other commands count as one."""

    name: str
    command: tuple[str, ...]
    pytest: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    """Variables besides this program's own."""


@dataclass
class Totals:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other: Totals) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


OF_CODE = {0: Totals(passed=1), 77: Totals(skipped=1)}
"""What an exit code of a check that is no pytest run counts as; any other is a failure."""


def shell_scripts() -> list[str]:
    """Tracked files whose first line says they are for sh or bash; templates are not yet shell."""
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    found = []
    for name in files.split("\0"):
        path = ROOT / name
        if name and path.suffix != ".j2" and path.is_file() and not path.is_symlink():
            with path.open("rb") as stream:
                if stream.read(2) == b"#!" and stream.readline().rstrip().endswith(
                    (b"bash", b"/sh", b"env sh")
                ):
                    found.append(name)
    return found


def of_the_lab(name: str) -> Iterator[Check]:
    """The tests that run unchanged on every Mastodon, on the one of that lab, and on its images."""
    versions = made_versions(name)
    images = (("MASTODON_IMAGES", MADE), ("MASTODON_VERSIONS", ",".join(versions)))
    for folder, variables in (("mastodon", images), ("e2e", (("E2E_LAB", name),))):
        command = ("pytest", "-q", f"tests/{folder}")
        yield Check(f"pytest tests/{folder}", command, pytest=True, environment=variables)


def made_versions(name: str) -> list[str]:
    """Tags of the images that exec has made there: the newest of each series, the oldest series first."""
    found = subprocess.run(["lab", "--name", name, "images"], check=True, capture_output=True, text=True)
    newest: dict[tuple[int, int], Version] = {}
    for tag in found.stdout.split():
        version = Version.parse(tag.replace("_", "+"))
        if version.series not in newest or newest[version.series].is_older_than(version):
            newest[version.series] = version
    return [newest[series].image_tag for series in sorted(newest)]


def checks_of(part: str, scenario: str | None, lab: str | None = None) -> Iterator[Check]:
    if part == "lint":
        yield Check("ruff check", ("ruff", "check", "."))
        yield Check("ruff format", ("ruff", "format", "--check", "."))
        yield Check("mypy", ("mypy", "lab", "plugins", "roles", "scripts", "tests"))
        yield Check("yamllint", ("yamllint", "--strict", "."))
        yield Check("ansible-lint", ("ansible-lint", "--offline", "--profile", "production", "-q"))
        yield Check("shellcheck", ("shellcheck", "--severity=style", *shell_scripts()))
        yield Check("changelog", ("antsibull-changelog", "lint"))
        yield Check("plugin documentation", ("scripts/lint-docs",))
        yield Check("ansible-test sanity", ("scripts/sanity",))
    elif part in {"unit", "contract"}:
        path = f"tests/{part}"
        coverage = ("--cov",) if part == "unit" else ()
        yield Check(f"pytest {path}", ("pytest", "-q", "-n", "2", path, *coverage), pytest=True)
        if part == "contract":
            yield Check("plugins through prism", ("scripts/prism-check",))
    elif part == "molecule":
        scenarios = (
            {scenario}
            if scenario
            else {path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")} - VM_SCENARIOS
        )
        for name in sorted(scenarios):
            yield Check(f"molecule {name}", ("molecule", "test", "--scenario-name", name))
    elif part == "real":
        yield from of_the_lab(lab or "lab")
    elif part == "vm":
        yield Check("pytest tests/vm", ("pytest", "-q", "-x", "tests/vm"), pytest=True)
        for name in sorted(VM_SCENARIOS):
            yield Check(f"molecule {name}", ("molecule", "test", "--scenario-name", name))
    else:
        yield Check(f"pytest tests/{part}", ("pytest", "-q", "-x", f"tests/{part}"), pytest=True)


def counts(report: Path) -> Totals:
    """Totals of a JUnit report; a run that left none, or that found no test, is one failure."""
    if not report.exists():
        return Totals(failed=1)
    totals = Totals()
    for suite in ET.parse(report).getroot().iter("testsuite"):
        number = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
        failed = number["failures"] + number["errors"]
        totals.add(Totals(number["tests"] - failed - number["skipped"], failed, number["skipped"]))
    return totals if totals != Totals() else Totals(failed=1)


def told(log: str, most: int = 12) -> list[str]:
    """The last lines of a failed check's output that say what failed; its very last ones where none does."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    return ([line for line in lines if TELLING.match(line)] or lines)[-most:]


def run(check: Check, failures: list[str]) -> Totals:
    """`failures`: gets what shall be said again at the end, where nobody has to search for it."""
    slug = "".join(c if c.isalnum() else "-" for c in check.name)
    log, report = OUTPUT / f"{slug}.log", OUTPUT / f"{slug}.xml"
    report.unlink(missing_ok=True)
    command = [*check.command, *([f"--junitxml={report}"] if check.pytest else [])]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MOLECULE_GLOB": "molecule/*/molecule.yml",
        "ANSIBLE_INJECT_FACT_VARS": "false",
        "NO_COLOR": "1",
        "COLUMNS": "200",  # so wide are pytest's lines about failures
        **dict(check.environment),
    }
    started = time.monotonic()
    print(f"{check.name} ...", flush=True)
    with log.open("w") as stream:
        code = subprocess.run(
            command, check=False, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT
        ).returncode
    totals = counts(report) if check.pytest else OF_CODE.get(code, Totals(failed=1))
    if code not in OF_CODE and not totals.failed:
        totals.failed = 1  # e.g. the coverage floor, or an error outside any test
    took = time.monotonic() - started
    word = "ok" if totals.passed else "FAILED" if totals.failed else f"skipped. {log.read_text().strip()}"
    print(f"{check.name}: {totals if check.pytest else word} ({took:.0f} s)", flush=True)
    if totals.failed:
        output = log.read_text(errors="replace")
        print(f"--- the end of {log.relative_to(ROOT)}:")
        print("\n".join(output.splitlines()[-TAIL:]))
        print("---", flush=True)
        failures += [f"{check.name} FAILED:", *(f"  {line}" for line in told(output))]
    return totals


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "part", nargs="*", choices=[*PARTS, "vm", "real", []], help=f"default: all, {', '.join(PARTS)}"
    )
    parser.add_argument("--scenario", help="one molecule scenario instead of all")
    parser.add_argument("--lab", help="the lab of part real")
    arguments = parser.parse_args()
    if not set(arguments.part or PARTS) <= UNPRIVILEGED:
        as_root()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    totals = Totals()
    failures: list[str] = []
    for part in arguments.part or PARTS:
        for check in checks_of(part, arguments.scenario, arguments.lab):
            totals.add(run(check, failures))
    print(*failures, sep="\n", end="\n" if failures else "")
    print(f"took {(time.monotonic() - started) / 60:.1f} minutes")
    print(totals)
    return 1 if totals.failed else 0


if __name__ == "__main__":
    sys.exit(main())
