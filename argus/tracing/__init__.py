"""Traces of requests across processes: off unless configured, and then by OpenTelemetry."""
