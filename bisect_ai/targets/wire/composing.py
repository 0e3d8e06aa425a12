"""A cell composed in the program's own requests: what differs between the releases is put where one of them stands.

A release is cut into pieces that differ: a model's name, a sampling setting, a text, a tool. A text is replaced where the good or the
bad release's stands word for word, inside a longer message too, so it does not matter which release the program sends; a tool is
matched by its name. `SeenOnWire` notes for one trial which pieces its requests held, so that what could not be composed is said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bisect_ai.canonical import json_object, plain
from bisect_ai.release.tools import Tool
from bisect_ai.targets.wire.release_pieces import (
    Axes,
    Renames,
    WirePiece,
    argument_renames,
    merged_schema,
    tools_by_name,
    value_at,
)
from bisect_ai.targets.wire.request_shapes import Body, CallSpot, RequestShape, TextSpot, ToolSpot, chosen_tools

_SAME_SETTING = (("max_tokens", "max_completion_tokens", "max_output_tokens"), ("stop", "stop_sequences"))
# Characters of a text that is looked for in the user's own messages, too; a shorter one may stand there by chance.
_SHORTEST_ANYWHERE = 16
# Per cent of likeness (rapidfuzz `partial_ratio`) from which on a text that is not found word for word is taken to be there.
_LIKE = 60.0
_LONGEST_COMPARED = 20_000  # characters: the comparison takes their product
_PARTS = re.compile(r"\s+")  # texts are compared but for their white space
_VARIABLE = re.compile(r"(\{\{\s*\w+\s*\}\}|\{\w+\})")  # variables of a prompt in either notation
# Characters of a template besides its variables: with fewer, any text would be one of its fillings.
_FEWEST_LITERAL = 8
_WRITTEN = ("system", "user")
# Forms of one tool that are remembered: a program that writes the time into it sends another each time.
_MOST_KNOWN = 16
# List of tools to what a provider refuses in a request without one.
_CHOICES = {"tools": ("tool_choice", "parallel_tool_calls"), "functions": ("function_call",)}


@dataclass
class SeenOnWire:
    """What the requests of one trial held."""

    # Names of pieces that stood in one of them.
    found: set[str] = field(default_factory=set)
    # Name of a piece to why it could not be put in.
    refused: dict[str, str] = field(default_factory=dict)
    # Tool call to the name and arguments that the model wrote, for requests that repeat it under the program's names.
    originals: dict[str, tuple[str, Any]] = field(default_factory=dict)
    # Composed name of a tool to the program's name of it, and to how its arguments are called there.
    calls: dict[str, tuple[str, Renames]] = field(default_factory=dict)

    def missing(self, needed: Collection[str]) -> str | None:
        """What of the pieces that are `needed` no request could be given, and why; None: all that was tried could be."""
        lost = [f"{name}: {why}" for name, why in self.refused.items() if name in needed and name not in self.found]
        return "; ".join(lost) or None


@dataclass(frozen=True)
class ComposedTool:
    """An offered tool as a cell has it, and how its arguments are called by the program."""

    holder: Body
    renames: Renames
    is_renamed: bool


# (piece, key of the schema, the cell's tool) to tools that a program offered, and what each of them became.
KnownTools = dict[tuple[str, str, str], list[tuple[Body, ComposedTool]]]


class WireCell:
    """One composed release, for requests: `compose` changes a body in place, `decompose` an answer back for the program's code."""

    def __init__(self, pieces: Sequence[WirePiece], axes: Axes, known: KnownTools | None = None) -> None:
        """`known`: tools that were composed before, for all cells of a run: finding renamed arguments takes milliseconds."""
        self._known = {} if known is None else known
        self._texts = sorted(
            ((piece, value_at(axes, piece.place)) for piece in pieces if piece.kind in ("text", "document")),
            key=lambda each: -max(len(side or "") for side in (each[0].good, each[0].bad)),
        )
        self._values = [(p, value_at(axes, p.place)) for p in pieces if p.kind in ("model", "sampling")]
        self._models = _models_by_axis(pieces, axes)
        tools = {axis: tools_by_name(axes.get(axis)) for axis in {str(p.place[0]) for p in pieces if p.kind == "tool"}}
        self._tools = [(piece, tools[str(piece.place[0])]) for piece in pieces if piece.kind == "tool"]
        self._texts_of = {id(tool): json.dumps(tool) for each in tools.values() for tool in each.values()}
        # Names of the pieces that are not as in the bad release, which the program is taken to be.
        self.needed = frozenset(
            [piece.name for piece, value in (*self._texts, *self._values) if value != piece.bad]
            + [piece.name for piece, composed in self._tools if piece.bad != _first(composed, piece)]
        )

    def compose(self, body: Body, shape: RequestShape, seen: SeenOnWire) -> None:
        """Give a request what the cell has. What cannot be is noted in `seen`."""
        is_ours = self._set_model(body, seen)
        self._set_sampling(body, seen, is_ours=is_ours)
        spots = list(shape.texts(body))
        for piece, text in self._texts:
            self._set_text(piece, text or "", spots, seen)
        self._set_tools(body, shape, seen)
        for call in shape.past_calls(body):
            _call_forth(call, seen)
        for holder in chosen_tools(body):
            _call_forth(CallSpot(holder, None, ""), seen)

    def decompose(self, answer: Body, shape: RequestShape, seen: SeenOnWire) -> bool:
        """Give the calls of an answer the names that the program's code knows; whether anything changed."""
        changed = [_call_back(call, seen) for call in shape.calls(answer)]
        return any(changed)

    # -- values ------------------------------------------------------------------------------------------------------
    def _set_model(self, body: Body, seen: SeenOnWire) -> bool:
        """Whether the request is to the model of a release: others (embeddings, a small classifier) stay as they are."""
        models = [(piece, value) for piece, value in self._values if piece.kind == "model"]
        for piece, value in models:
            sides = [str(side) for side in (piece.good, piece.bad) if side is not None]
            if not any(_bare(side) == _bare(str(body.get("model"))) for side in sides):
                seen.refused[piece.name] = (
                    f"the program asks for the model {str(body.get('model'))[:60]!r}, which neither release has"
                )
                continue
            if value is None or len({_provider(side) for side in sides} - {""}) > 1:
                seen.refused[piece.name] = f"{' and '.join(sides)} are of two providers, and the program speaks to one"
                continue
            seen.found.add(piece.name)
            body["model"] = value if "/" in str(body.get("model")) and "/" in str(value) else _bare(str(value))
            return True
        return not models

    def _set_sampling(self, body: Body, seen: SeenOnWire, *, is_ours: bool) -> None:
        for piece, value in self._values:
            models = self._models.get(piece.place[0])
            if piece.kind != "sampling" or not (is_ours if models is None else _bare(str(body.get("model"))) in models):
                continue
            name = str(piece.place[-1])
            alike = next((group for group in _SAME_SETTING if name in group), (name,))
            spelling = next((each for each in alike if each in body), name)
            seen.found.add(piece.name)
            if value is None:
                body.pop(spelling, None)
            else:
                body[spelling] = plain(value)

    # -- texts -------------------------------------------------------------------------------------------------------
    def _set_text(self, piece: WirePiece, text: str, spots: Sequence[TextSpot], seen: SeenOnWire) -> None:
        sides = sorted({side for side in (piece.good, piece.bad) if side}, key=len, reverse=True)
        for cut in (_whole, str.strip):
            for side in (found for each in sides if (found := cut(each))):
                at = [spot for spot in _where(piece, side, spots) if side in spot.text]
                for spot in at:
                    spot.put(spot.text.replace(side, cut(text)))
                if at:
                    seen.found.add(piece.name)
                    return
        written = [spot for spot in spots if spot.role in _WRITTEN]
        if piece.kind == "text" and [spot for side in sides for spot in written if fill_like(spot, side, text)]:
            seen.found.add(piece.name)
        elif piece.kind == "text" and (near := _nearest(sides, spots)) is not None:
            seen.refused[piece.name] = f"the text of neither release stands word for word in the request, which has: {near}"

    # -- tools -------------------------------------------------------------------------------------------------------
    def _set_tool(self, spot: ToolSpot, piece: WirePiece, tool: Tool, seen: SeenOnWire) -> None:
        known = self._known.setdefault((piece.name, spot.schema_key, self._texts_of[id(tool)]), [])
        made = next((composed for given, composed in known if given == spot.holder), None)
        if made is None:
            made = _composed_tool(spot, piece, tool)
            known[:] = [*known[1 - _MOST_KNOWN :], (dict(spot.holder), made)]
        if made.is_renamed:
            seen.calls[tool["name"]] = spot.name, made.renames
        spot.holder.clear()
        spot.holder.update(made.holder)

    def _set_tools(self, body: Body, shape: RequestShape, seen: SeenOnWire) -> None:
        offered = {spot.name: spot for spot in shape.tools(body)}
        gone: list[ToolSpot] = []
        for piece, composed in self._tools:
            spot = next((offered[name] for name in _names_of(piece) if name in offered), None)
            tool = _first(composed, piece)
            if spot is not None:
                seen.found.add(piece.name)
                if tool is None:
                    gone.append(spot)
                else:
                    self._set_tool(spot, piece, tool, seen)
            elif tool is not None and offered:
                seen.refused[piece.name] = f"the program offers no tool {tool['name']}, and has no code for it"
        for spot in sorted(gone, key=lambda each: -each.place):
            del body[spot.within][spot.place]
        for within in {spot.within for spot in gone if not body[spot.within]}:
            for key in (within, *_CHOICES[within]):
                body.pop(key, None)


