"""Runs a command under the system-call filter of a systemd unit: `filtered.py UNIT COMMAND…`.

Nobody but systemd itself can start a unit, but its filter is libseccomp's; what is in its groups
`systemd-analyze` says.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from pathlib import Path

LIBRARY = "libseccomp.so.2"
ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | errno.EPERM


def calls_of(group: str) -> set[str]:
    """Return the system calls of a group such as @system-service, or the one call that it is."""
    if not group.startswith("@"):
        return {group}
    said = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True
    )
    lines = [line.strip() for line in said.stdout.splitlines()]
    names = [line for line in lines[1:] if line and not line.startswith("#")]
    return set().union(*(calls_of(name) for name in names))


def allowed(unit: Path) -> set[str]:
    """Return the system calls that a unit allows."""
    calls: set[str] = set()
    for line in unit.read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "SystemCallFilter":
            named = set().union(*(calls_of(group) for group in value.lstrip("~").split()))
            calls = calls - named if value.startswith("~") else calls | named
    return calls


def confine(calls: set[str]) -> None:
    """Let this process, and what it becomes, make these system calls only."""
    library = ctypes.CDLL(LIBRARY, use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(REFUSE)))
    for call in calls:
        number = library.seccomp_syscall_resolve_name(call.encode())
        # Below 0: this machine's kind of processor has no such call.
        if number >= 0:
            assert library.seccomp_rule_add(context, ctypes.c_uint32(ALLOW), number, 0) == 0
    assert library.seccomp_load(context) == 0


if __name__ == "__main__":
    confine(allowed(Path(sys.argv[1])))
    os.execv(sys.argv[2], sys.argv[2:])
