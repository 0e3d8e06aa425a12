"""Recipes for schedules and pull requests, as `bisect-ai init --ci` writes them.

All keep store and history from run to run, whatever the run ends with, and show "could not tell" (exit code 3) as a warning.
"""

from __future__ import annotations

from pathlib import Path

from bisect_ai.store.artefacts import write_new_files

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

RECIPES = {
    "github": (".github/workflows/bisect-ai.yml", _GITHUB),
    "gitlab": ("bisect-ai.gitlab-ci.yml", _GITLAB),
    "cron": ("bisect-ai.cron", _CRON),
    "kubernetes": ("bisect-ai.kubernetes.yaml", _KUBERNETES),
}
"""Kind to the file's place in the folder, and its text."""


def write_recipe(kind: str, folder: Path) -> str:
    """Write the recipe into `folder`; refuses to touch a file that is there. Says what was done."""
    name, text = RECIPES[kind]
    write_new_files(folder, {name: text})
    return f"wrote {folder / name}: what it needs is said in its first lines"
