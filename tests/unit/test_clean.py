"""The one cleaning function for untrusted text, and its forms for one line, for Markdown and behind a prefix."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bisect_ai.report.untrusted_text import MARKS, code, defuse, fence, inline, one_line, quote_lines, show

SEEDED = settings(derandomize=True, max_examples=300)
TEXT = st.text(st.characters(exclude_categories=()), max_size=60)  # every code point, lone surrogates too
MARKDOWN_TEXT = st.text(st.sampled_from("`*_[]()<>#~&$!|@:/\\-+=.1 aw\n\t\u202e"), max_size=30)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain text, ünïcode, 退款, 👍", "plain text, ünïcode, 退款, 👍"),
        ("line\nand\ttab stay", "line\nand\ttab stay"),
        ("\x1b]52;c;ZXZpbA==\x07", r"\x1b]52;c;ZXZpbA==\x07"),
        ("over\rwrite", r"over\x0dwrite"),
        ("\x7f\x9b31m", r"\x7f\x9b31m"),
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
        ("zero\u200bwidth\u200d\ufeff\u00ad", r"zero\u200bwidth\u200d\ufeff\xad"),
        ("lines\u2028and\u2029paragraphs\x85", r"lines\u2028and\u2029paragraphs\x85"),
        ("tags\U000e0041", r"tags\U000e0041"),
        ("lone \ud83d surrogate", r"lone \ud83d surrogate"),
        ("filler\u3164 \u115f \u2800", r"filler\u3164 \u115f \u2800"),
        ("unassigned \u0378, private \ue000", r"unassigned \u0378, private \ue000"),
        ("12\u00a0%", "12\u00a0%"),
        ("::error::x", r"\x3a:error::x"),
        ("ok\n  ::add-mask::x", "ok\n  \\x3a:add-mask::x"),
        ("std::vector stays", "std::vector stays"),
        ("a ##vso[task.x]1 ##[error] ##teamcity[x]", r"a #\x23vso[task.x]1 #\x23[error] #\x23teamcity[x]"),
        ("section_start:1:x", r"\x73ection_start:1:x"),
        ("## a heading stays", "## a heading stays"),
    ],
)
def test_show(raw: str, shown: str) -> None:
    assert show(raw) == shown


@SEEDED
@given(TEXT)
def test_show_leaves_nothing_invisible_and_is_stable(text: str) -> None:
    shown = show(text)
    for character in shown:
        assert character in "\n\t" or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert show(shown) == shown
    assert shown.encode("utf-8").decode("utf-8") == shown


@SEEDED
@given(TEXT, st.integers(1, 20))
def test_a_limit_is_kept(text: str, limit: int) -> None:
    for cut in (show(text, limit=limit), one_line(text, limit=limit)):
        assert len(cut) <= limit
    assert show("x" * 30, limit=limit) == "x" * (limit - 1) + "…"
    assert show("x" * limit, limit=limit) == "x" * limit


def test_a_huge_text_is_cut_before_it_is_cleaned() -> None:
    assert len(show("\x1b" * 50_000_000, limit=100)) == 100


def test_piled_marks_become_visible() -> None:
    assert show("e" + "\u0301" * (MARKS + 2)) == "e" + "\u0301" * MARKS + r"\u0301\u0301"
    assert show("नि" + "é") == "नि" + "é"


class _Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class _Liar(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "\x1b[2J"


@pytest.mark.parametrize("value", [None, 3, 1.5, b"\x1b", {"a": "\x1b"}, ["\u202e"], ValueError("\x1b"), _Broken(), _Liar("a")])
def test_any_object_has_a_text(value: object) -> None:
    for clean in (show, one_line, quote_lines, inline, code, fence):
        text = clean(value)
        assert isinstance(text, str)
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert show(_Broken()) == "<_Broken without text>"


@SEEDED
@given(TEXT)
def test_one_line_is_one_line_and_no_command(text: str) -> None:
    line = one_line(text)
    assert len((line + "x").splitlines()) == 1
    assert "\t" not in line
    assert not re.match(r"\s*::", line)
    assert one_line(line) == line


def test_one_line_shows_breaks() -> None:
    assert one_line("a\r\nb\rc\n\td") == r"a\nb\rc\n d"


@SEEDED
@given(TEXT)
def test_quoted_lines_all_start_with_the_prefix(text: str) -> None:
    assert all(line.startswith("│ ") for line in quote_lines(text).split("\n"))
    assert quote_lines("a\nb", prefix="> ") == "> a\n> b"


def test_defuse_leaves_other_text_alone() -> None:
    page = "## verdict\n\n| a | b |\n  std::x\na :: b\n"
    assert defuse(page) == page
    assert defuse("x\n\t::debug::y") == "x\n\t\\x3a:debug::y"


def _types(markdown: str) -> list[str]:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    found = []
    for token in parser.parse(markdown):
        found.append(token.type)
        found.extend(child.type for child in token.children or () if child.type != "text")
    return found


PARAGRAPH = ["paragraph_open", "inline", "paragraph_close"]


@SEEDED
@given(MARKDOWN_TEXT)
def test_inline_is_one_paragraph_of_text_that_reads_like_the_data(text: str) -> None:
    written = inline(text)
    assert _types(written) in (PARAGRAPH, [])
    read = "".join(child.content for token in MarkdownIt().parse(written) for child in token.children or ())
    unlinked = (
        read.replace(r"\x40", "@").replace(r"\x2f", "/").replace(r"\x2e", ".").replace(r"\x23", "#").replace(r"\x7c", "|")
    )
    assert unlinked.replace(r"\x3a", ":") == one_line(text).strip().replace(r"\x3a", ":").replace(r"\x23", "#")


@SEEDED
@given(MARKDOWN_TEXT)
def test_inline_and_code_stay_in_their_table_cell(text: str) -> None:
    for written in (inline(text), code(text)):
        table = f"| a | b |\n| --- | --- |\n| {written} | end |\n"
        types = [kind for kind in _types(table) if kind != "code_inline"]
        assert types == list(_types("| a | b |\n| --- | --- |\n| x | end |\n"))
        assert "|" not in written


@SEEDED
@given(MARKDOWN_TEXT)
def test_code_is_one_code_span(text: str) -> None:
    assert _types("a " + code(text) + " b") in ([*PARAGRAPH[:2], "code_inline", PARAGRAPH[2]], PARAGRAPH)
    assert code(" \n") != code("")
    assert code("") == "(empty)"
    assert code("a`b``") == "``` a`b`` ```"


@SEEDED
@given(st.text(st.sampled_from("`~\n a|#"), max_size=40))
def test_fence_is_longer_than_any_inside(text: str) -> None:
    tokens = MarkdownIt("commonmark").parse(fence(text) + "\n\nafter")
    assert [token.type for token in tokens] == ["fence", *PARAGRAPH]
    assert tokens[0].content == text + "\n"


@pytest.mark.parametrize(
    ("raw", "written"),
    [
        ("customer_id became customerId", "customer_id became customerId"),
        ("ask @team about #12", r"ask \\x40team about \\x2312"),
        ("https://x.example www.x.example", r"https:\\x2f/x.example www\\x2ex.example"),
        ("a <b> [c](d) ![e](f) `g` *h* _i_", r"a \<b\> \[c\](d) \!\[e\](f) \`g\` \*h\* \_i\_"),
        ("- item", r"\- item"),
        ("12. item", r"12\. item"),
        ("    code", "code"),
        ("a | b", r"a \\x7c b"),
    ],
)
def test_inline_examples(raw: str, written: str) -> None:
    assert inline(raw) == written
