"""What `bisect-ai demo` and `bisect-ai init` write: the bundled incident, commented starter files, recipes for schedules and pull requests.

All recipes keep store and history from run to run, whatever the run ends with, and show "could not tell" (exit code 3) as a warning.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bisect_ai.errors import InputError
from bisect_ai.store.artefacts import write_new_files

_PACKAGE = Path(__file__).parents[1]
_PACKAGED = _PACKAGE / "_helpdesk"
# A file that only the bundled incident has.
_OF_DEMO = "stand_in.py"
_CHECKOUT = _PACKAGE.parent / "fixtures" / "helpdesk"


def demo_source() -> Path:
    """The folder of the bundled incident: packaged, or in a source checkout."""
    for folder in (_PACKAGED, _CHECKOUT):
        if (folder / "bisect.yaml").is_file():
            return folder
    raise InputError("the bundled incident is missing from this installation; install bisect-ai again")


def write_demo(folder: Path) -> str:
    """Copy the incident into `folder`, leaving files that are there alone; says what was done."""
    source = demo_source()
    if (folder / "bisect.yaml").is_file() and not (folder / _OF_DEMO).exists():
        raise InputError(f"cannot write the demo to {folder}: it holds a bisect.yaml of another incident; name another folder")
    if (folder / "bisect.yaml").is_file():
        return f"using the incident in {folder} (delete the folder to start afresh)"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"cannot write the demo to {folder}: it is not an empty folder; name another")
    _copy(source, folder)
    return f"wrote the incident to {folder}: two releases, a corpus, tools, a log and a stand-in model; now solving it"


def _copy(source: Path, folder: Path) -> None:
    """Raises `InputError` with nothing left behind: a part of the incident would be taken for all of it the next time."""
    is_new, ignored = not folder.exists(), shutil.ignore_patterns("__pycache__", ".bisect-ai")
    try:
        shutil.copytree(source, folder, ignore=ignored, dirs_exist_ok=True)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        if not is_new:
            folder.mkdir(exist_ok=True)
        raise InputError(f"cannot write to {folder}: {_first_reason(error)}; name another folder") from error


def _first_reason(error: OSError) -> str:
    """Why a copy failed; `copytree` lists each of its files, with the reason as text."""
    listed = error.args[0] if isinstance(error, shutil.Error) and error.args else None
    if not isinstance(listed, list) or not listed:
        return error.strerror or str(error)
    return str(listed[0][2]).partition("] ")[2].partition(": ")[0] or str(listed[0][2])


def write_starter(folder: Path) -> str:
    """Write the starter files into `folder`; refuses to touch files that are there."""
    from bisect_ai.cli.reference import SCHEMA_FILE, schema_text

    files = {**_STARTER, SCHEMA_FILE: schema_text()}
    write_new_files(folder, files)
    lines = [f"wrote {folder / name}" for name in files]
    return "\n".join(
        [*lines, "next: put your releases and log in place, then `bisect-ai diff`, `bisect-ai plan`, `bisect-ai run`"]
    )


_BISECT = """\
# yaml-language-server: $schema=bisect.schema.json
# bisect-ai: which change in the bad release lowered quality? Paths are relative to this file.
good: releases/good.yaml          # the last release that was fine
bad: releases/bad.yaml            # the release that lost quality

