"""The command that says what a clip's result looks like."""

from __future__ import annotations

import click


@click.command()
def schema() -> None:
    """Print the JSON Schema of a clip's result.

    It holds for 'edgeflow score --json' and for the rows of --csv (draft 2020-12).
    """
    from importlib.resources import files

    text = (files("edgeflow_runtime") / "schemas" / "clip_result.v1.json").read_text("utf-8")
    click.echo(text, nl=False)
