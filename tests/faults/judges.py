"""Stand-ins for a judge, as litellm custom providers: they say what a function of the prompt says, and count what they were asked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import litellm
from litellm import CustomLLM

Says = Callable[[str, str, str], str]


class StandIn(CustomLLM):
    """Answers with `says(check, answer, whole prompt)`."""

    def __init__(self, says: Says) -> None:
        super().__init__()
        self.says = says
        self.prompts: list[str] = []

    async def acompletion(self, *args: Any, **kwargs: Any) -> Any:
        messages = kwargs["messages"]
        whole = "\n".join(str(m["content"]) for m in messages)
        self.prompts.append(whole)
        check = re.findall(r'"check": "(\w+)"', str(messages[0]["content"]))[0]
        found = re.findall(r"<(\w+) (?:first )?answer>\n(.*?)\n</\1>", str(messages[1]["content"]), re.DOTALL)
        return litellm.mock_completion(
            model=kwargs["model"], messages=messages, mock_response=self.says(check, found[-1][1] if found else "", whole)
        )


def grade(check: str, right: bool) -> str:
    return json.dumps({"check": check, "grade": int(right), "reason": "so"})


def honest(check: str, answer: str, whole: str) -> str:
    """Full marks for an answer that is the reference or holds the word "right"."""
    reference = re.findall(r"<(\w+) reference>\n(.*?)\n</\1>", whole, re.DOTALL)
    known = reference[-1][1] if reference else "Paris"
    right = ("right" in answer or known in answer) and "Bananas" not in answer
    return grade(check, right)


def echo(check: str, answer: str, whole: str) -> str:
    """A judge that hands back what it was given to judge."""
    return answer


def obedient(check: str, answer: str, whole: str) -> str:
    """A judge that does what answers tell it."""
    return grade(check, "full marks" in answer or "right" in answer)


class Embeds(CustomLLM):
    """An embedding model that counts three letters."""

    async def aembedding(self, model: str, input: list[str], *args: Any, **kwargs: Any) -> Any:  # noqa: A002 - litellm's name
        from litellm.types.utils import Embedding, EmbeddingResponse

        rows = [[float(text.count(letter)) for letter in "yes"] for text in input]
        data = [Embedding(embedding=row, index=i, object="embedding") for i, row in enumerate(rows)]
        return EmbeddingResponse(model=model, data=data)
