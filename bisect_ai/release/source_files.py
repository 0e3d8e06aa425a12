"""Files of a release, read exactly: from its folder, or out of a git repository by commit (`{git: "REV:path"}`).

Files are regular ones inside one folder, opened once, of bounded size, as exact UTF-8 text. Of git only plumbing that reads objects
is called, with lists of arguments, never a shell; no hook, filter or pager runs, and nothing is fetched. As in git, a path begins at
the top of the repository, or with `./` at the release file's folder.

A path inside a release may come from others (a snapshot, a download), so it never leaves the release's root, whatever
it is written as; the path of the release file itself is the user's own and is only read carefully.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from bisect_ai.canonical import MAX_BYTES
from bisect_ai.errors import InputError, ReleaseError
from bisect_ai.provider.redaction import did_you_mean, shown

# The most text that one folder or table may hold: 512 MiB.
MAX_FOLDER_BYTES = 512 << 20
MAX_FOLDER_FILES = 200_000  # a corpus has fewer; more is a home or a dependency folder named by mistake
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_FOREIGN = re.compile(r"[a-zA-Z]:|[a-zA-Z][a-zA-Z0-9+.-]*://")  # a drive of Windows, or an address


def read_text(path: Path, *, error: type[InputError] = ReleaseError) -> str:
    """The exact text of a regular UTF-8 file of at most 64 MiB (line ends and byte order mark kept). Raises `error`."""
    return decode_utf8(read_bytes(path, error=error), path, error=error)


def read_bytes(path: Path, *, error: type[InputError] = ReleaseError) -> bytes:
    """The bytes of a regular file of at most 64 MiB. Raises `error` for anything else, never blocks on it."""
    try:
        handle = os.open(path, _FLAGS)
    except (OSError, ValueError) as failure:
        raise error(f"cannot read {shown(path)}: {_failure_reason(failure)}; check the path") from failure
    try:
        _check_regular(handle, path, error)
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    finally:
        os.close(handle)
    if len(data) > MAX_BYTES:
        raise error(f"cannot read {shown(path)}: it is larger than {MAX_BYTES >> 20} MiB; split it or keep texts in files")
    return data


def path_inside(root: Path, folder: Path, written: str) -> Path:
    """The real path of `written`, relative to `folder`, symbolic links followed. Raises `ReleaseError` outside `root`."""
    check_spelling(written)
    return _real(root.resolve(), folder / written, written)


def _real(base: Path, path: Path, written: str) -> Path:
    try:
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(base):
            raise ReleaseError(f"the path {shown(written)} leads outside {shown(base)}; move the file inside that folder")
        real.lstat()
    except (OSError, ValueError) as failure:
        raise ReleaseError(f"the path {shown(written)} cannot be read: {_failure_reason(failure)}; check the path") from failure
    return real


def read_inside(root: Path, real: Path) -> bytes:
    """The bytes of a file that `path_inside` found. What was opened is checked again: it may have been swapped meanwhile."""
    data = read_bytes(real)
    if Path(os.path.realpath(real)) != real or not real.is_relative_to(root.resolve()):
        raise ReleaseError(f"cannot read {shown(real)}: it was replaced while it was read; try again")
    return data


def read_folder(root: Path, real: Path) -> dict[str, str]:
    """The texts of all files below a folder by relative path, sorted. Names that begin with a dot are skipped."""
    if not real.is_dir():
        raise ReleaseError(f"{shown(real)} is no folder; name a folder, or use 'file'")
    texts: dict[str, str] = {}
    size = 0
    for name, path in sorted(_walked_files(root, real)):
        data = read_inside(root, path)
        size += len(data)
        if size > MAX_FOLDER_BYTES:
            raise ReleaseError(f"the folder {shown(real)} holds more than {MAX_FOLDER_BYTES >> 20} MiB; split it")
        texts[name] = decode_utf8(data, name)
    if not texts:
        raise ReleaseError(f"the folder {shown(real)} holds no files; check the path")
    return texts


def _walked_files(root: Path, top: Path) -> Iterator[tuple[str, Path]]:
    count, base = 0, root.resolve()
    for folder, folders, names in os.walk(top, onerror=_walk_failed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (Path(folder) / name).is_symlink():
                raise ReleaseError(f"{shown(Path(folder) / name)} is a symbolic link to a folder; put the folder itself there")
        for name in names:
            if name.startswith("."):
                continue
            count += 1
            if count > MAX_FOLDER_FILES:
                raise ReleaseError(f"the folder {shown(top)} holds more than {MAX_FOLDER_FILES} files; split it")
            relative = _clean_name((Path(folder) / name).relative_to(top))
            yield relative, _real(base, top / relative, relative)


def _walk_failed(failure: OSError) -> None:
    raise ReleaseError(f"cannot read the folder {shown(failure.filename)}: {_failure_reason(failure)}") from failure


def _clean_name(relative: Path) -> str:
    name = PurePosixPath(relative).as_posix()
    if not name.isprintable():
        raise ReleaseError(f"the file name {shown(name)} has control characters or is not UTF-8; rename the file")
    return name


def check_spelling(written: str) -> None:
    """Refuse what could mean another place on some system, even where this one would read it harmlessly."""
    reason = ""
    if not written.strip() or not written.isprintable():
        reason = "is empty or has control characters"
    elif _FOREIGN.match(written) or "\\" in written:
        reason = "is a URL or a Windows path"
    elif written.startswith(("/", "~")):
        reason = "is absolute"
    if reason:
        raise ReleaseError(f"the path {shown(written)} {reason}; write it relative to the release file, with /")


def _check_regular(handle: int, path: Path, error: type[InputError]) -> None:
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise error(f"cannot read {shown(path)}: it is {kind}; name a file")


def _failure_reason(failure: Exception) -> str:
    if isinstance(failure, OSError) and failure.strerror:
        return failure.strerror.lower()
    return str(failure)


def decode_utf8(data: bytes, name: str | Path, *, error: type[InputError] = ReleaseError) -> str:
    """`data` as UTF-8 text. Raises `error` for UTF-16, NUL bytes and anything else that is not text."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise error(f"cannot read {shown(name)}: it is UTF-16 text; save it as UTF-8")
    line = data.count(b"\n", 0, max(0, data.find(b"\0"))) + 1
    if b"\0" in data:
        raise error(f"cannot read {shown(name)}, line {line}: it has a NUL byte, so it is no text; name a text file")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as bad:
        line = data.count(b"\n", 0, bad.start) + 1
        raise error(f"cannot read {shown(name)}, line {line}: it is not UTF-8 text; save it as UTF-8") from bad


