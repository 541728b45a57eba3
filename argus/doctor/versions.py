"""Python and the packages, against what the installation itself asks for."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution, version

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from argus.doctor.findings import Finding, failed, good, warning

DISTRIBUTION = "argus-serve"
CHECK = "packages"


def check_python(wanted: str, running: str = sys.version.split()[0]) -> Finding:
    """Compare the running Python with what is asked for.

    Args:
        wanted: a version specifier, such as `>=3.11`; empty: any.
        running: its version.
    """
    # A release candidate of a version is that version to whoever runs it.
    if SpecifierSet(wanted).contains(running.rstrip("+"), prereleases=True):
        return good("python", f"{running} at {sys.executable}", version=running)
    return failed(
        "python", f"{running} at {sys.executable}", f"install Python {wanted}", version=running
    )


def check_versions() -> Iterator[Finding]:
    """Check Python and every package that the installed distribution names."""
    try:
        installed = distribution(DISTRIBUTION)
    except PackageNotFoundError:
        yield check_python("")
        yield warning(
            CHECK,
            f"{DISTRIBUTION} is not installed, so nothing says which versions it needs",
            "pip install, in the folder that holds setup.py",
        )
        return
    wanted = installed.metadata.get_all("Requires-Python") or [""]
    yield check_python(wanted[0])
    yield from check_packages(installed.requires or ())


def check_packages(requirements: Iterable[str]) -> Iterator[Finding]:
    """Check packages against requirements as a distribution's metadata states them.

    One that is needed must be there in a fitting version; one that only an extra needs may be
    missing, but must fit where it is there.
    """
    fitting = 0
    wrong: list[Finding] = []
    extras: set[str] = set()
    seen: set[str] = set()
    for text in requirements:
        requirement = _parsed(text)
        if requirement is None:
            wrong.append(warning(CHECK, f"{text!r} cannot be read", "install the package anew"))
            continue
        needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        # An extra that names the same package as another says the same of it.
        if not needed and (requirement.name in seen or not _concerns(requirement)):
            continue
        seen.add(requirement.name)
        found = _version(requirement.name)
        if found is not None and requirement.specifier.contains(found, prereleases=True):
            fitting += needed
            if not needed:
                extras.add(requirement.name)
        elif needed or found is not None:
            wrong.append(_unfit(requirement, found, needed))
    yield from wrong
    message = f"{fitting} fit what {DISTRIBUTION} asks for"
    if extras:
        message += f", and {len(extras)} of its extras: {', '.join(sorted(extras))}"
    if not wrong:
        yield good(CHECK, message, fitting=fitting, extras=sorted(extras))


def _parsed(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _concerns(requirement: Requirement) -> bool:
    """Whether some extra asks for it on this system."""
    marker = requirement.marker
    if marker is None:
        return True
    names = [part.partition('"')[2].partition('"')[0] for part in str(marker).split("extra ==")[1:]]
    return any(marker.evaluate({"extra": name}) for name in names)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _unfit(requirement: Requirement, found: str | None, needed: bool) -> Finding:
    wanted = f"{requirement.name}{requirement.specifier}"
    facts = {"package": requirement.name, "wanted": str(requirement.specifier), "found": found}
    if found is None:
        return failed(CHECK, f"{requirement.name} is missing", f"pip install '{wanted}'", **facts)
    say = failed if needed else warning
    return say(CHECK, f"{requirement.name} {found}", f"pip install '{wanted}'", **facts)
