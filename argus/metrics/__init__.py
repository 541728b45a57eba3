"""Prometheus metrics: how they are put together and shown."""
