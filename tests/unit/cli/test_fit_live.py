"""`argus fit --from-live` before anything is loaded."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from argus.cli.main import app


def test_a_folder_that_is_none_is_named_by_its_flag(tmp_path: Path) -> None:
    arguments = ["fit", "--profile", str(tmp_path), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*arguments, "--from-live", str(tmp_path / "none")])
    assert result.exit_code != 0
    assert str(result.exception).startswith("--from-live: ")
