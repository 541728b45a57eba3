"""Code in the pages of docs/, run as a reader would run it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def snippets(page: str) -> dict[str, tuple[str, str]]:
    """Return language and code of the tested snippets of a page, by name, in order."""
    text = (DOCS / page).read_text()
    found = re.findall(r"<!-- tested: (\w+) -->\n```(\w+)\n(.*?)```", text, re.S)
    return {name: (language, code) for name, language, code in found}


def run_snippet(snippet: tuple[str, str], folder: Path, addresses: dict[str, str]) -> str:
    """Run a snippet in a folder and return what it printed.

    Args:
        snippet: language and code.
        folder: where it runs.
        addresses: what takes the place of the addresses that the page has.
    """
    language, code = snippet
    for written, real in addresses.items():
        code = code.replace(written, real)
    command = [sys.executable, "-P", "-c"] if language == "python" else ["sh", "-ec"]
    said = subprocess.run(
        [*command, code], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert said.returncode == 0, (code, said.stderr)
    return said.stdout
