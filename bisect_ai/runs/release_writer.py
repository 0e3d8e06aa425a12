"""Releases as files that load as exactly these releases, and the release that a rollback makes.

A file with a `digest` is frozen: its values stand for themselves (no reference in it is resolved), and loading it fails when the
content was changed. None is written, and none replayed, that holds a credential.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bisect_ai.canonical import canonical, digest, plain
from bisect_ai.errors import BisectError, ReleaseError
from bisect_ai.provider.redaction import holds_key, redact, secret_values, shown
from bisect_ai.provider.redaction.key_shapes import is_random
from bisect_ai.release.load import Release, compose, load_release
from bisect_ai.store.artefacts import fill, writing

# What turns text around or does not show: a file that people review must not hold it raw.
_HIDDEN = re.compile(
    "[\u0085\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff9-\ufffb]"
)
# Characters of a credential, and of one of letters and digits, below which finding it in a release is taken for chance.
SHORTEST_KEY, SHORTEST_RANDOM = 12, 8


def rolled_back(good: Release, bad: Release, axes: Collection[str], *, measured: str) -> Release:
    """`bad` with `axes` taken back to `good`; the provenance of each axis says where it is from, and of those, what `measured` it."""
    content = compose(good, bad, [axis for axis in dict.fromkeys((*good.axes, *bad.axes)) if axis not in axes])
    provenance = {axis: _whence(axis, good if axis in axes else bad, measured if axis in axes else None) for axis in content}
    name = f"{bad.name}, {' and '.join(sorted(axes))} of {good.name}"
    return Release(name, content, provenance, digest(dict(content)))


def _whence(axis: str, side: Release, measured: str | None) -> Mapping[str, Any]:
    known = dict(side.provenance.get(axis, {}))
    return {**known, "release": side.name, **({} if measured is None else {"why": measured})}


def check_no_key(release: Release) -> None:
    """Raises `ReleaseError` when an axis holds the value of a credential: it would be stored, and shown in reports."""
    for axis, value in release.axes.items():
        text = canonical([axis, plain(value)])
        for where, secrets in secret_values().items():
            if any(_is_telling_secret(secret) and json.dumps(secret)[1:-1] in text for secret in secrets):
                raise ReleaseError(
                    f"the axis {redact(axis)} of release {redact(release.name)} holds the value of {where}; a release is stored and "
                    "shown: take the credential out, targets read it from the environment (what is no credential: name its variable "
                    "under secrets.ignore)"
                )


def _is_telling_secret(secret: str) -> bool:
    return len(secret) >= SHORTEST_KEY or is_random(secret, shortest=SHORTEST_RANDOM)


# Other line ends, which a block would turn into its own, what no YAML holds unescaped, and a tab where indentation is looked for.
_UNFIT_FOR_BLOCK = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|\\A[ \n]*\t")


def write_release(release: Release, path: Path) -> None:
    """Write a frozen release file: JSON where the name ends in .json, else YAML. Raises `ReleaseError`, the old file kept.

    It is read back before it takes the place of an older one.
    """
    envelope = {
        "release": release.name,
        "digest": release.digest,
        "axes": _plain_for_yaml(release.axes),
        "provenance": _plain_for_yaml(release.provenance),
        **({"pinned": _plain_for_yaml(release.pinned)} if release.pinned else {}),
    }
    if holds_key(json.dumps(envelope, ensure_ascii=False)):
        raise ReleaseError(
            f"cannot write the release {shown(path)}: it holds what looks like a key and would spread it; take it out of the release, "
            "or say `secrets: {shapes: false}` in bisect.yaml if it is none"
        )
    try:
        with writing(path, what="the release") as beside:
            fill(beside, _yaml_text(envelope, path))
            if beside.is_file() and load_release(beside).digest != release.digest:
                raise ReleaseError("it does not read back as what was written; give it a name that ends in .json")
    except (ReleaseError, ValueError) as error:
        raise ReleaseError(f"cannot write the release {shown(path)}: {error}") from error
    except BisectError as error:
        raise ReleaseError(str(error)) from error


def _yaml_text(envelope: dict[str, Any], path: Path) -> str:
    if path.suffix.lower() == ".json":
        return json.dumps(envelope, indent=1, ensure_ascii=True, allow_nan=False) + "\n"
    return yaml_text(envelope)


def yaml_text(value: Mapping[str, Any]) -> str:
    """The YAML of plain JSON that people review: letters as they are, hidden characters as escapes in double quotes."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes text with hidden characters in double quotes, where escapes mean what they say."""

        def analyze_scalar(self, scalar: str) -> Any:
            """As PyYAML does, but tabs and blanks at the ends of lines stand in blocks too: YAML keeps them there."""
            analysis = super().analyze_scalar(scalar)
            analysis.allow_block |= "\n" in scalar and not _UNFIT_FOR_BLOCK.search(scalar)
            return analysis

    def represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        style = '"' if _HIDDEN.search(text) else "|" if "\n" in text else None  # a block, where YAML can have the text as one
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, represent)
    dumped: str = yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04X}", dumped)


def _plain_for_yaml(value: Any) -> Any:
    """Ordinary dicts and lists, as the YAML writer wants them."""
    if isinstance(value, Mapping):
        return {key: _plain_for_yaml(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_for_yaml(item) for item in value]
    return value
