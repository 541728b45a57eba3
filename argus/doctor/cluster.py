"""A coordinator that should be there."""

from __future__ import annotations

import time
from collections.abc import Iterator

import argus
from argus.client import Client
from argus.doctor.clocks import check_skew
from argus.doctor.findings import Finding, failed, good, warning
from argus.errors import ArgusError, PermissionDeniedError, UnauthenticatedError

CHECK = "coordinator"


def check_coordinator(client: Client) -> Iterator[Finding]:
    """Ask a coordinator how it is, and compare clocks."""
    asked_unix_s, asked_s = time.time(), time.monotonic()
    try:
        status = client.status()
    except (PermissionDeniedError, UnauthenticatedError) as error:
        said = f"{client.server} answers, but not to this caller: {error}"
        yield warning(CHECK, said, "show an operator's key (--api-key-file) to learn more")
        return
    except ArgusError as error:
        yield failed(
            CHECK, str(error), "see that `argus up` or `argus coordinator` runs there, and TLS fits"
        )
        return
    # A wall clock that was set meanwhile must not pass for a long call.
    took_s = time.monotonic() - asked_s
    able = [node.hello.node for node in status.nodes if not node.draining]
    said = (
        f"{client.server} answers in {1000 * took_s:.0f} ms: version {status.argus_version}, up "
        f"{status.uptime_s:.0f} s, {len(able)} of {len(status.nodes)} nodes take work"
    )
    facts = {
        "server": client.server,
        "version": status.argus_version,
        "seconds": round(took_s, 4),
        "nodes": able,
    }
    if status.argus_version != argus.__version__:
        remedy = f"this is version {argus.__version__}: update the older one"
        yield warning(CHECK, said, remedy, **facts)
    elif not able:
        yield warning(CHECK, said, "start nodes: argus node --coordinator", **facts)
    else:
        yield good(CHECK, said, **facts)
    for node in status.nodes:
        if node.hello.argus_version not in ("", status.argus_version):
            yield warning(
                CHECK,
                f"node {node.hello.node} is of version {node.hello.argus_version}",
                f"update it to {status.argus_version}",
            )
    yield check_skew(asked_unix_s, asked_unix_s + took_s, status.now_unix_s)
