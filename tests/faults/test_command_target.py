"""The user's program as target: any language, crashes, hangs, output that is no answer, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

import bisect_ai
from bisect_ai.errors import ConfigError, Infeasible, TargetFailure
from bisect_ai.queries.query import Query
from bisect_ai.release.pair import ReleasePair, load_pair
from bisect_ai.release.source_files import RepositoryRules
from bisect_ai.report import terminal
from bisect_ai.runs.prepare import build_target
from bisect_ai.targets.programs import MARK, Program, last_words
from bisect_ai.targets.workplace import Workplace
from tests.faults.test_wire import closing
from tests.unit.test_git_releases import commit, git

SCORES = """
import json, sys
for line in sys.stdin:
    query = json.loads(line)
    print(json.dumps({"id": query["id"], "text": "x", "scores": {"kind": 0.25}}))
"""
LOOP = """
import json, sys
print("ready")
for line in sys.stdin:
    query = json.loads(line)
    prompt = open("prompts/system.md").read()
    print(json.dumps({"id": query["id"], "text": prompt.strip() + ": " + query["input"]}))
"""
NODE = """
const fs = require("fs");
require("readline").createInterface({input: process.stdin}).on("line", line => {
  const query = JSON.parse(line);
  const prompt = fs.readFileSync("prompts/system.md", "utf8").trim();
  console.log(JSON.stringify({id: query.id, text: prompt + ": " + query.input}));
});
"""
SHELL = 'read line\necho "$(cat prompts/system.md): $line"\n'
AXES = {"prompt": ["prompts/**"], "code": ["src/**"], "data": ["data/**"]}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bisect-ai"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    top = tmp_path / "work"
    top.mkdir()
    git(top, "init", "-q", "-b", "main")
    start = {
        "prompts/system.md": "Old\n",
        "src/loop.py": LOOP,
        "src/loop.js": NODE,
        "src/answer.sh": SHELL,
        "same.txt": "same\n",
    }
    commit(top, {**start, "data/a.bin": b"\0one", "package-lock.json": "{}\n"}, "Start")
    git(top, "tag", "v1")
    commit(top, {"prompts/system.md": "New\n", "src/loop.py": LOOP + "# more\n", "data/a.bin": b"\0two"}, "Next")
    git(top, "tag", "v2")
    return top


class Trials:
    """A built target, asked by hand."""

    def __init__(self, top: Path, settings: Mapping[str, Any], good: str = "v1", bad: str = "v2") -> None:
        self.pair: ReleasePair = load_pair(good, bad, folder=top, rules=RepositoryRules(axes=AXES))
        sides = {"good": dict(self.pair.good.axes), "bad": dict(self.pair.bad.axes)}
        self.target: Any = build_target({"kind": "command", **settings}, folder=top, **sides, files=self.pair.files)[0]

    def ask(self, *bad: str, query: str = "q1") -> Any:
        both = dict.fromkeys((*self.pair.good.axes, *self.pair.bad.axes))
        release = {axis: (self.pair.bad if axis in bad else self.pair.good).axes[axis] for axis in both}
        return self.target(Query({"id": query, "input": "hello", "reference": "secret", "output": "logged"}), release, 0)


@pytest.fixture
def trials(repo: Path) -> Iterator[Any]:
    made: list[Trials] = []

    def make(settings: Mapping[str, Any], **sides: str) -> Trials:
        made.append(Trials(repo, settings, **sides))
        return made[-1]

    yield make
    for each in made:
        each.target.close()


def left_over() -> list[int]:
    """Processes that were started in this test's cells and are there still."""
    found = []
    for process in psutil.process_iter():
        try:
            theirs = process.environ()
            is_ours = MARK in theirs and theirs.get("XDG_CACHE_HOME") == os.environ["XDG_CACHE_HOME"]
            if is_ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_a_cell_is_a_mixed_checkout_and_the_users_own_is_not_touched(repo: Path, trials: Any, cache: Path) -> None:
    before = git(repo, "status", "--porcelain")
    python = trials({"run": f"{sys.executable} src/loop.py"})
    assert python.ask().text == "Old: hello"
    assert python.ask("prompt").text == "New: hello"
    assert python.ask("prompt", "code", "data").text == "New: hello"
    folders = {p.parent for p in cache.glob("sessions/*/cells/*/same.txt")}
    assert len(folders) == 3
    assert {(f / "data/a.bin").read_bytes() for f in folders} == {b"\0one", b"\0two"}
    assert len({(f / "same.txt").stat().st_ino for f in folders}) == 1
    assert git(repo, "status", "--porcelain") == before
    python.target.close()
    assert not list(cache.glob("sessions/*")) and not left_over()


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not here")
def test_a_node_program_answers(trials: Any) -> None:
    assert trials({"run": "node src/loop.js"}).ask("prompt").text == "New: hello"


