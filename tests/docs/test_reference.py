"""The schema and the reference of bisect.yaml say what the models check; the completion scripts are whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft7Validator

from bisect_ai.cli import main
from bisect_ai.cli.reading import page_of
from bisect_ai.cli.starter import SCHEMA_FILE, config_schema, demo_source, reference_page, write_starter
from bisect_ai.config import Config
from tests.docs.pages import blocks


def printed() -> Any:
    return json.loads(CliRunner().invoke(main, ["schema"]).output)


def wrong(settings: Any) -> list[str]:
    return [error.message for error in Draft7Validator(printed()).iter_errors(settings)]


def test_the_page_is_made_from_the_models() -> None:
    assert page_of("configuration") == reference_page().rstrip() + "\n"


def test_every_key_of_every_part_is_described() -> None:
    schema = config_schema()
    for part in (schema, *schema["definitions"].values()):
        for key, each in part["properties"].items():
            assert each.get("description") or "$ref" in each, key
    assert list(schema["properties"]) == list(Config.model_fields)


def test_what_is_printed_is_a_schema_and_takes_the_files_that_we_write(tmp_path: Path) -> None:
    Draft7Validator.check_schema(printed())
    assert wrong({"good": "a", "bad": "b", "target": {}, "canary": {"bounds": [0, 30]}}) == []
    write_starter(tmp_path)
    first = (tmp_path / "bisect.yaml").read_text().partition("\n")[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA_FILE}"
    assert json.loads((tmp_path / SCHEMA_FILE).read_text()) == printed()
    for path in (tmp_path / "bisect.yaml", demo_source() / "bisect.yaml"):
        assert wrong(yaml.safe_load(path.read_text())) == []
    whole = [one for text in blocks("yaml") if isinstance(one := yaml.safe_load(text), dict) and {"good", "target"} <= set(one)]
    assert whole and not [why for one in whole for why in wrong(one)]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"tolerence": 0.1}, "'tolerence' was unexpected"),
        ({"budget": {"calls": 1}}, "less than the minimum"),
        ({"log": {"formt": "csv"}}, "is not valid under any"),
        ({"design": "quick"}, "is not one of"),
        ({"canary": {"bounds": ["low", 1]}}, "is not valid under any"),
    ],
)
def test_a_mistake_is_seen_by_the_schema_and_by_the_model(settings: dict[str, Any], why: str) -> None:
    given = {"good": "a.yaml", "bad": "b.yaml", "target": {"kind": "litellm"}, **settings}
    (message,) = wrong(given)
    assert why in message
    with pytest.raises(ValueError):
        Config.model_validate(given)


@pytest.mark.parametrize("settings", [{"log": "log.jsonl"}, {"axes": {"prompt": "prompts/**"}, "pin": {"good": ["docs/**"]}}])
def test_short_forms_are_taken_by_the_schema_and_by_the_model(settings: dict[str, Any]) -> None:
    given = {"good": "a.yaml", "bad": "b.yaml", "target": {"kind": "litellm"}, **settings}
    assert wrong(given) == []
    Config.model_validate(given)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_asks_the_program_itself(shell: str) -> None:
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == 0 and f"_BISECT_AI_COMPLETE={shell}_complete" in done.output


def test_a_shell_that_none_knows_is_refused() -> None:
    assert CliRunner().invoke(main, ["completion", "tcsh"]).exit_code == 2