def _models_by_axis(pieces: Sequence[WirePiece], axes: Axes) -> dict[str | int, set[str]]:
    """Axis to the names of its model in either release, for axes that name one: their settings are for requests to it."""
    found: dict[str | int, set[str]] = {}
    for axis, value in axes.items():
        if isinstance(value, Mapping) and isinstance(value.get("model"), str):
            found[axis] = {_bare(value["model"])}
    for piece in pieces:
        if piece.kind == "model":
            sides = {_bare(str(side)) for side in (piece.good, piece.bad) if side is not None}
            found[piece.place[0]] = found.get(piece.place[0], set()) | sides
    return found


def _composed_tool(spot: ToolSpot, piece: WirePiece, tool: Tool) -> ComposedTool:
    program, made = _program_tool(spot, piece), dict(spot.holder)
    made["name"] = tool["name"]
    for key in {*program, *tool} - {"name", "parameters"}:
        if program.get(key) != tool.get(key):
            made[key] = merged_schema(program.get(key), tool.get(key), made.get(key))
            if made[key] is None:
                del made[key]
    made[spot.schema_key] = merged_schema(program["parameters"], tool["parameters"], made.get(spot.schema_key) or {})
    renames = argument_renames(program["parameters"], tool["parameters"])
    return ComposedTool(made, renames, is_renamed=bool(renames) or spot.name != tool["name"])


