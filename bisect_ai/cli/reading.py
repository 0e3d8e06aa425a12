"""The commands to begin with: the guides, the schema of bisect.yaml, what a shell needs to complete commands, and starter files."""

from __future__ import annotations

import re
from pathlib import Path

import click

from bisect_ai.cli.group import colourful, main, say, width
from bisect_ai.errors import BisectError, nearest
from bisect_ai.provider.redaction import redact
from bisect_ai.report.untrusted_text import one_line

GUIDES = Path(__file__).parents[1] / "guides"
# The guides in the order in which a new reader may want them; a test holds that these are the files.
TOPICS = (
    *(
        "first-incident",
        "releases",
        "logs",
        "targets",
        "tools",
        "scorers",
        "verdict",
        "fixes",
        "compare",
        "audits",
        "canary",
        "drift",
    ),
    *("python", "configuration", "method", "security", "limits", "code", "changelog"),
)
# What a terminal has no use for: comments and pictures.
_LEFT_OUT = re.compile(r"^(?:<!--.*?-->|!\[[^\n]*\]\([^\n]*\))\n+", re.MULTILINE)


@main.command(short_help="Print a guide, or list them.")
@click.argument("topic", required=False)
def guide(topic: str | None) -> None:
    """Print the guide to TOPIC, or list the topics. The beginning of a name is enough.

    On a terminal it is laid out; in a pipe it is plain text (Markdown).
    """
    if topic is None:
        wide = max(map(len, TOPICS))
        say("\n".join(f"{name:<{wide}}  {guide_title(name)}" for name in TOPICS))
        return
    text = _LEFT_OUT.sub("", page_of(topic_named(topic)))
    say(_laid_out(text) if colourful() else text.rstrip())


@main.command(short_help="Print the JSON Schema of bisect.yaml.")
def schema() -> None:
    """Print the JSON Schema of bisect.yaml, by which editors complete and check it."""
    from bisect_ai.cli.starter import schema_text

    say(schema_text(), nl=False)


@main.command(short_help="Print what a shell needs to complete commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script by which SHELL completes commands and options.

    bash, zsh: eval "$(bisect-ai completion bash)" in its start file; fish: bisect-ai completion fish | source
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None, "click has all three"
    say(made(main, {}, "bisect-ai", "_BISECT_AI_COMPLETE").source())


@main.command(short_help="Write a commented bisect.yaml to start from.")
@click.argument("places", metavar="[FOLDER]", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--from",
    "sources",
    metavar="FILE...",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Draft the files from this result file, trace file or promptfoo config; may be repeated.",
)
@click.option("--good", metavar="NAME", help="Configuration that becomes the good release, for --from.  [default: the first]")
@click.option("--bad", metavar="NAME", help="Configuration that becomes the bad release, for --from.  [default: the last]")
@click.option(
    "--ci",
    type=click.Choice(["github", "gitlab", "cron", "kubernetes"]),
    help="Write only a recipe for scheduled audits (github, gitlab: and for gates) into FOLDER.",
)
def init(places: tuple[Path, ...], sources: tuple[Path, ...], good: str | None, bad: str | None, ci: str | None) -> None:
    """Write a commented bisect.yaml, two releases and a sample log into FOLDER.

    With --from, write the two releases, the questions and the scorers from what was recorded (system prompt, tools, model and settings,
    retrieved documents), and say what could not be known.
    """
    if ci is not None:
        from bisect_ai.cli.starter import write_recipe

        if sources:
            raise BisectError("cannot do two things at once: --ci and --from are for one call each")
        say(write_recipe(ci, _folder_of(places)))
        return
    if not sources:
        from bisect_ai.cli.starter import write_starter

        say(write_starter(_folder_of(places)))
        return
    from bisect_ai.runs.draft import write_draft

    files = [place for place in places if place.is_file()]
    rest = tuple(place for place in places if not place.is_file())
    for line in write_draft([*sources, *files], _folder_of(rest), good=good, bad=bad):
        say(one_line(line))


def _folder_of(places: tuple[Path, ...]) -> Path:
    if len(places) > 1:
        raise BisectError(f"cannot write to {len(places)} places: {', '.join(map(str, places[:4]))}; name one folder")
    return places[0] if places else Path()


def topic_named(topic: str) -> str:
    """The one topic that begins so. Raises `BisectError` where none does, or several do."""
    wanted = topic.strip().lower()
    found = [name for name in TOPICS if name == wanted] or [name for name in TOPICS if name.startswith(wanted)]
    if len(found) != 1:
        near = nearest(wanted, TOPICS)
        meant = f"none begins so{f', {near!r} is near' if near else ''}"
        what = f"it could be {' or '.join(found)}" if found else meant
        raise BisectError(f"cannot print the guide {redact(topic)[:40]!r}: {what}; there are {', '.join(TOPICS)}")
    return found[0]


def page_of(topic: str) -> str:
    """A guide as it is written, in Markdown."""
    return (GUIDES / f"{topic}.md").read_text(encoding="utf-8")


def guide_title(topic: str) -> str:
    """The title of a guide: its first line."""
    return page_of(topic).partition("\n")[0].removeprefix("# ")


def _laid_out(text: str) -> str:
    """Markdown as a terminal shows it."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(width=width(), force_terminal=True)
    with console.capture() as shown:
        console.print(Markdown(text, hyperlinks=False))
    return shown.get().rstrip()