_REVISION = re.compile(r"[A-Za-z0-9_.@^~{}/+=#-]+")  # no space, colon or leading dash: never an option or a path to git
_SECONDS = 60  # of one command: a lock or a network file system that hangs must not hang the run


@dataclass(frozen=True)
class GitText:
    """What a reference found: a text, or for a folder a mapping of relative path to text, and where it came from."""

    content: str | dict[str, str]
    commit: str
    path: str

    @property
    def source(self) -> str:
        """`git:<commit>:<path>`, the same for ever."""
        return f"git:{self.commit}:{self.path}"


def read_git(folder: Path, reference: str) -> GitText:
    """The content of `REV:path` in the repository around `folder`. Raises `ReleaseError` naming the reference."""
    revision, colon, path = reference.partition(":")
    if not colon or not path or not path.isprintable() or path.startswith("/"):
        raise ReleaseError(f"the git reference {shown(reference)} is not REV:path; write it like HEAD~1:prompts/system.md")
    return read_commit(folder, commit_of(folder, revision), _from_top(folder, path))


def read_commit(folder: Path, commit: str, whole: str) -> GitText:
    """The file or folder `whole` (a path from the top) of a commit. Raises `ReleaseError` naming it."""
    entries = _entries(folder, commit, whole)
    if [name for _, name in entries] == [whole]:
        return GitText(_blob_text(folder, entries[0][0], whole), commit, whole)
    return GitText(_blob_texts(folder, entries, whole), commit, whole)