log:
  path: logs/*.jsonl              # JSONL, CSV, Parquet, or an export of OpenTelemetry, Langfuse, LiteLLM, promptfoo, Inspect, OpenAI
  # format: auto                  # or jsonl, csv, parquet, otlp, langfuse, litellm, promptfoo, inspect, openai
  # columns: {input: question, reference: expected_answer}   # our field: your column
  # segment: intent               # sample this column's values in proportion
  # floor: 20                     # but at least so many of each
  # cluster: user                 # queries of one user are not independent: users are drawn whole
  # where: "plan = 'pro'"         # a DuckDB condition over the log's columns; other records are left out
  # since: 2026-11-10             # and until: the time of `at`, in UTC when no zone is given
  # windows: {good: {until: 2026-11-20}, bad: {since: 2026-11-20}}   # when each release ran, for a log that does not say
  # versions: [model, prompt_version]   # columns that tell mixed releases apart
  sample: 400                     # queries to draw from the log, at most

target: {kind: litellm}           # the built-in pipeline; needs the provider's key in the environment
# target: {kind: python, function: "app:answer"}   # or your own function answer(query, release), in app.py beside this file

scorers:                          # the first three of many: exact, contains, regex, numeric, json_schema, tool_call, python, ...
  - {kind: contains, name: correct, expected: reference}
  - {kind: length, name: words}
  - {kind: cost, name: usd}
metric: correct                   # the score that decides; the others are shown beside it

tolerance: 0.02                   # the smallest loss worth acting on
alpha: 0.05                       # chance of naming a wrong cause, over the whole run
budget: {calls: 2000, minutes: 30}
# budget: {calls: 2000, usd: 25}  # a cap in money needs a model with a known price
store: .bisect-ai                 # every paid answer is kept here; the same command resumes
# secrets: {env: [HOUSE_NAME], values_from: secrets.txt}   # hidden besides what is called or looks like a credential
seed: 0
"""

_GOOD = """\
release: "good"
axes:
  # Any axis names will do; these five are read by the built-in target. Values may be files: {file: prompts/system.md}
  model: {model: openai/gpt-4.1-2025-04-14, temperature: 0}
  prompt:
    system: You answer questions about our opening hours. Use the documents. Answer in one sentence.
    user: "{input}"
  corpus:
    documents:
      hours.md: We are open from 9 to 17 on weekdays.
      holidays.md: We are closed on public holidays.
    retriever: {kind: tfidf, k: 2}
  tools: []
  context: {documents: before_question, max_chars: 4000}
provenance:
  prompt: {owner: support-prompts, author: someone@example.org, at: "2026-11-13T16:00:00Z", why: first version}
"""

_BAD = """\
release: "bad"
axes:
  model: {model: openai/gpt-4.1-2025-04-14, temperature: 0}
  prompt:
    system: You answer questions about our opening hours. Answer in one sentence, in a friendly tone.
    user: "{input}"
  corpus:
    documents:
      hours.md: We are open from 9 to 17 on weekdays, and from 10 to 14 on Saturdays.
      holidays.md: We are closed on public holidays.
    retriever: {kind: tfidf, k: 2}
  tools: []
  context: {documents: before_question, max_chars: 4000}
provenance:
  prompt: {owner: support-prompts, author: someone@example.org, at: "2026-11-20T16:00:00Z", why: friendlier tone}
  corpus: {owner: help-centre, at: "2026-11-19T09:00:00Z", why: Saturdays}
"""

_LOG = """\
{"id": "q1", "input": "When do you open on Monday?", "reference": "9", "release": "good", "output": "We open at 9.", "scores": {"correct": 1}}
{"id": "q2", "input": "Are you open on public holidays?", "reference": "closed", "release": "good", "output": "We are closed.", "scores": {"correct": 1}}
{"id": "q3", "input": "Until when are you open on Friday?", "reference": "17", "release": "bad", "output": "Until late!", "scores": {"correct": 0}}
"""

_STARTER = {"bisect.yaml": _BISECT, "releases/good.yaml": _GOOD, "releases/bad.yaml": _BAD, "logs/sample.jsonl": _LOG}


_GITHUB = """\
# bisect-ai: a gate on pull requests, and an audit every Monday at six (UTC). Exit code 3 (could not tell) is a warning, not red.
name: bisect-ai
on:
  pull_request:
  schedule: [{cron: "0 6 * * 1"}]
  workflow_dispatch:
permissions:
  contents: read
  pull-requests: write        # the comment
  checks: write
  security-events: write      # the guilty line, in place
concurrency:
  group: bisect-ai-${{ github.ref }}
env:
  BISECT_AI: bisect-ai        # or a version of it (bisect-ai==0.1.0), or git+https://HOST/OWNER/bisect-ai@TAG
  OPENAI_API_KEY: ${{ secrets.OPENAI_API_KEY }}
jobs:
  gate:
    if: github.event_name == 'pull_request'
    runs-on: ubuntu-latest
    timeout-minutes: 60
    steps:
      - uses: actions/checkout@v4
        with: {fetch-depth: 0, ref: "${{ github.event.pull_request.head.sha }}"}
      - uses: actions/setup-python@v5
        with: {python-version: "3.12"}
      - uses: actions/cache/restore@v4
        with:
          path: .bisect-ai
          key: bisect-ai-gate-${{ github.run_id }}-${{ github.run_attempt }}
          restore-keys: bisect-ai-gate-
      - run: python -m pip install --quiet "$BISECT_AI"
      - env:
          BASE: ${{ github.base_ref }}
          GITHUB_TOKEN: ${{ github.token }}
        run: |
          code=0
          bisect-ai gate --base "origin/$BASE" --sarif gate.sarif --junit gate.xml --html gate.html --notify github || code=$?
          if [ "$code" -eq 3 ]; then echo "::warning title=bisect-ai::could not tell whether the change is worse"; code=0; fi
          exit "$code"
      - if: always()
        uses: actions/cache/save@v4
        with:
          path: .bisect-ai
          key: bisect-ai-gate-${{ github.run_id }}-${{ github.run_attempt }}
      - if: always() && hashFiles('gate.sarif') != ''
        uses: github/codeql-action/upload-sarif@v3
        with: {sarif_file: gate.sarif, category: bisect-ai}
      - if: always()
        uses: actions/upload-artifact@v4
        with: {name: gate, path: "gate.*"}
  audit:
    if: github.event_name != 'pull_request'
    runs-on: ubuntu-latest
    timeout-minutes: 60
    steps:
      - uses: actions/checkout@v4
        with: {fetch-depth: 0}
      - uses: actions/setup-python@v5
        with: {python-version: "3.12"}
      - uses: actions/cache/restore@v4
        with:
          path: |
            .bisect-ai
            audits.jsonl
          key: bisect-ai-audit-${{ github.run_id }}-${{ github.run_attempt }}
          restore-keys: bisect-ai-audit-
      - run: python -m pip install --quiet "$BISECT_AI"
      - run: |
          code=0
          bisect-ai audit --history audits.jsonl --junit audit.xml --html audit.html || code=$?
          if [ "$code" -eq 3 ]; then echo "::warning title=bisect-ai::the audit could not tell; the next goes on"; code=0; fi
          exit "$code"
      - if: always()
        uses: actions/cache/save@v4
        with:
          path: |
            .bisect-ai
            audits.jsonl
          key: bisect-ai-audit-${{ github.run_id }}-${{ github.run_attempt }}
      - if: always()
        uses: actions/upload-artifact@v4
        with: {name: audit, path: "audit*", retention-days: 90}
"""

_GITLAB = """\
# bisect-ai: a gate on merge requests, and an audit on pipelines of a schedule.
# In .gitlab-ci.yml: include: [local: bisect-ai.gitlab-ci.yml]
# Exit code 3 (could not tell) is a warning. Keys of providers are CI/CD variables.
.bisect-ai:
  image: python:3.12
  variables:
    GIT_DEPTH: "0"
    BISECT_AI: bisect-ai      # or a version of it (bisect-ai==0.1.0), or git+https://HOST/OWNER/bisect-ai@TAG
  before_script:
    - python -m pip install --quiet "$BISECT_AI"
  allow_failure: {exit_codes: 3}
  timeout: 1h
bisect-ai gate:
  extends: .bisect-ai
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
  cache: {key: bisect-ai-gate, paths: [.bisect-ai/], when: always}
  script:
    - git fetch --quiet origin "$CI_MERGE_REQUEST_TARGET_BRANCH_NAME"
    - bisect-ai gate --base FETCH_HEAD --comment gate.md --sarif gate.sarif --junit gate.xml --html gate.html
  artifacts:
    when: always
    paths: [gate.md, gate.sarif, gate.html]
    reports: {junit: gate.xml}
bisect-ai audit:
  extends: .bisect-ai
  rules:
    - if: $CI_PIPELINE_SOURCE == "schedule"
  resource_group: bisect-ai-audit
  cache: {key: bisect-ai-audit, paths: [.bisect-ai/, audits.jsonl], when: always}
  script:
    - bisect-ai audit --history audits.jsonl --junit audit.xml --html audit.html
  artifacts:
    when: always
    paths: [audits.jsonl, audit.html]
    reports: {junit: audit.xml}
"""

_CRON = """\
# bisect-ai: an audit every Monday at six. Put the folder of your bisect.yaml in APP; store and history stay in it.
# Paste the lines into `crontab -e`. A mail comes for a regression and for what failed, not for "could not tell" (exit code 3).
APP=/srv/app
0 6 * * 1 cd "$APP" && flock -n .bisect-ai.lock \
.venv/bin/bisect-ai audit --history audits.jsonl --html audit.html > audit.log 2>&1 || [ $? -eq 3 ] || cat audit.log
"""

_KUBERNETES = """\
# bisect-ai: an audit every Monday at six. The image holds your application, its bisect.yaml in /app, and bisect-ai
# (RUN pip install bisect-ai, or git+https://HOST/OWNER/bisect-ai@TAG). Store and history stay in the volume.
# Exit code 3 (could not tell) does not fail the job.
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: bisect-ai}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 5Gi}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: bisect-ai-audit}
spec:
  schedule: "0 6 * * 1"
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      backoffLimit: 0
      activeDeadlineSeconds: 7200
      template:
        spec:
          restartPolicy: Never
          containers:
            - name: audit
              image: REGISTRY/APP:TAG
              workingDir: /app
              command:
                - sh
                - -c
                - |
                  bisect-ai audit --store /kept/store --history /kept/audits.jsonl --html /kept/audit.html || [ $? -eq 3 ]
              envFrom: [{secretRef: {name: bisect-ai-keys, optional: true}}]
              volumeMounts: [{name: kept, mountPath: /kept}]
          volumes: [{name: kept, persistentVolumeClaim: {claimName: bisect-ai}}]
"""

# Kind to the file's place in the folder, and its text.
RECIPES = {
    "github": (".github/workflows/bisect-ai.yml", _GITHUB),
    "gitlab": ("bisect-ai.gitlab-ci.yml", _GITLAB),
    "cron": ("bisect-ai.cron", _CRON),
    "kubernetes": ("bisect-ai.kubernetes.yaml", _KUBERNETES),
}


def write_recipe(kind: str, folder: Path) -> str:
    """Write the recipe into `folder`; refuses to touch a file that is there. Says what was done."""
    name, text = RECIPES[kind]
    write_new_files(folder, {name: text})
    return f"wrote {folder / name}: what it needs is said in its first lines"