def test_a_shell_script_that_answers_in_plain_text_is_run_for_each_query(trials: Any) -> None:
    shell = trials({"run": "sh src/answer.sh"})
    for query in ("q1", "q2"):
        assert shell.ask("prompt", query=query).text == f'New: {{"id": "{query}", "input": "hello"}}'
    assert shell.target.remarks == ("the program answers in plain text: it is run once for each query",)


def test_a_shell_line_needs_no_script(trials: Any) -> None:
    line = trials({"run": 'cat > /dev/null; echo "$TONE $(cat prompts/system.md)"', "shell": True, "env": {"TONE": "dry"}})
    assert line.ask().text == "dry Old"


def test_a_long_program_is_started_once_and_what_is_no_answer_is_left_aside_and_told(trials: Any) -> None:
    long = trials({"run": f"{sys.executable} -c '{COUNTING}'", "concurrency": 1})
    assert [long.ask(query=f"q{i}").text for i in range(4)] == ["1", "1", "2", "3"]  # the first is asked alone
    (remark,) = long.target.remarks
    assert "on standard output that are no answers (the first: 'starting'); left aside" in remark


COUNTING = """
import json, sys
print("starting")
for n, line in enumerate(sys.stdin, 1):
    print(json.dumps({"id": "another", "text": "not yours"}))
    print(json.dumps({"id": json.loads(line)["id"], "text": str(n), "usage": {"input_tokens": 3}}))
"""


def test_a_program_that_waits_for_the_end_of_its_input_is_noticed_at_the_first_deadline(trials: Any) -> None:
    code = 'import json, sys; print(json.dumps({"text": str(len(sys.stdin.readlines()))}))'
    waiting = trials({"run": [sys.executable, "-c", code], "deadline": 0.6})
    assert [waiting.ask(query=f"q{i}").text for i in range(3)] == ["1", "1", "1"]
    assert waiting.target.remarks == ("the program answers only when its input is closed: it is run once for each query",)


def test_a_mixture_that_cannot_start_is_named_with_the_last_lines_of_its_standard_error(repo: Path, trials: Any) -> None:
    code = LOOP.replace('print("ready")', 'assert open("prompts/system.md").read() == "New\\n", "needs the new prompt"')
    commit(repo, {"src/loop.py": code}, "Needs the prompt")
    broken = trials({"run": f"{sys.executable} src/loop.py"}, bad="HEAD")
    for _ in range(2):
        with pytest.raises(
            Infeasible, match=r"ended before its first answer: exit code 1: .*AssertionError: needs the new prompt"
        ):
            broken.ask("code")
    assert broken.ask("code", "prompt", "data").text == "New: hello"


def test_a_release_that_cannot_start_stops_the_run(trials: Any) -> None:
    with pytest.raises(TargetFailure, match=r"the program of the good release does not run: .*cannot start no-such-program"):
        trials({"run": "no-such-program"}).ask()


def test_a_crash_later_is_a_failed_trial_and_a_restart(trials: Any) -> None:
    code = LOOP.replace("query = json.loads(line)", 'query = json.loads(line)\n    if query["id"] == "bad": sys.exit(3)')
    crashing = trials({"run": [sys.executable, "-c", code]})
    assert crashing.ask().text == "Old: hello"
    answer = crashing.ask(query="bad")
    assert answer.error is not None and "exit code 3" in answer.error and answer.outcome == "error"
    assert crashing.ask(query="q2").text == "Old: hello"


