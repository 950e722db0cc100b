"""``cytolibra view``: opens a folder of reports as a reading room in the browser."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs import ConfigError
from scripts.given import refuse_but

if TYPE_CHECKING:
    from pipeline.review.server.serving import ViewSettings

NEEDS = ("fastapi", "uvicorn", "argon2")
"""What the extra ``view`` brings."""


def view(
    context: typer.Context,
    reports: Annotated[
        Path,
        typer.Argument(metavar="REPORTS", help="Folder that screen wrote.", show_default=False),
    ],
    slides: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where slides are that have moved since."),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="HOST", help="Address to listen at; any but this machine's own needs --users."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            help="Port; 0 for a free one. Without it the last one of this folder, else a free one.",
            min=0,
            max=65535,
            show_default=False,
        ),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Show everything, write nothing.")
    ] = False,
    users: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Who may come in, by password; see --add-user."),
    ] = None,
    tls: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="CERT KEY", help="Certificate and its key, PEM: serve by https."),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name that browsers may call this server by, beside "
            "the machine's own; may be repeated.",
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the browser.")
    ] = True,
    add_user: Annotated[
        str | None,
        typer.Option(
            "--add-user",
            metavar="NAME",
            help="Ask for a password, write it to the file given in place of REPORTS, and end.",
        ),
    ] = None,
) -> None:
    """Opens a folder of reports as a reading room in the browser.

    Work list, cells, slides and decisions. Decisions are kept in reviews.sqlite beside the reports.
    The address that is printed lets a browser in; it holds for this server only. Ctrl-C ends it.

    Exit codes: 0 ended by Ctrl-C, 1 the reviews can't be used, 2 the call is wrong or the port or
    folder is taken.

    Research use only. Not a medical device; not for diagnosis. Findings require review by a
    qualified cytologist.
    """
    missing = [one for one in NEEDS if importlib.util.find_spec(one) is None]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} is not installed here, and cytolibra view needs it: "
            'pip install "cytolibra[view]"'
        )
    if add_user is not None:
        refuse_but(
            context, {"reports", "add_user"}, "of the server, which --add-user does not start"
        )
        _add_user(reports, add_user)
        return
    from pipeline.review.server.serving import ViewSettings

    _serve(
        ViewSettings(
            reports=reports,
            slides=slides,
            host=host,
            port=port,
            read_only=read_only,
            users=users,
            tls=tls,
            names=tuple(name or ()),
        ),
        browser,
    )


def _serve(settings: ViewSettings, browser: bool) -> None:
    from pipeline.review.server.serving import (
        address,
        ended_by_signals,
        open_browser,
        open_room,
        serve,
    )

    with ended_by_signals(), open_room(settings) as (room, listening, told):
        for line in told:
            typer.echo(f"warning: {line}", err=True)
        url = address(settings, room, listening.getsockname()[1])
        count = len(room.catalogue)
        typer.echo(f"{count} slide{'' if count == 1 else 's'} at {url}")
        typer.echo("Research use only. Ctrl-C ends it.")
        sys.stdout.flush()
        serve(room, listening, settings, (lambda: open_browser(url)) if browser else None)
    typer.echo("ended; every decision is kept")
    _leave()


def _leave() -> None:
    """Ends the process: a slide that is just being decoded would be waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _add_user(path: Path, name: str) -> None:
    from pipeline.review.server.users import add_user

    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; --add-user takes the file of users")
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    new = add_user(path, name, password)
    typer.echo(f"{path}: {'added' if new else 'changed the password of'} {name}")
