"""The command `tiercel`."""

import sys
from typing import Annotated

from tiercel.errors import ConfigurationError

try:
    import typer

    from tiercel.server import LEFT_OUT, Served, serve
except ImportError as error:
    sys.exit(f"The command tiercel needs the package {error.name}. Install the extra: pip install 'tiercel[server]'.")

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="The caching layer for FastAPI.")


@app.callback()
def _commands() -> None: ...


@app.command("serve", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def _serve(  # noqa: PLR0913, PLR0917 - an option each
    context: typer.Context,
    application: Annotated[str, typer.Argument(metavar="MODULE:APP", help="As for uvicorn: main:app.")],
    workers: Annotated[
        int,
        typer.Option(
            envvar=["WEB_CONCURRENCY", "UVICORN_WORKERS"], min=1, help="Processes; they share what is cached."
        ),
    ] = 1,
    factory: Annotated[bool, typer.Option("--factory", help="APP is a function that makes the application.")] = False,  # noqa: FBT002 - typer's way
    outermost: Annotated[  # noqa: FBT002
        bool, typer.Option("--outermost", help="Hits are answered before middleware of the program's own, too.")
    ] = False,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD", help=f"A response field that is not stored, beside {', '.join(LEFT_OUT)}."),
    ] = None,
) -> None:
    """Serve an application by uvicorn, and answer hits where the bytes arrive.

    Every option of uvicorn may follow: `tiercel serve main:app --port 8000 --reload`; see `uvicorn --help`.
    """
    served = Served(app=application, factory=factory, left_out=(*LEFT_OUT, *(leave_out or ())), outermost=outermost)
    try:
        serve(served, context.args, workers=workers)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from None


def main() -> None:
    """Run the command."""
    app()