def test_a_hang_is_a_timeout_and_its_whole_group_is_ended(trials: Any) -> None:
    code = LOOP.replace(
        "query = json.loads(line)",
        'query = json.loads(line)\n    if query["id"] == "slow":\n'
        "        import subprocess, time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        '        subprocess.Popen(["sleep", "600"]); time.sleep(600)',
    )
    hanging = trials({"run": [sys.executable, "-c", code], "deadline": 1.5, "concurrency": 1})
    assert hanging.ask().text == hanging.ask(query="q2").text == "Old: hello"
    began = time.monotonic()
    answer = hanging.ask(query="slow")
    assert answer.outcome == "timeout" and time.monotonic() - began < 8
    assert not [pid for pid in left_over() if "sleep" in psutil.Process(pid).name()]
    assert hanging.ask(query="q3").text == "Old: hello"


@pytest.mark.parametrize("said", ["", "\n", "[1]", '{"id": "q1"}', '{"text": 3}', "\\xff\\xfe"])
def test_what_is_no_answer_is_no_crash(trials: Any, said: str) -> None:
    code = f"import sys; sys.stdin.read(); sys.stdout.buffer.write({said!r}.encode()); print()"
    odd = trials({"run": [sys.executable, "-c", code], "deadline": 5})
    try:
        answer = odd.ask()
    except TargetFailure as failure:
        assert "exit code 0: nothing on standard error" in str(failure)
    else:
        assert answer.outcome == "malformed" or answer.text


def test_a_program_that_writes_into_a_shared_file_changes_no_other_cell(trials: Any) -> None:
    code = LOOP.replace('print("ready")', "import os; os.chmod('same.txt', 0o644); open('same.txt', 'a').write('x')").replace(
        'open("prompts/system.md").read()', 'open("same.txt").read()'
    )
    writing = trials({"run": [sys.executable, "-c", code]})
    assert writing.ask().text == "same\nx: hello"
    assert writing.ask("prompt").text == "same\nx: hello"


def test_a_setup_runs_once_for_each_lock_file_and_its_results_move_with_the_cell(
    repo: Path, trials: Any, tmp_path: Path
) -> None:
    log = tmp_path / "setups"
    setup = [
        f"echo run >> {log}",
        'mkdir -p lib && echo "$PWD" > lib/where && ln -s "$PWD/lib" lib/again && echo big > lib/data',
    ]
    code = LOOP.replace(
        'open("prompts/system.md").read()', 'open("lib/again/where").read() + str(__import__("os").stat("lib/data").st_nlink)'
    )
    commit(repo, {"src/loop.py": code}, "Uses what the setup makes")
    settings = {"run": f"{sys.executable} src/loop.py", "shell": True, "setup": setup}
    made = trials(settings, bad="HEAD")
    first, second = made.ask("code").text, made.ask("code", "prompt", "data").text
    assert first.split("\n")[0] != second.split("\n")[0] and "/cells/" in first and "/cells/" in second
    assert int(second.split("\n")[1].split(":")[0]) == 3  # the setup's own and those of two cells
    made.target.close()
    assert "/cells/" in trials(settings, bad="HEAD").ask("code").text
    assert log.read_text() == "run\n"


def test_a_setup_that_fails_names_what_it_said(trials: Any) -> None:
    failing = trials({"run": "true", "setup": "echo no network >&2; exit 7", "shell": True})
    with pytest.raises(Infeasible, match=r"its setup failed: .* failed with exit code 7: no network"):
        failing.ask("prompt")


