"""The stubs checked in are the ones the protos give."""

from __future__ import annotations

from pathlib import Path

import argus
from argus.rpc.generate import generate

CHECKED_IN = Path(argus.__file__).parent / "v1"


def test_stubs_are_current(tmp_path: Path) -> None:
    generate(tmp_path)
    fresh = tmp_path / "argus" / "v1"
    names = {path.name for path in fresh.iterdir()}
    assert names == {p.name for p in CHECKED_IN.iterdir() if p.suffix in {".py", ".pyi"}}
    for name in sorted(names):
        assert (fresh / name).read_text() == (CHECKED_IN / name).read_text(), name
