"""How long is searched: little in `make test`, long in `make fuzz`.

The latter gives `--hypothesis-profile=fuzz`.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fuzz",
    max_examples=10_000,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