def _program_tool(spot: ToolSpot, piece: WirePiece) -> Tool:
    """The release's tool that the program offers: the one whose arguments are called as in the request; of equals, the bad one."""
    sent = set((spot.holder.get(spot.schema_key) or {}).get("properties") or ())
    sides = [side for side in (piece.bad, piece.good) if side is not None]

    def unlike(side: Tool) -> tuple[int, bool, bool]:
        other_text = side.get("description", "") != spot.holder.get("description", "")
        return len(sent ^ set(side["parameters"].get("properties") or ())), side["name"] != spot.name, other_text

    return min(sides, key=unlike)


def _first(composed: Mapping[str, Tool], piece: WirePiece) -> Tool | None:
    return next((composed[name] for name in _names_of(piece) if name in composed), None)


def _names_of(piece: WirePiece) -> list[str]:
    return [str(side["name"]) for side in (piece.bad, piece.good) if side is not None]


def _call_back(call: CallSpot, seen: SeenOnWire) -> bool:
    """Whether a call of the answer was given the program's names."""
    name = str(call.holder.get("name"))
    if name not in seen.calls:
        return False
    known, renames = seen.calls[name]
    if call.key is not None:
        seen.originals[call.id] = name, call.holder.get(call.key)
        call.holder[call.key] = _taken(call.holder.get(call.key), renames.back)
    call.holder["name"] = known
    return True


