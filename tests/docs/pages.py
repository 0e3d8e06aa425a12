"""What there is to read: the README and the guides of the package, together."""

from __future__ import annotations

import re
from pathlib import Path

from bisect_ai.cli.reading import TOPICS, page_of

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {"README": README, **{topic: page_of(topic) for topic in TOPICS}}
ALL_PAGES = "\n".join(PAGES.values())


def blocks(language: str, text: str = ALL_PAGES) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
