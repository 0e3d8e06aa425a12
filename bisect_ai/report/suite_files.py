"""The files of a regression suite beside its cases: the same for every run, so that no text of a log is ever code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SuiteCase:
    """A query that broke, or a control (`kind`): its id, what was asked (the logged record), and the reference answer if it has one."""

    kind: str
    id: str
    asked: Mapping[str, object]
    reference: object = None


_PYTEST = '''\
"""Queries that a bad release once broke, and controls. Which release is tested: BISECT_RELEASE (a file or a git revision), else `bad`.

Run: pytest test_regression.py
"""

import json
from pathlib import Path

import pytest

from bisect_ai.facts.regression_suite import cases_pass

HERE = Path(__file__).parent
CASES = json.loads((HERE / "cases.json").read_text(encoding="utf-8"))["cases"]


@pytest.fixture(scope="module")
def passed():
    return cases_pass(HERE)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{case['kind']}-{n}" for n, case in enumerate(CASES)])
def test_case(number, passed):
    assert passed[number]
'''

_PROVIDER = '''\
"""Answers and scores a case for promptfoo, which sees its number only. BISECT_RELEASE names the release, else it is `bad`."""

from pathlib import Path

from bisect_ai.errors import BisectError
from bisect_ai.facts.regression_suite import cases_pass


def call_api(prompt, options, context):
    try:
        (passed,) = cases_pass(Path(__file__).parent, [int(context["vars"]["case"])])
    except BisectError as error:
        return {"error": str(error)}
    return {"output": "pass" if passed else "fail"}
'''

_INSPECT = '''\
"""Queries that a bad release once broke, and controls. Which release is tested: BISECT_RELEASE (a file or a git revision), else `bad`.

Run: inspect eval inspect_regression.py --model none
The release's own target answers, so that no model of Inspect is asked. Accuracy is 1 when every case passes.
"""

import asyncio
import json
import threading
from functools import cache
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import match
from inspect_ai.solver import solver

from bisect_ai.facts.regression_suite import cases_pass

HERE = Path(__file__).parent
ONE_AT_A_TIME = threading.Lock()


@cache
def answered():
    return cases_pass(HERE)


def passed(number):
    with ONE_AT_A_TIME:
        return answered()[number]


@solver
def release_answers():
    async def solve(state, generate):
        told = "pass" if await asyncio.to_thread(passed, state.metadata["case"]) else "fail"
        state.output = ModelOutput.from_content(model="bisect-ai", content=told)
        return state

    return solve


@task
def bisect_ai_regression():
    cases = json.loads((HERE / "cases.json").read_text(encoding="utf-8"))["cases"]
    samples = [
        Sample(id=f"{case['kind']}-{n}", input=f"case {n}", target="pass", metadata={"case": n, "kind": case["kind"]})
        for n, case in enumerate(cases)
    ]
    return Task(dataset=MemoryDataset(samples, name="bisect-ai-regression"), solver=release_answers(), scorer=match(location="exact"))
'''

_LANGFUSE = '''\
"""Queries that a bad release once broke, and controls. Which release is tested: BISECT_RELEASE (a file or a git revision), else `bad`.

Run: python langfuse_regression.py           puts dataset.json into Langfuse (LANGFUSE_* name it) and runs an experiment on it
     python langfuse_regression.py --local   runs the cases without a data set in Langfuse
Ends with 1 when a case does not pass. dataset.json: the body of a data set, and under `items` those of its items.
"""

import asyncio
import json
import sys
import threading
from functools import cache
from pathlib import Path

from langfuse import Evaluation, Langfuse

from bisect_ai.facts.regression_suite import cases_pass

HERE = Path(__file__).parent
DATASET = json.loads((HERE / "dataset.json").read_text(encoding="utf-8"))
ONE_AT_A_TIME = threading.Lock()


@cache
def answered():
    return cases_pass(HERE)


def case_passes(number):
    with ONE_AT_A_TIME:
        return answered()[number]


async def task(*, item, **_):
    metadata = item["metadata"] if isinstance(item, dict) else item.metadata
    return "pass" if await asyncio.to_thread(case_passes, metadata["case"]) else "fail"


def passed(*, output, **_):
    return Evaluation(name="passed", value=float(output == "pass"))


def uploaded(client):
    client.create_dataset(name=DATASET["name"], description=DATASET["description"], metadata=DATASET["metadata"])
    for item in DATASET["items"]:
        client.create_dataset_item(
            dataset_name=item["datasetName"],
            id=item["id"],
            input=item["input"],
            expected_output=item["expectedOutput"],
            metadata=item["metadata"],
        )
    return client.get_dataset(DATASET["name"]).items


def main():
    client = Langfuse()
    items = DATASET["items"] if "--local" in sys.argv[1:] else uploaded(client)
    result = client.run_experiment(name=DATASET["name"], data=items, task=task, evaluators=[passed])
    client.flush()
    good = [any(each.value == 1 for each in done.evaluations) for done in result.item_results]
    print(f"{sum(good)} of {len(items)} cases passed")
    return 0 if sum(good) == len(items) else 1


if __name__ == "__main__":
    sys.exit(main())
'''


def _promptfoo(cases: int) -> str:
    head = [
        "# Queries that a bad release once broke, and controls; their texts are in cases.json. Run: npx promptfoo eval",
        "description: bisect-ai regression suite",
        'prompts: ["case {{case}}"]',
        'providers: ["file://bisect_provider.py"]',
        "defaultTest: {assert: [{type: equals, value: pass}]}",
        "tests:",
    ]
    return "\n".join([*head, *(f"  - vars: {{case: {number}}}" for number in range(cases))]) + "\n"


def _dataset(cases: Sequence[SuiteCase], run: str) -> str:
    """The body of Langfuse's `POST /api/public/v2/datasets`, and under `items` those of `POST /api/public/dataset-items`."""
    name = f"bisect-ai-regression-{run}"
    told = {"description": "Queries that a bad release once broke, and controls.", "metadata": {"run": run}}
    items = [_item(case, number, name) for number, case in enumerate(cases)]
    return json.dumps({"name": name, **told, "items": items}, indent=1, ensure_ascii=True) + "\n"


def _item(case: SuiteCase, number: int, dataset: str) -> Mapping[str, object]:
    return {
        "datasetName": dataset,
        "id": hashlib.sha256(f"{dataset} {case.id}".encode()).hexdigest()[:32],
        "input": case.asked,
        "expectedOutput": case.reference,
        "metadata": {"case": number, "kind": case.kind},
        "status": "ACTIVE",
    }


# Tool to its files, for the cases of a run.
SUITES: Mapping[str, Callable[[Sequence[SuiteCase], str], Mapping[str, str]]] = {
    "pytest": lambda cases, run: {"test_regression.py": _PYTEST},  # noqa: ARG005 - as every suite is built
    "promptfoo": lambda cases, run: {  # noqa: ARG005
        "promptfooconfig.yaml": _promptfoo(len(cases)),
        "bisect_provider.py": _PROVIDER,
    },
    "inspect": lambda cases, run: {"inspect_regression.py": _INSPECT},  # noqa: ARG005
    "langfuse": lambda cases, run: {"dataset.json": _dataset(cases, run), "langfuse_regression.py": _LANGFUSE},
}
