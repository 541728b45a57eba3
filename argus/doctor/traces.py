"""Whether traces would arrive."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from urllib.parse import urlsplit

from argus.config import TracingConfig
from argus.doctor.findings import Finding, failed, good, warning

CHECK = "tracing"
PORTS = {"http": 80, "https": 443}
PATIENCE_S = 3.0


def check_tracing(config: TracingConfig) -> Finding:
    """Return whether OpenTelemetry is there and something listens at the endpoint."""
    if not config.endpoint:
        return good(CHECK, "off")
    said = f"{config.share:.0%} of the requests to {config.endpoint}"
    if not (find_spec("opentelemetry") and find_spec("opentelemetry.sdk")):
        remedy = "pip install 'argus-serve[otel]'"
        return failed(CHECK, f"{said}, and OpenTelemetry is missing", remedy)
    parts = urlsplit(config.endpoint)
    try:
        address = (parts.hostname or "", parts.port or PORTS[parts.scheme])
        socket.create_connection(address, timeout=PATIENCE_S).close()
    except (OSError, ValueError) as error:
        # Requests are served all the same.
        remedy = "start the collector, or correct tracing.endpoint"
        return warning(CHECK, f"{said}: {str(error).lower()}", remedy)
    return good(CHECK, said)
