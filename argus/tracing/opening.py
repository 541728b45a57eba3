"""The tracer that settings ask for."""

from __future__ import annotations

import logging

from argus.config import TracingConfig
from argus.errors import ConfigError
from argus.tracing.spans import OFF, Tracer

log = logging.getLogger(__name__)

NEEDED = "needs OpenTelemetry: pip install 'argus-serve[otel]'"


def open_tracer(config: TracingConfig, service: str, instance: str = "") -> Tracer:
    """Return the tracer of a process; `OFF` where no endpoint is set.

    Args:
        config: where spans go.
        service: who traces, such as argus-node.
        instance: which one of several.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    if not config.endpoint:
        return OFF
    try:
        from argus.tracing.export import exporting_tracer
    except ImportError as error:
        raise ConfigError(f"tracing.endpoint: {NEEDED}") from error
    log.info("traces go to %s", config.endpoint)
    return exporting_tracer(config, service, instance)


def application_tracer() -> Tracer:
    """Return a tracer for the SDK inside an application that has set OpenTelemetry up itself.

    Requests become children of the application's current span, and go where its spans go.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.trace import get_tracer_provider

        from argus.tracing.otel import OtelTracer
    except ImportError as error:
        raise ConfigError(f"tracing: {NEEDED}") from error
    return OtelTracer(get_tracer_provider())
