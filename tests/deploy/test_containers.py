"""The container files: linted, and what they copy is enough to install from."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest

import argus
from tests.deploy.command_line import DEPLOY, ROOT, parsed

FOLDER = DEPLOY / "containers"
FILES = ("Containerfile", "Containerfile.cuda")
BOTH = pytest.mark.parametrize("name", FILES)


def instructions(name: str) -> list[tuple[str, str]]:
    """Return the instructions of a file, each with what follows it on one line."""
    lines = [line for line in (FOLDER / name).read_text().splitlines() if line[:1] != "#"]
    joined = "\n".join(lines).replace("\\\n", " ")
    words = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(word, " ".join(rest.split())) for word, rest in words]


@BOTH
def test_hadolint_finds_nothing(name: str) -> None:
    said = subprocess.run(
        [
            *(Path(sys.executable).with_name("hadolint"), "--config", FOLDER / "hadolint.yaml"),
            FOLDER / name,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout


@BOTH
def test_the_last_stage_runs_argus_as_nobody_in_particular(name: str) -> None:
    found = instructions(name)
    last = max(n for n, (word, _) in enumerate(found) if word == "FROM")
    stage = dict(found[last:])
    assert stage["USER"] == "10001:10001"
    assert stage["ENTRYPOINT"] == '["argus"]'
    assert stage["COPY"] == "--from=build /opt/argus /opt/argus"
    command, options = parsed(json.loads(stage["CMD"]))
    assert command == "up"
    assert options.get("device") == ("cuda" if name.endswith("cuda") else None)
    assert not any(word.split("=")[0].startswith("ARGUS_") for word in shlex.split(stage["ENV"]))


def copied(name: str) -> list[str]:
    """Return what a file takes from the repository."""
    sources = [rest.split()[:-1] for word, rest in instructions(name) if word == "COPY"]
    return [source for s in sources for source in s if not s[0].startswith("--from")]


@BOTH
def test_what_is_copied_is_sent_to_the_builder(name: str) -> None:
    lines = (FOLDER / f"{name}.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert kept == set(copied(name))
    assert "*" in lines


def test_what_is_copied_is_enough_to_install_from(tmp_path: Path) -> None:
    """The wheel has every file of the package that is in the repository."""
    assert copied(FILES[0]) == copied(FILES[1])
    context = tmp_path / "src"
    context.mkdir()
    for source in copied(FILES[0]):
        if (ROOT / source).is_dir():
            shutil.copytree(
                ROOT / source,
                context / source,
                ignore=shutil.ignore_patterns("__pycache__", "*.so"),
            )
        else:
            shutil.copy(ROOT / source, context)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            tmp_path,
            ".",
        ],
        cwd=context,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert argus.__version__ in wheel.name
    packed = set(zipfile.ZipFile(wheel).namelist())
    for source, target in (
        ("argus", "argus"),
        ("kernels", "argus/kernels"),
        ("models", "argus/models"),
    ):
        listed = subprocess.run(
            ["git", "ls-files", source], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for file in listed.stdout.splitlines():
            inside = f"{target}{file.removeprefix(source)}"
            if not any(fnmatch(inside, p) for p in ("*.md", "*.png", "*/tests/*", "*.gitignore")):
                assert inside in packed


def test_the_kernels_compiler_is_the_one_of_the_extra() -> None:
    """Its packages are named once in setup.py and once in the container file."""
    setup = (ROOT / "setup.py").read_text()
    runs = " ".join(rest for word, rest in instructions("Containerfile.cuda") if word == "RUN")
    named = [word for word in shlex.split(runs) if word.startswith("nvidia-")]
    assert len(named) == 5
    for package in named:
        assert f'"{package}"' in setup