def _call_forth(call: CallSpot, seen: SeenOnWire) -> None:
    """A call that a request repeats, as the model wrote it."""
    if call.key is not None and call.id in seen.originals:
        call.holder["name"], call.holder[call.key] = seen.originals[call.id]
        return
    for name, (known, renames) in seen.calls.items():
        if call.holder.get("name") == known:
            call.holder["name"] = name
            if call.key is not None:
                call.holder[call.key] = _taken(call.holder.get(call.key), renames.forth)
            return


def _taken(arguments: Any, names: Any) -> Any:
    """Arguments under other names, in the form that they had; what is no JSON object stays as it is."""
    if not isinstance(arguments, str):
        return names(arguments)
    read = json_object(arguments, numbers="finite")
    return arguments if read is None else json.dumps(names(read), ensure_ascii=False)


def fill_like(spot: TextSpot, template: str, other: str) -> bool:
    """Whether a text is the `template` with its variables filled: then the `other` one stands in its place, filled with the same."""
    parts = _VARIABLE.split(template)
    literals, names = parts[::2], parts[1::2]
    if not names or sum(len(part.strip()) for part in literals) < _FEWEST_LITERAL:
        return False
    pattern = "(.*?)".join(map(re.escape, literals))
    start, end = ("" if literals[0] else r"\A"), ("" if literals[-1] else r"\Z")
    found = re.search(f"{start}{pattern}{end}", spot.text, re.DOTALL)
    if found is None:
        return False
    values = dict(zip(map(_bare_name, names), found.groups(), strict=True))
    if any(_bare_name(name) not in values for name in _VARIABLE.findall(other)):
        return False
    filled = _VARIABLE.sub(lambda name: values[_bare_name(name[1])], other)
    spot.put(spot.text[: found.start()] + filled + spot.text[found.end() :])
    return True


def _bare_name(variable: str) -> str:
    return variable.strip("{} ")


def _whole(text: str) -> str:
    return text


def _where(piece: WirePiece, text: str, spots: Sequence[TextSpot]) -> list[TextSpot]:
    """Where a text may stand: documents anywhere, others in the system's messages, and in the user's where they are long enough."""
    if piece.kind == "document":
        return [spot for spot in spots if spot.role != "assistant"]
    system = [spot for spot in spots if spot.role == "system"]
    if any(text in spot.text for spot in system) or len(text) < _SHORTEST_ANYWHERE:
        return system
    return [spot for spot in spots if spot.role == "user"]


def _nearest(sides: Sequence[str], spots: Sequence[TextSpot]) -> str | None:
    """The start of the message that is like one of the texts; None: none is."""
    from rapidfuzz import fuzz

    for spot in spots:
        if spot.role in ("system", "user") and len(spot.text) >= _SHORTEST_ANYWHERE:
            text = spot.text[:_LONGEST_COMPARED]
            if any(
                fuzz.partial_ratio(side[:_LONGEST_COMPARED], text) >= _LIKE for side in sides if len(side) >= _SHORTEST_ANYWHERE
            ):
                return repr(_PARTS.sub(" ", text)[:80])
    return None


def _bare(model: str) -> str:
    """A model's name without litellm's prefix of its provider."""
    return model.rpartition("/")[2]


def _provider(model: str) -> str:
    head = model.partition("/")[0] if "/" in model else ""
    return head if head in ("openai", "anthropic", "azure", "gemini", "mistral", "bedrock", "vertex_ai", "groq") else ""
