"""The README says what is so: its commands exist, its Python runs, its words are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from bisect_ai.cli import main
from bisect_ai.scoring.scorers import KINDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_every_command_is_one_of_ours_and_every_one_of_ours_is_there() -> None:
    used = set(re.findall(r"bisect-ai (\w+)", " ".join(blocks("bash"))))
    assert used <= set(main.commands)
    assert set(main.commands) <= set(re.findall(r"bisect-ai (\w+)", README))


def test_the_python_block_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "prompt alone causes the drop" in printed
    assert "('prompt',) ('prompt',)" in printed


def test_the_commands_of_the_two_promises_are_the_files_of_the_checkout() -> None:
    first, second, *_ = blocks("bash")
    assert first.strip().endswith("bisect-ai demo")
    assert second.strip() == "bash tests/run"
    assert "tests/run" in (ROOT / ".ci" / "run").read_text()


def test_every_scorer_kind_and_exit_code_is_named() -> None:
    for kind in KINDS:
        assert f"`{kind}`" in README
    helped = CliRunner().invoke(main, ["--help"]).output
    for code in ("0", "2", "3", "4", "130"):
        assert re.search(rf"\b{code}\s", README)
        assert re.search(rf"\b{code}\s", helped)


def test_no_path_of_a_machine_is_in_the_text() -> None:
    assert not re.search(r"/(work|root|home|tmp)/", README)