def commit_of(folder: Path, revision: str) -> str:
    """The commit that a tag, branch or expression names, in full. Raises `ReleaseError` when there is none."""
    if not _REVISION.fullmatch(revision) or revision.startswith("-"):
        raise ReleaseError(f"the git revision {shown(revision)} is no revision; use a commit, tag or branch")
    try:
        found = git_output(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except ReleaseError as failure:
        if "no such revision" not in str(failure):
            raise
        raise ReleaseError(f"git has no such revision {shown(revision)}{_near_revision(folder, revision)}") from failure
    return found.decode().strip()


def tag_of(folder: Path, commit: str) -> str | None:
    """The first tag, by name, at a commit that can be typed as it is; None: there is none."""
    names = git_output(folder, "tag", "--points-at", commit).decode("utf-8", "replace").split("\n")
    return next((name for name in names if _REVISION.fullmatch(name) and not name.startswith("-")), None)


def merge_base(folder: Path, base: str, head: str) -> str:
    """The commit at which the history of `head` left that of `base`, in full. Raises `ReleaseError` when there is none."""
    sides = commit_of(folder, base), commit_of(folder, head)
    try:
        found = git_output(folder, "merge-base", *sides)
    except ReleaseError as failure:
        if "no such revision" not in str(failure):
            raise
        told = f"{shown(base)} and {shown(head)} have no commit in common"
        raise ReleaseError(f"{told}; in a shallow clone `git fetch --unshallow` brings it") from failure
    return found.decode().split("\n")[0].strip()


def _near_revision(folder: Path, revision: str) -> str:
    """What a revision that is not there may have meant."""
    if git_output(folder, "rev-parse", "--is-shallow-repository").strip() == b"true":
        return ": this clone is shallow; `git fetch --unshallow --tags` brings the rest"
    names = git_output(folder, "for-each-ref", "--count=2000", "--format=%(refname:short)", "refs/tags", "refs/heads")
    known = names.decode("utf-8", "replace").split("\n")
    return did_you_mean(revision, known, "; `git tag` and `git branch` list what there is")


def repository_of(folder: Path) -> tuple[Path, str]:
    """The top of the repository around `folder`, and the folder from there: empty, or ending in `/`. Raises `ReleaseError`."""
    try:
        top = git_output(folder, "rev-parse", "--show-toplevel").decode("utf-8", "surrogateescape").removesuffix("\n")
        prefix = git_output(folder, "rev-parse", "--show-prefix").decode("utf-8", "surrogateescape").removesuffix("\n")
    except ReleaseError as failure:
        if "not a git repository" not in str(failure):
            raise
        raise ReleaseError(f"{shown(folder)} lies in no git repository; name one with `repo:` in bisect.yaml") from failure
    return Path(top), prefix


def read_blob(folder: Path, commit: str, whole: str) -> bytes:
    """The bytes of a file (a path from the top) of a commit. Raises `ReleaseError` naming it."""
    entries = _entries(folder, commit, whole)
    if [name for _, name in entries] != [whole]:
        raise ReleaseError(f"{shown(whole)} at {commit} is a folder; name a file")
    return git_output(folder, "cat-file", "blob", entries[0][0])


def _from_top(folder: Path, path: str) -> str:
    if path.startswith("./"):
        path = os.fsdecode(git_output(folder, "rev-parse", "--show-prefix")).strip("\n") + path[2:]
    parts = [part for part in path.split("/") if part]
    if not parts or ".." in parts or "." in parts:
        raise ReleaseError(f"the git path {shown(path)} is not plain; write it from the top of the repository, without ..")
    return "/".join(parts)


def _entries(folder: Path, commit: str, path: str) -> list[tuple[str, str]]:
    """(object, path) of the file `path`, or of every file below it when it is a folder, sorted by path."""
    listing = git_output(folder, "--literal-pathspecs", "ls-tree", "-r", "-z", "-l", "--full-tree", commit, "--", path)
    entries, size = [], 0
    for line in filter(None, listing.split(b"\0")):
        meta, _, name = line.partition(b"\t")
        mode, kind, blob, length = meta.decode().split()
        if kind != "blob" or mode == "120000":
            raise ReleaseError(f"{shown(os.fsdecode(name))} at {commit} is a link or submodule; name plain files")
        size += int(length)
        entries.append((blob, os.fsdecode(name)))
    limit = MAX_BYTES if len(entries) == 1 else MAX_FOLDER_BYTES
    if not entries:
        raise ReleaseError(f"{shown(path)} is not in commit {commit}; check the path and the revision")
    if size > limit or len(entries) > MAX_FOLDER_FILES:
        raise ReleaseError(f"{shown(path)} at {commit} holds more than {limit >> 20} MiB; split it")
    return sorted(entries, key=lambda entry: entry[1])


def _blob_text(folder: Path, blob: str, name: str) -> str:
    return decode_utf8(git_output(folder, "cat-file", "blob", blob), name)


def _blob_texts(folder: Path, entries: list[tuple[str, str]], top: str) -> dict[str, str]:
    kept = [(blob, name[len(top) + 1 :]) for blob, name in entries]
    kept = [(blob, name) for blob, name in kept if not any(part.startswith(".") for part in name.split("/"))]
    return {name: decode_utf8(content, name) for name, content in git_contents(folder, kept, top)}


def git_contents(folder: Path, blobs: Sequence[tuple[str, str]], where: str) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each (blob, name), all from one process. Raises `ReleaseError` for one that git does not have."""
    answer, position = git_output(folder, "cat-file", "--batch", stdin="\n".join(blob for blob, _ in blobs).encode()), 0
    for _, name in blobs:  # answered by `<object> blob <size>`, the bytes and a line end
        end = answer.find(b"\n", position)
        kind = answer[position:end].split()
        if len(kind) != 3:
            raise ReleaseError(f"git has no content for {shown(name)} of {shown(where)}; fetch the whole repository")
        size = int(kind[2])
        yield name, answer[end + 1 : end + 1 + size]
        position = end + size + 2


_BLAMED = re.compile(r"([0-9a-f]{40,64}) [0-9]+ [0-9]+(?: [0-9]+)?")  # first line of a group in `git blame --porcelain`


def blamed_lines(porcelain: bytes) -> list[tuple[dict[str, str], str]]:
    """Each line that a porcelain blame shows, with what it says of the line's commit: `commit`, `author`, `summary`, …"""
    commits: dict[str, dict[str, str]] = {}
    lines, now = [], dict[str, str]()
    for line in porcelain.decode("utf-8", "replace").split("\n"):
        if line.startswith("\t"):
            lines.append((now, line[1:]))
        elif (head := _BLAMED.fullmatch(line)) is not None:
            now = commits.setdefault(head[1], {"commit": head[1]})
        elif line:
            word, _, value = line.partition(" ")
            now.setdefault(word, value)
    return lines


def git_output(folder: Path, *arguments: str, stdin: bytes = b"", seconds: float = _SECONDS) -> bytes:
    """Standard output of one read-only git command; no hook, monitor, filter or pager of the repository runs."""
    safe = ("-c", "protocol.allow=never", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
    command = ["git", "--no-pager", *safe, "-C", str(folder), *arguments]
    try:
        done = subprocess.run(  # noqa: S603 (a list of arguments, no shell)
            command, input=stdin, capture_output=True, env=_git_environment(), timeout=seconds, check=False
        )
    except ValueError as failure:  # a NUL in an argument
        raise ReleaseError(f"cannot ask git in {shown(folder)}: {shown(failure)}; check the names of files") from failure
    except FileNotFoundError as failure:
        raise ReleaseError("cannot read a git reference: git is not installed; install it or use 'file'") from failure
    except subprocess.TimeoutExpired as failure:
        raise ReleaseError(f"git {arguments[0]} took more than {seconds:g} s in {shown(folder)}; try again") from failure
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip() or "no such revision"
        raise ReleaseError(f"git {arguments[0]} failed in {shown(folder)}: {shown(reason)}; check the revision and the path")
    return done.stdout


def _git_environment() -> dict[str, str]:
    """The user's environment without variables that point git elsewhere, and with fetching and prompting off."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}


@dataclass(frozen=True)
class RepositoryRules:
    """What bisect.yaml says of git: `repo` (a folder, from the settings' own), and a `release` file or `axes` with `pin`.

    `axes` are names to gitignore patterns, `pin` is `good` and `bad` to patterns.
    """

    repo: str = "."
    axes: Mapping[str, list[str]] = field(default_factory=dict)
    release: str | None = None
    pin: Mapping[str, list[str]] = field(default_factory=dict)
