"""`bisect-ai guide` lists the pages and prints one, for a person or for a pipe."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from bisect_ai.cli import main, reading
from bisect_ai.cli.reading import TOPICS, page_of


def guide(*words: str) -> Result:
    return CliRunner().invoke(main, ["guide", *words])


def test_without_a_topic_it_lists_every_page_with_its_title() -> None:
    lines = guide().output.splitlines()
    assert [line.split()[0] for line in lines] == list(TOPICS)
    assert "Reading a verdict" in lines[TOPICS.index("verdict")]


@pytest.mark.parametrize("topic", TOPICS)
def test_in_a_pipe_a_page_is_its_text_without_pictures_and_comments(topic: str) -> None:
    done = guide(topic)
    assert done.exit_code == 0
    assert "\x1b" not in done.output and "![" not in done.output and "<!--" not in done.output
    assert done.output.startswith(page_of(topic).partition("\n")[0])
    assert done.output.splitlines()[-1] == page_of(topic).rstrip().splitlines()[-1] or topic == "verdict"


def test_the_beginning_of_a_name_is_enough() -> None:
    assert guide("ver").output == guide("verdict").output == guide("VERDICT").output


def test_on_a_terminal_it_is_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "colourful", lambda: True)
    shown = CliRunner().invoke(main, ["guide", "limits"], color=True).output
    assert "\x1b[" in shown and "# What it does not do" not in shown and "What it does not do" in shown


@pytest.mark.parametrize(
    ("topic", "why"), [("nonsense", "none begins so"), ("c", "it could be compare or canary or configuration or code")]
)
def test_a_topic_that_is_none_is_one_line_that_names_those_there_are(topic: str, why: str) -> None:
    done = guide(topic)
    assert done.exit_code == 2
    assert done.output.count("\n") == 1 and why in done.output and "first-incident" in done.output