def test_untracked_files_are_there_only_when_they_are_named(repo: Path, trials: Any) -> None:
    (repo / ".env").write_text("MODE=x\n")
    command = "cat > /dev/null; cat .env 2> /dev/null || echo none"
    assert trials({"run": command, "shell": True}).ask().text == "none"
    assert trials({"run": command, "shell": True, "include": [".env"]}).ask().text == "MODE=x"
    with pytest.raises(ConfigError, match=r"target.include: '../x' is no file below `repo`"):
        trials({"run": command, "include": ["../x"]})


def test_an_answer_over_several_lines_is_read_and_the_program_run_for_each_query(trials: Any) -> None:
    code = 'import json, sys; query = json.load(sys.stdin); print(json.dumps({"id": query["id"], "text": "Hi"}, indent=2))'
    pretty = trials({"run": [sys.executable, "-c", code], "deadline": 3})
    assert [pretty.ask(query=f"q{i}").text for i in range(3)] == ["Hi"] * 3
    assert pretty.target.remarks == ("the program writes its answer over several lines: it is run once for each query",)


def test_a_byte_order_mark_and_nan_are_read_as_the_object_that_was_meant(trials: Any) -> None:
    code = LOOP.replace("print(json.dumps({", "print('\\ufeff' + json.dumps({'scores': {'kind': float('nan')}, ").replace(
        'print("ready")', 'sys.stdout.reconfigure(encoding="utf-8")'
    )
    marked = trials({"run": [sys.executable, "-c", code]})
    for query in ("q1", "q2"):
        answer = marked.ask(query=query)
        assert (answer.text, answer.scores) == ("Old: hello", {"kind": None})


def test_a_text_program_that_says_nothing_gave_an_empty_answer(trials: Any) -> None:
    shell = trials({"run": "grep -o hello || true", "shell": True})
    assert shell.ask().text == "hello"
    silent = shell.target(Query({"id": "q2", "input": "bye"}), shell.pair.good.axes, 0)
    assert (silent.outcome, silent.error) == ("empty", None)


def test_what_left_its_group_is_ended_with_the_run(trials: Any) -> None:
    code = LOOP.replace('print("ready")', 'import subprocess; subprocess.Popen(["sleep", "600"], start_new_session=True)')
    leaving = trials({"run": [sys.executable, "-c", code]})
    assert leaving.ask().text == "Old: hello"
    leaving.target.close()
    assert not left_over()


def test_a_file_that_becomes_a_folder_is_a_combination_that_cannot_be(repo: Path) -> None:
    commit(repo, {"data/a.bin": None, "data/a.bin/x.txt": "in\n"}, "A folder now")
    rules = RepositoryRules(axes={"inside": ["data/a.bin/x.txt"], "data": ["data/**"]})
    pair = load_pair("v2", "HEAD", folder=repo, rules=rules)
    sides = {"good": dict(pair.good.axes), "bad": dict(pair.bad.axes)}
    target: Any = build_target({"kind": "command", "run": "node src/loop.js"}, folder=repo, **sides, files=pair.files)[0]
    both = {"inside": pair.bad.axes["inside"], "data": pair.good.axes["data"]}
    with pytest.raises(Infeasible, match=r"data/a.bin is a file in one release and a folder in the other"):
        target(Query({"id": "q1", "input": "hello"}), both, 0)
    assert target(Query({"id": "q1", "input": "hello"}), pair.bad.axes, 0).text == "New: hello"
    target.close()


