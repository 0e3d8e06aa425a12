"""What `bisect-ai demo` and `bisect-ai init` write: the bundled incident, commented starter files, recipes for CI and schedules.

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
# What `init` writes, in this order.
_STARTER = ("bisect.yaml", "releases/good.yaml", "releases/bad.yaml", "logs/sample.jsonl")


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

    files = {name: _text_of_file(f"init/{name}") for name in _STARTER} | {SCHEMA_FILE: schema_text()}
    write_new_files(folder, files)
    lines = [f"wrote {folder / name}" for name in files]
    return "\n".join(
        [*lines, "next: put your releases and log in place, then `bisect-ai diff`, `bisect-ai plan`, `bisect-ai run`"]
    )


# Kind to the file's place in the folder.
RECIPES = {
    "github": ".github/workflows/bisect-ai.yml",
    "gitlab": "bisect-ai.gitlab-ci.yml",
    "cron": "bisect-ai.cron",
    "kubernetes": "bisect-ai.kubernetes.yaml",
}


def write_recipe(kind: str, folder: Path) -> str:
    """Write the recipe into `folder`; refuses to touch a file that is there. Says what was done."""
    place = Path(RECIPES[kind])
    write_new_files(folder, {str(place): _text_of_file(f"recipes/{place.name}")})
    return f"wrote {folder / place}: what it needs is said in its first lines"


def _text_of_file(name: str) -> str:
    return (Path(__file__).parent / "starting" / name).read_text(encoding="utf-8")
