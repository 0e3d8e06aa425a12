"""README and guides say what is so: their commands exist and parse, the Python runs, the words are the code's, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bisect_ai.cli import main
from bisect_ai.cli.reading import GUIDES, TOPICS
from bisect_ai.queries.sample import FORMATS
from bisect_ai.report.vocabulary import MEANINGS
from bisect_ai.scoring.scorers import KINDS
from tests.docs.pages import ALL_PAGES, PAGES, README, ROOT, blocks

WORDS_A_SENTENCE = 20


def command_lines() -> list[list[str]]:
    """The arguments of every command of ours in a block, as a shell splits them."""
    joined = "\n".join(blocks("bash")).replace("\\\n", " ")
    lines = [line.strip() for line in joined.splitlines() if line.strip().startswith("bisect-ai ")]
    split = [shlex.split(line.partition(" > ")[0], comments=True) for line in lines]
    return [words[1:] for words in split]


def test_every_command_is_one_of_ours_and_every_one_of_ours_is_there() -> None:
    used = set(re.findall(r"bisect-ai (\w+)", " ".join(blocks("bash"))))
    assert used <= set(main.commands)
    assert set(main.commands) <= set(re.findall(r"bisect-ai (\w+)", README))


@pytest.mark.parametrize("words", command_lines(), ids=" ".join)
def test_every_command_line_is_one_that_the_command_takes(words: list[str]) -> None:
    with click.Context(main) as above:
        main.commands[words[0]].make_context(words[0], list(words[1:]), parent=above)


def test_there_are_many_command_lines() -> None:
    assert len(command_lines()) >= 30


def test_the_python_block_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "prompt alone causes the drop" in printed
    assert "('prompt',) ('prompt',)" in printed


def test_the_commands_of_the_two_promises_are_the_files_of_the_checkout() -> None:
    first, second, *_ = blocks("bash", README)
    assert first.strip().endswith("bisect-ai demo")
    assert second.strip() == "bash tests/run"
    assert "tests/run" in (ROOT / ".ci" / "run").read_text()


def test_every_scorer_kind_and_exit_code_is_named() -> None:
    for kind in KINDS:
        assert f"`{kind}`" in ALL_PAGES
    helped = CliRunner().invoke(main, ["--help"]).output
    for code in ("0", "2", "3", "4", "130"):
        assert re.search(rf"\b{code}\s", README)
        assert re.search(rf"\b{code}\s", helped)


def test_every_log_format_is_named() -> None:
    for name in FORMATS[1:]:
        assert f"`{name}`" in PAGES["logs"]


@pytest.mark.parametrize("name", PAGES)
def test_no_path_of_a_machine_is_in_the_text(name: str) -> None:
    assert not re.search(r"/(work|root|home|tmp)/", PAGES[name])


def test_the_readme_is_short_and_leads_to_every_guide() -> None:
    assert len(README.splitlines()) <= 180
    assert set(re.findall(r"\(bisect_ai/guides/([\w-]+)\.md\)", README)) == set(TOPICS)
    assert {path.stem for path in GUIDES.glob("*.md")} == set(TOPICS)


@pytest.mark.parametrize("name", PAGES)
def test_every_link_and_picture_is_there(name: str) -> None:
    folder = ROOT if name == "README" else GUIDES
    for link in re.findall(r"\]\(([^)#]+)\)", PAGES[name]):
        assert link.startswith("https://") or (folder / link).is_file(), link


def sentences(text: str) -> list[list[str]]:
    """The words of each sentence of the prose; blocks, tables, titles and comments have none."""
    prose = re.sub(r"```.*?```|<!--.*?-->", "\n\n", text, flags=re.DOTALL)
    lines = [
        "" if line.startswith(("|", "#", "!")) else re.sub(r"^\s*(?:-|\d\.) ", "\n\n", line) for line in prose.splitlines()
    ]
    joined = [" ".join(part.split()) for part in "\n".join(lines).split("\n\n")]
    return [words for part in joined for one in re.split(r"(?<=[.?!])\s", part) if (words := one.split())]


@pytest.mark.parametrize("name", PAGES)
def test_sentences_are_short_enough_to_be_read(name: str) -> None:
    told = sentences(PAGES[name])
    assert sum(map(len, told)) / len(told) <= WORDS_A_SENTENCE


def test_a_sentence_is_counted_to_its_end() -> None:
    assert [len(words) for words in sentences("# No\n\nOne two. Three\nfour five.\n\n- six\n- seven\n\n| eight |")] == [
        2,
        3,
        1,
        1,
    ]


def test_the_glossary_is_the_vocabulary_of_the_sentences() -> None:
    rows = "\n".join(f"| {word} | {meaning} |" for word, meaning in MEANINGS.items())
    assert f"<!-- glossary -->\n| word | means |\n|---|---|\n{rows}\n<!-- end of glossary -->" in PAGES["verdict"]


def test_every_number_of_the_card_is_explained_and_drawn() -> None:
    part = PAGES["verdict"].partition("## The numbers in plain words")[2].partition("\n## ")[0]
    explained = re.split(r"\n(?=\*\*“?\")", part)
    drawn = [each.split('"')[1] for each in explained if "```text" in each]
    assert [re.sub(r"[\d.]+", "N", each) for each in drawn] == [
        "falls from N % to N %",
        "N points (N % interval N to N)",
        "over N queries",
        "proved: less than N in N to be wrong",
        "measured N % (N to N), recovers all of the loss",
        "prompt breaks N %, mends N %, no cost is shown (-N to N)",
    ]


def test_the_matrix_of_the_logs_is_the_one_that_a_test_makes() -> None:
    made = (Path(__file__).parents[1] / "unit" / "log_matrix.md").read_text(encoding="utf-8")
    assert f"<!-- matrix -->\n{made}<!-- end of matrix -->" in PAGES["logs"]


def test_every_source_of_the_method_is_named_where_it_is_used() -> None:
    told = PAGES["method"].partition("## Sources")[2]
    sources = [one.strip() for row in re.findall(r"^\| .* \| (.*\d{4}) \|$", told, re.MULTILINE) for one in row.split(";")]
    assert len(sources) > 15
    code = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "bisect_ai" / "attribution").rglob("*.py"))
    plain = re.sub(r"[\s()]+", " ", code)
    assert [one for one in sources if one not in plain] == []
