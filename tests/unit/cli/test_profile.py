"""`argus profile` from folder to file, run as `main` runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from argus.cli.main import main
from argus.control.profile import CostProfile

CPU = ("--device", "cpu", "--threads", "1")


def profile(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of the command."""
    monkeypatch.setattr(sys, "argv", ["argus", "profile", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str]:
    """Return exit code and last line of stderr; nothing was printed on stdout."""
    code, out, err = profile(capsys, monkeypatch, *arguments)
    assert out == ""
    return code, err.splitlines()[-1]


def test_a_folder_is_measured_into_a_file_and_onto_stdout(
    tiny_folders: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "costs.json"
    model = ("--model", str(tiny_folders["tiny-eps"]))
    code, out, err = profile(
        *(capsys, monkeypatch, *model, *CPU, "--max-lanes", "2"),
        *("--sizes", "16x16, 32x16", "--out", str(file), "--json"),
    )
    assert (code, out) == (0, file.read_text())
    found = CostProfile.from_json(out, "costs.json")
    (variant,) = found.variants
    assert (variant.name, variant.pipeline) == ("tiny-eps", "StableDiffusionPipeline")
    assert [(s.width, s.height) for s in variant.sizes] == [(32, 32), (16, 16), (32, 16)]
    assert found.circumstances.command.startswith("argus profile --model ")
    assert (found.circumstances.device, found.circumstances.threads) == ("cpu", 1)
    assert "tiny-eps: loaded in " in err
    assert "tiny-eps: 32x16: decoding " in err


def test_a_folder_that_is_not_there_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = refused(capsys, monkeypatch, "--model", "no/such", "--json")
    assert (code, said) == (1, "argus: no/such: no such folder")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--out: name a file for the profile, or ask for --json"),
        (["--out", "no/costs.json"], "--out: cannot write 'no/costs.json': there is no folder"),
        (["--out", "."], "--out: cannot write '.': it is a folder"),
        (["--json", "--sizes", "32x"], "--sizes: must be WIDTHxHEIGHT"),
        (["--json", "--sizes", "32x32,"], "--sizes: must be WIDTHxHEIGHT"),
        (["--json", "--max-lanes", "1"], "--max-lanes: must be at least 2"),
        (["--json", "--dtype", "int8"], "--dtype: must be auto, float32"),
        (["--json", "--device", "tpu"], "--device: 'tpu' is"),
        (["--json", *CPU, "--sizes", "36x36"], "--sizes: variant tiny-eps makes multiples of 8"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(
    tiny_folders: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    folder = str(tiny_folders["tiny-eps"])
    code, said = refused(capsys, monkeypatch, "--model", folder, *arguments)
    assert code == 2
    assert said.startswith(f"argus: {words}")
