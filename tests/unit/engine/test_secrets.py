"""What a row is about stays out of the logs, even when its prompt breaks something."""

from __future__ import annotations

import pytest

from argus.engine.engine import Engine
from argus.engine.events import FailureReason, RowFailed

from .conftest import collect, make_request


def test_what_a_tokenizer_says_of_a_prompt_reaches_no_log(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def quote(text: str, *_: object) -> None:
        raise ValueError(f"cannot read {text!r}")

    monkeypatch.setattr(engine.adapters["tiny-eps"], "encode", quote)
    ((*_, last),) = collect(engine, [make_request("r", prompt="a heliotrope dodecahedron")])
    assert last == RowFailed(
        FailureReason.INTERNAL, "it could not be placed: the text could not be encoded: ValueError"
    )
    assert "could not be placed" in caplog.text
    assert "heliotrope" not in caplog.text
