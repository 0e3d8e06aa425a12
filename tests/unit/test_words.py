"""Words that differ between two texts are marked, and the pieces give the texts back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bisect_ai.report.examples import compared
from bisect_ai.report.untrusted_text import show

texts = st.text(alphabet=st.sampled_from("ab ._\n<"), max_size=60)


def marked(before: str, after: str) -> tuple[list[str], list[str]]:
    return tuple([piece.text for piece in side if piece.differs] for side in compared(before, after, limit=500))  # type: ignore[return-value]  # two sides


def test_the_renamed_field_is_marked_and_no_more() -> None:
    assert marked('use {"customer_id": 1} here', 'use {"customerId": 1} here') == (["customer_id"], ["customerId"])


def test_an_added_phrase_is_one_piece() -> None:
    assert marked("Prices are in euros.", "Prices are in euros and include tax.") == ([], [" and include tax"])


def test_one_empty_side_has_no_marks() -> None:
    assert marked("", "all new") == ([], [])


@given(texts, texts)
def test_pieces_give_the_texts_back_and_what_is_same_is_same(before: str, after: str) -> None:
    left, right = compared(before, after, limit=500)
    assert "".join(piece.text for piece in left) == show(before)
    assert "".join(piece.text for piece in right) == show(after)
    if before == after:
        assert not any(piece.differs for piece in (*left, *right))


def test_hidden_characters_become_visible_before_they_are_compared() -> None:
    (left, right) = compared("a\u200bb", "ab", limit=50)
    assert left[0].text + "".join(piece.text for piece in left[1:]) == "a\\u200bb"
    assert any(piece.differs for piece in right)
