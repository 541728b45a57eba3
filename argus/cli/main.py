"""The `argus` command: one readable line for every error; daemons log a bug's traceback."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from argus import __version__
from argus.cli.cache import app as cache_app
from argus.cli.coordinator import coordinator
from argus.cli.doctor import doctor
from argus.cli.drain import drain
from argus.cli.fit import fit
from argus.cli.gateway import gateway
from argus.cli.generate import generate
from argus.cli.health import health
from argus.cli.keys import app as keys_app
from argus.cli.logs import last_word
from argus.cli.node import node
from argus.cli.profile import profile
from argus.cli.ray import ray
from argus.cli.simulate import simulate
from argus.cli.status import status
from argus.cli.top import top
from argus.cli.up import up
from argus.cli.variants import app as variants_app
from argus.cli.workload import app as workload_app
from argus.errors import ArgusError, InvalidArgumentError, NotFoundError

FAILED = 1
BAD_ARGUMENTS = 2

app = typer.Typer(
    name="argus",
    help="Serves text-to-image diffusion models, step by step.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    up,
    generate,
    status,
    health,
    top,
    drain,
    doctor,
    profile,
    fit,
    simulate,
    coordinator,
    node,
    gateway,
    ray,
):
    app.command()(command)
app.add_typer(cache_app, name="cache")
app.add_typer(keys_app, name="keys")
app.add_typer(variants_app, name="variants")
app.add_typer(workload_app, name="workload")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"argus {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Serves text-to-image diffusion models, step by step."""


def main() -> None:
    """Run the command line; exits with 0, 1 (failed) or 2 (bad arguments)."""
    try:
        # Whatever the process is called, as `python -m` calls it.
        app(prog_name="argus")
    except (InvalidArgumentError, NotFoundError) as error:
        _fail(str(error), BAD_ARGUMENTS)
    except ArgusError as error:
        _fail(str(error), FAILED)
    except asyncio.CancelledError:
        _fail("ended by a second signal, without waiting for what was running", FAILED)
    except Exception as error:
        _fail(f"internal error: {type(error).__name__}: {error}", FAILED)


def _fail(message: str, code: int) -> None:
    last_word(message)
    sys.exit(code)


if __name__ == "__main__":
    main()