def test_a_tracked_file_that_is_included_is_as_it_lies_there(repo: Path, trials: Any) -> None:
    (repo / "same.txt").write_text("mine\n")
    reading = trials({"run": "cat > /dev/null; cat same.txt", "shell": True, "include": ["same.txt"]})
    assert [reading.ask().text, reading.ask("prompt").text] == ["mine", "mine"]
    reading = trials({"run": "cat > /dev/null; cat same.txt", "shell": True})
    assert reading.ask().text == "same"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "it needs `run`"),
        ({"run": "python a.py {input}"}, "{input} is not filled in: the program gets queries as lines of JSON"),
        ({"run": ["python", "a.py", "{{question}}"]}, "{{question}} is not filled in"),
        ({"run": 'python "x'}, "No closing quotation"),
        ({"run": "x", "proces": "each"}, "'proces' is no setting of command"),
        ({"run": "x", "process": "never"}, "use long"),
        ({"run": "x", "env": {"A": "sk-proj-" + "a1B2" * 12}}, "keep credentials there"),
        ({"run": "x", "deadline": -1}, "is not a number above 0"),
    ],
)
def test_a_setting_that_is_wrong_is_one_line(repo: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Trials(repo, settings)


SERVICE = """
import http.server, json, sys
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404); self.end_headers()
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = json.dumps({"text": open("prompts/system.md").read().strip() + " " + asked["query"]["id"]}).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_): pass
if open("prompts/system.md").read() == "New\\n" and "# more" not in open("src/loop.py").read(): sys.exit("old code, new prompt")
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answers).serve_forever()
"""


def test_a_service_is_started_for_each_cell_and_asked_over_http(repo: Path, trials: Any) -> None:
    import asyncio

    commit(repo, {"serve.py": SERVICE}, "A service")
    git(repo, "tag", "s1")
    commit(repo, {"prompts/system.md": "Newer\n"}, "Its prompt")
    served = trials(
        {"serve": f"{sys.executable} serve.py {{port}}", "health": "/health", "path": "/answer", "services": 1},
        good="s1",
        bad="HEAD",
    )

    async def asked() -> list[str]:
        answers = [await served.ask(*bad, query=q) for bad, q in ((("prompt",), "q1"), ((), "q2"), (("prompt",), "q3"))]
        assert {answer.endpoint for answer in answers} == {None}  # ports of our own: no provider that changed its address
        return [answer.text or str(answer.error) for answer in answers]

    assert asyncio.run(closing(asked())) == ["Newer q1", "New q2", "Newer q3"]
    served.target.close()
    assert not left_over()


def test_a_programs_answer_brings_its_own_scores(repo: Path, trials: Any) -> None:
    commit(repo, {"src/loop.py": SCORES}, "Scores itself")
    git(repo, "tag", "-f", "v2")
    assert trials({"run": f"{sys.executable} src/loop.py"}).ask("code").scores == {"kind": 0.25}


KILLED = """
import os, signal, sys
from tests.faults.test_command_target import Trials
from pathlib import Path
trials = Trials(Path(sys.argv[1]), {"run": sys.executable + " src/loop.py"})
print(trials.ask().text, flush=True)
trials.ask("prompt")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_kill_leaves_is_cleared_by_the_next_run(repo: Path, trials: Any, cache: Path) -> None:
    stubborn = LOOP.replace("for line in sys.stdin:", "for line in iter(sys.stdin.readline, None):").replace(
        "query = json.loads(line)", "if not line:\n        import time; time.sleep(600)\n    query = json.loads(line)"
    )
    commit(repo, {"src/loop.py": stubborn}, "Does not end with its input")
    git(repo, "tag", "-f", "v1")
    git(repo, "tag", "-f", "v2", "HEAD~1")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(repo)],
        cwd=root,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(cache.glob("sessions/*/cells")) and left_over()
    workplace = Workplace()
    assert [p.name for p in cache.glob("sessions/*") if p.is_dir()] == [workplace.name]
    assert not left_over()
    workplace.close()
    assert not list(cache.glob("sessions/*"))


def test_a_whole_run_names_the_line_and_the_mixture_that_cannot_start(repo: Path, tmp_path: Path) -> None:
    needs = LOOP.replace(
        "import json, sys", 'import json, sys\nassert open("prompts/system.md").read() != "Old\\n", "old prompt"'
    )
    worse = needs.replace("prompt.strip()", '"Sorry, no"')
    commit(repo, {"src/loop.py": worse}, "Better")
    git(repo, "tag", "-f", "v2")
    queries = [{"id": f"q{i}", "input": f"{i}?", "reference": f"{i}?"} for i in range(60)]
    result = bisect_ai.run(
        good={"git": "v1"},
        bad={"git": "v2"},
        repo=str(repo),
        axes=AXES,
        queries=queries,
        target={"kind": "command", "run": f"{sys.executable} src/loop.py", "concurrency": 4},
        scorers={"polite": lambda query, answer: "Sorry" not in answer.text},
        budget={"calls": 600},
        seed=2,
    )
    report = result.to_dict()
    assert report["verdict"]["kind"] == "cause", report["verdict"]
    assert [cause["axes"] for cause in report["verdict"]["causes"]] == [["code"]]
    assert report["verdict"]["rollback"]["axes"] == ["code"]
    assert "prompt" in report["verdict"]["keep"]
    assert "code, measured beside the new prompt (alone it cannot start: " in report["verdict"]["sentence"]
    refused = [c for c in report["cells"] if c["status"] == "infeasible"]
    assert refused and all("code" in c["bad_axes"] and "prompt" not in c["bad_axes"] for c in refused), report["cells"]
    assert all("AssertionError: old prompt" in c["reason"] for c in refused)
    assert not any("/cells/" in c["reason"] for c in refused)
    assert "old prompt" in terminal.render(report)
    assert not left_over()


NEEDING = """
import json, sys
prompt, rules = open("prompts/system.md").read(), json.load(open("src/rules.json"))
assert rules["tones"] == "some" or "tone" not in prompt, "no such tone"
for line in sys.stdin:
    query = json.loads(line)
    bad = rules["limit"] == "low" and int(query["id"][1:]) % 3 == 0
    print(json.dumps({"id": query["id"], "text": "Sorry, no" if bad else "Yes"}), flush=True)
"""


def test_the_line_is_named_inside_an_axis_that_the_new_version_of_another_needs(repo: Path) -> None:
    """With the old code the new prompt cannot start, so the code is measured beside the old prompt, and gone into there."""
    old, new = ('{"tones": "none", "limit": "high", "size": 1}\n', '{"tones": "some", "limit": "low", "size": 2}\n')
    commit(repo, {"src/loop.py": NEEDING, "src/rules.json": old}, "Rules")
    git(repo, "tag", "v3")
    commit(repo, {"src/rules.json": new, "prompts/system.md": "Newer, with a tone\n"}, "Tones")
    git(repo, "tag", "v4")
    result = bisect_ai.run(
        good={"git": "v3"},
        bad={"git": "v4"},
        repo=str(repo),
        axes=AXES,
        queries=[{"id": f"q{i}", "input": f"{i}?"} for i in range(120)],
        target={"kind": "command", "run": f"{sys.executable} src/loop.py", "concurrency": 2},
        scorers={"polite": lambda query, answer: "Sorry" not in answer.text},
        budget={"calls": 900},
    )
    (cause,) = result.verdict.causes
    assert (tuple(cause.axes), [c.path for c in cause.changes]) == (("code",), ["src/rules.json:limit"])
    assert "code, measured beside the old prompt (without it the new prompt cannot start: " in result.verdict.sentence
    assert result.verdict.rollback is not None
    assert [c.path for c in result.verdict.rollback.changes] == ["src/rules.json:limit"]
    assert not left_over()


LEAVES = """
import sys, time
from pathlib import Path
from bisect_ai.targets.programs import Program, end_what_runs

CHILD = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
CODE = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {CHILD!r}], start_new_session=True); time.sleep(600)"
program = Program([sys.executable, "-c", CODE], folder=Path(), environment={})
assert program.line(time.monotonic() + 60) == "up\\n"
end_what_runs()
"""


def test_what_left_its_session_and_ignores_signals_is_ended_when_the_process_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of a thread that nobody waits for has no target to close: a `setup` that another one waited for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", LEAVES], cwd=tmp_path, env=environment, check=True, timeout=240)
    assert left_over() == []


def test_a_setup_that_builds_the_program_runs_for_each_content_of_what_it_reads(
    repo: Path, trials: Any, tmp_path: Path
) -> None:
    log = tmp_path / "setups"
    setup = f"echo run >> {log}; mkdir -p bin; {{ echo '#!/bin/sh'; sed s/^/echo\\ / prompts/*.md; }} > bin/answer; chmod +x bin/answer"
    made = trials({"run": "bin/answer", "shell": True, "setup": setup})
    assert made.ask().text == made.ask("data").text == "Old"
    assert made.ask("prompt").text == made.ask("prompt", "code").text == "New"
    assert log.read_text() == "run\n" * 2
    commit(repo, {"prompts/10.md": "First\n"}, "A file that nobody has read yet")
    assert trials({"run": "bin/answer", "shell": True, "setup": setup}, bad="HEAD").ask("prompt").text == "First\nNew"
    assert log.read_text() == "run\n" * 3


def test_a_setup_depends_on_what_its_user_says(trials: Any) -> None:
    settings = {"run": "cat built", "shell": True, "setup": "cat prompts/system.md > built", "setup_files": "package.json"}
    made = trials(settings)
    assert made.ask().text == made.ask("prompt").text == "Old"


def test_a_setup_that_was_killed_leaves_nothing_that_the_next_run_keeps(cache: Path) -> None:
    (cache / "setups" / "0123-ab" / "work").mkdir(parents=True)
    (cache / "setups" / "4567-cd").mkdir()
    (cache / "setups" / "4567-cd" / "done.json").write_text("{}")
    Workplace().close()
    assert [path.name for path in (cache / "setups").iterdir() if path.is_dir()] == ["4567-cd"]


def test_a_program_that_reads_no_question_holds_no_pipe_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    programs = [Program(["true"], folder=tmp_path, environment={}) for _ in range(5)]
    for program in programs:
        assert program.line(time.monotonic() + 10) is None
        program.send(b"x" * 100)
        program.send(b"", last=True)
        program.end()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2


NODE_TRACE = """file:///cells/a/src/server.js:2
import { system, greeting } from '../prompts/system.js';
                 ^^^^^^^^
