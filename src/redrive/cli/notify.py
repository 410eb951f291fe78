"""`redrive notify test`: a message to each channel, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from redrive.cli.exits import CommandError, ExitCode
from redrive.cli.output import print_json, print_table
from redrive.cli.shared_flags import Config, Json, start
from redrive.notify.channel_trial import ChannelTrial, try_channels
from redrive.secret_values import is_reference, revealed

__all__ = ["app"]

app = typer.Typer(help="Notify people of dead letters.", no_args_is_help=True)


@app.command("test")
def try_all(
    url: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            help="Test only the channel whose URL is in `env:NAME` or `file:/path`. A URL is a "
            "secret, and command lines are visible to everyone on the host.",
        ),
    ] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Send a test message to each channel. Exits with 1 if a channel did not accept it."""
    settings = start(config, {})

    if url is not None and not is_reference(url):
        raise typer.BadParameter(
            "a URL is a secret, and command lines are visible to everyone on the host: put it "
            "into a variable or a file, and give env:NAME or file:/path",
            param_hint="--url",
        )
    named = {name: settings.notify.url(name) for name in settings.notify.urls}
    urls: Mapping[str, str] = named if url is None else {"--url": revealed(url, key="--url")}
    if not urls:
        raise CommandError(ExitCode.SETTINGS, "there is no channel: set notify.urls, or give --url")
    trials = try_channels(urls, limit_s=settings.notify.timeout.total_seconds())
    if as_json:
        print_json({name: _json(trial) for name, trial in trials.items()})
    else:
        rows = [[name, trial.service, trial.error or "sent"] for name, trial in trials.items()]
        print_table(["channel", "service", "outcome"], rows)
    if any(trial.error for trial in trials.values()):
        raise typer.Exit(ExitCode.ENDED_BADLY)


def _json(trial: ChannelTrial) -> dict[str, object]:
    return {"service": trial.service, "sent": trial.error is None, "error": trial.error}