SyntaxError: The requested module '../prompts/system.js' does not provide an export named 'greeting'
    at ModuleJob._instantiate (node:internal/modules/esm/module_job:180:21)
    at async ModuleJob.run (node:internal/modules/esm/module_job:263:5)
    at async onImport.tracePromise.__proto__ (node:internal/modules/esm/loader:578:26)
    at async asyncRunEntryPointWithESMLoader (node:internal/modules/run_main:117:5)

Node.js v20.20.2
"""
GO_PANIC = (
    "panic: no template greeting\n\ngoroutine 1 [running]:\nmain.main()\n"
    + "".join(f"\t/go/src/example.org/answer/file{i}.go:{i} +0x1d\nexample.org/answer.call{i}(0x1, 0x2)\n" for i in range(9))
    + "exit status 2\n"
)
JAVA_TRACE = (
    'Exception in thread "main" java.lang.IllegalStateException: no greeting\n'
    + "\tat a.B.c(B.java:3)\n" * 20
    + "\t... 9 more\n"
)
NPM = "TypeError: greet is not a function\n" + "".join(
    f"npm error line {i} of what npm has to say of its own about it\n" for i in range(9)
)
PYTHON = "Traceback (most recent call last):\n  File 'answer.py', line 3, in <module>\nImportError: cannot import name"


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (NODE_TRACE, "SyntaxError: The requested module '../prompts/system.js' does not provide an export named 'greeting'"),
        (GO_PANIC, "panic: no template greeting"),
        (JAVA_TRACE, "java.lang.IllegalStateException: no greeting"),
        (NPM, "TypeError: greet is not a function … "),
        (PYTHON, "ImportError: cannot import name"),
        ("thread 'main' panicked at src/main.rs:4:5:\nno greeting\nnote: run with `RUST_BACKTRACE=1`\n", "no greeting"),
        ("one\n  ^~~~\n", "one"),
        ("", "nothing on standard error"),
    ],
)
def test_what_went_wrong_is_told_though_a_trace_stands_below_it(said: str, says: str) -> None:
    told = last_words(said.splitlines())
    assert says in told and len(told) <= 250 and "\n" not in told
