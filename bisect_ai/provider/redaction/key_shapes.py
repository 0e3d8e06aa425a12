"""Credentials by their shape: the patterns that detect-secrets maintains, and those of model providers that it does not know.

Patterns run on single words of a text (between spaces, quotes and brackets), and only on those long enough for a key: prose costs
next to nothing, and a hostile word of megabytes is cut up, so that no pattern is slow on it. The patterns of `detect_secrets` are
read out of its files: importing them loads an HTTP client, a tenth of a second.

A credential whose value is known is found as it may be written (`Forms`): as it is, in JSON, HTML, an address, base64, hex.
"""

from __future__ import annotations

import ast
import base64
import html
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, reduce
from importlib import import_module
from importlib.util import find_spec
from operator import or_
from pathlib import Path
from urllib.parse import quote, quote_plus

REDACTED = "[redacted]"
_LETTERS_ONLY = re.compile(r"[A-Za-z]{1,11}")  # values that may be ordinary words: hidden as whole words only
_LEAST = 6  # an encoded form shorter than this stands in ordinary text by chance
_CUT = 16  # characters at either end of a long value that are hidden by themselves


@dataclass(frozen=True)
class Forms:
    """All forms of some values, longest first, so that no part of one is left behind; short words only where they stand alone."""

    anywhere: tuple[str, ...]
    alone: re.Pattern[str] | None

    def hide(self, text: str) -> str:
        """`text` without them."""
        if self.anywhere and len(text) >= len(self.anywhere[-1]):  # the shortest; names and outcomes are shorter still
            for form in self.anywhere:
                if form in text:
                    text = text.replace(form, REDACTED)
        return text if self.alone is None else self.alone.sub(REDACTED, text)


@lru_cache(maxsize=8)
def forms_of(values: frozenset[str]) -> Forms:
    """The forms of these values."""
    words = sorted((value for value in values if _LETTERS_ONLY.fullmatch(value)), key=lambda word: (-len(word), word))
    forms = {form for value in values for form in _encoded_forms(value) if len(form) >= _LEAST} - set(words)
    # Not inside a longer word, though an escaped character may end right before it.
    alone = rf"(?:(?<![A-Za-z])|(?<=%[0-9A-Fa-f]{{2}})|(?<=\\[nrt]))(?:{'|'.join(words)})(?![A-Za-z])" if words else None
    ordered = tuple(sorted(forms, key=lambda form: (-len(form), form)))
    return Forms(ordered, None if alone is None else re.compile(alone))


def _encoded_forms(value: str) -> Iterator[str]:
    raw = value.encode("utf-8", "surrogateescape")
    yield value
    yield from _cut_ends(value)
    yield from _in_addresses(value)
    once = json.dumps(value)[1:-1]
    yield from (once, json.dumps(once)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], once.replace("/", "\\/"))
    yield from (repr(value)[1:-1], html.escape(value), html.escape(value).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"))
    yield from (raw.hex(), raw.hex().upper())
    for encoded in (*_in_base64(raw, base64.b64encode), *_in_base64(raw, base64.urlsafe_b64encode)):
        yield from (encoded, quote(encoded, safe=""), encoded.replace("/", "\\/"))


def _cut_ends(value: str) -> Iterator[str]:
    """The beginning and the end of a long value: what is left of it where a text was cut. Not of an address, nor of words."""
    for part in (value[:_CUT], value[-_CUT:]):
        if len(value) > _CUT and "://" not in value and is_random(part):
            yield part


def _in_addresses(value: str) -> Iterator[str]:
    text = value.encode("utf-8", "surrogateescape")
    for written in (quote(text, safe=""), quote(text), quote_plus(text)):
        yield written
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), written)
        yield quote(written, safe="")


def _in_base64(raw: bytes, encode: object) -> Iterator[str]:
    """The characters that stand for the value wherever it begins inside what was encoded (`user:password`, JSON)."""
    assert callable(encode)
    for before in range(3):
        text = encode(b"\0" * before + raw).decode("ascii")
        yield text[-(-8 * before // 6) : 8 * (before + len(raw)) // 6]


_SHORTEST_WORD = 20  # shorter words hold no key of the patterns below (AWS has 20 characters)
# Patterns see parts of long words, so that their time stays linear; no key is longer than the overlap.
_LONGEST_WORD, _OVERLAP = 2048, 512
_WORD = re.compile(rf"[^\s\"'`,;<>(){{}}\[\]|\\]{{{_SHORTEST_WORD},}}")
# Of detect-secrets' plugins those whose shape alone is telling (so no entropy, keywords, addresses) and which are quick on
# hostile text (npm's and OpenAI's take quadratic time; `_OWN` has their keys).
_PLUGINS = {
    "aws": "AWSKeyDetector",
    "azure_storage_key": "AzureStorageKeyDetector",
    "discord": "DiscordBotTokenDetector",
    "github_token": "GitHubTokenDetector",
    "gitlab_token": "GitLabTokenDetector",
    "mailchimp": "MailchimpDetector",
    "pypi_token": "PypiTokenDetector",
    "sendgrid": "SendGridDetector",
    "slack": "SlackDetector",
    "square_oauth": "SquareOAuthDetector",
    "stripe": "StripeDetector",
    "telegram_token": "TelegramBotTokenDetector",
    "twilio": "TwilioKeyDetector",
}
# Keys of model providers and others that detect-secrets does not know, or knows too slowly.
_OWN = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"sk-(?:ant|proj|svcacct|admin|or-v1|lf)-[A-Za-z0-9_-]{16,}"  # Anthropic, OpenAI, OpenRouter, Langfuse
    r"|sk-[A-Za-z0-9_-]{0,24}[A-Za-z0-9]{20,}"  # OpenAI of old, DeepSeek, LiteLLM, others
    r"|[rsp]k_(?:live|test)_[A-Za-z0-9]{16,}"
    r"|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,}"  # Google
    r"|hf_[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{30,}|xai-[A-Za-z0-9]{30,}|pplx-[A-Za-z0-9]{30,}|r8_[A-Za-z0-9]{30,}|nvapi-[A-Za-z0-9_-]{30,}"
    r"|gh[opusr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,}|npm_[A-Za-z0-9]{36}|dckr_pat_[A-Za-z0-9_-]{20,}|dop_v1_[a-f0-9]{64}"
    r"|lsv2_[a-z]{2}_[A-Za-z0-9_]{30,}|whsec_[A-Za-z0-9+/=]{20,}|shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}|xapp-\d-[A-Za-z0-9-]{20,}"
    r")|(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]*"  # JSON Web Token
)
# Addresses of chats: whoever has one can write there.
_HOOK = re.compile(
    r"https?://(?:hooks\.slack\.com/(?:services|workflows|triggers)|discord(?:app)?\.com/api/webhooks|[\w.-]{1,60}\.webhook\.office\.com/webhookb2"
    r"|outlook\.office\.com/webhook|hooks\.zapier\.com/hooks|chat\.googleapis\.com/v1/spaces)/[\w./?=&%@:~+-]{8,}",
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"(?<=://)([^\s/@:\"'<>]{0,128}):([^\s/@\"'<>]{1,256})@")  # user:password@ in an address
_FIELDS = (
    r"(?:api[-_]?key|passw(?:or)?d|passphrase|(?:access|auth|refresh|bearer)[-_]?token|secret|private[-_]?key|access[-_]?key)"
)
# A credential in the query of an address.
_QUERY = re.compile(rf"([?&][\w.-]{{0,32}}(?:{_FIELDS}|token|signature|sig|key)=)([^&\s\"'<>#\\]{{8,4096}})", re.IGNORECASE)
# A credential as a member of JSON, or of what Python prints.
_MEMBER = re.compile(
    rf"({_FIELDS}(?:[-_]?key)?(?:\\{{0,7}}[\"']{{1,2}})?\s{{0,4}}[:=]\s{{0,4}}\\{{0,7}}[\"']{{0,2}})"
    r"([^\"'\\\s,;&]{6,4096})",
    re.IGNORECASE,
)
_NAMING = ("key", "passw", "passphrase", "token", "secret", "sig")
# The value of an authorization header.
_SCHEME = re.compile(r"\b((?:bearer|basic)\s{1,4})([A-Za-z0-9._~+/=-]{12,})", re.IGNORECASE)
# A private key, its end missing where the text was cut.
_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=\s]|\\+[rn])*+"
    r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?"
)


# Characters of a text that is remembered with what is left of it: each answer passes the gate twice, its model's name each time.
_REMEMBERED = 4096


def hide(text: str) -> str:
    """`text` without what looks like a credential."""
    return _hide_again(text) if len(text) <= _REMEMBERED else _hide(text)


def _hide(text: str) -> str:
    low = text.lower()
    if "private key" in low:
        text = _PEM.sub(REDACTED, text)
    if "://" in low and "@" in low:
        text = _PASSWORD.sub(_hidden_password, text)
    if any(map(low.__contains__, _NAMING)):
        text = _MEMBER.sub(_hidden_value, _QUERY.sub(_hidden_value, text))
    if "bearer" in low or "basic" in low:
        text = _SCHEME.sub(_hidden_value, text)
    if max(map(len, text.split()), default=0) < _SHORTEST_WORD:
        return text
    return _WORD.sub(_hidden_word, text)


_hide_again = lru_cache(maxsize=512)(_hide)


def is_key_like(text: str) -> bool:
    """Whether a private key or the key of a known service is in it: what only a credential looks like."""
    return _PEM.search(text) is not None or any(True for word in _WORD.findall(text) for _ in _word_spans(word))


def _hidden_word(found: re.Match[str]) -> str:
    word, kept, end = found[0], [], 0
    for start, stop in sorted(_word_spans(word)):
        if stop > end:
            kept.append(word[end : max(start, end)] + (REDACTED if start >= end else ""))
            end = stop
    return "".join(kept) + word[end:]


def _word_spans(word: str) -> Iterator[tuple[int, int]]:
    """Where credentials stand in a word."""
    for pattern in (_OWN, _HOOK):
        yield from (match.span() for match in pattern.finditer(word) if not match[0].startswith("sk-") or _is_key(match[0]))
    for start in range(0, max(len(word) - _OVERLAP, 1), _LONGEST_WORD - _OVERLAP):
        part = word[start : start + _LONGEST_WORD]
        if any_maintained().search(part) is not None:
            for pattern in maintained():
                yield from ((start + match.start(), start + match.end()) for match in pattern.finditer(part))


def _is_key(found: str) -> bool:
    """Whether what begins like a key is none of the many names that do (`sk-container-id-1`)."""
    return found.startswith(("sk-ant-", "sk-proj-", "sk-or-")) or any(
        is_random(run) or len(run) >= _SHORTEST_WORD for run in re.split("[-_]", found)
    )


@cache
def maintained() -> tuple[re.Pattern[str], ...]:
    """The patterns of detect-secrets, read when they are first asked for."""
    patterns = (
        pattern for module, name in _PLUGINS.items() for pattern in _written_patterns(module) or _denylist(module, name)
    )
    return tuple(
        pattern for pattern in patterns if "'" not in pattern.pattern
    )  # one that asks for quotes matches inside no word


@cache
def any_maintained() -> re.Pattern[str]:
    """One pattern that is found wherever one of `maintained` is: hardly a word has any, and one search costs less than twenty."""
    patterns = maintained()
    if any(re.search(r"\\[1-9]|\(\?[P(]", pattern.pattern) for pattern in patterns):  # their groups would be counted anew
        return re.compile("")
    return re.compile("|".join(map(_inline, patterns)))


def _inline(pattern: re.Pattern[str]) -> str:
    flags = "".join(letter for letter in "aimsx" if pattern.flags & getattr(re, letter.upper()))
    return f"(?{flags}:{pattern.pattern}{chr(10) if 'x' in flags else ''})"  # a comment would go on to the end of the line


def _denylist(module: str, name: str) -> Sequence[re.Pattern[str]]:
    """A plugin's patterns as it gives them; importing it loads an HTTP client, a tenth of a second of each start."""
    patterns: Sequence[re.Pattern[str]] = getattr(import_module(f"detect_secrets.plugins.{module}"), name).denylist
    return patterns


def _written_patterns(module: str) -> list[re.Pattern[str]]:
    """A plugin's patterns out of its source, but for those put together that ask for quotes; none when they are not plainly written."""
    found = find_spec("detect_secrets")
    folder = (found.submodule_search_locations or [""])[0] if found else ""
    try:
        tree = ast.parse(Path(folder, "plugins", f"{module}.py").read_text(encoding="utf-8"))
        calls = next(n.value for n in ast.walk(tree) if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "denylist")
        return [pattern for call in getattr(calls, "elts", ()) if (pattern := _compiled(call)) is not None]
    except (OSError, ValueError, SyntaxError, StopIteration, AttributeError, re.error):
        return []


def _compiled(call: ast.expr) -> re.Pattern[str] | None:
    """What `re.compile("...", flags)` gives; None for a text that is put together and asks for quotes."""
    if not isinstance(call, ast.Call) or ast.unparse(call.func) != "re.compile":
        raise ValueError(f"{ast.unparse(call)} is no pattern")
    text, *others = [*call.args, *(keyword.value for keyword in call.keywords)]
    if not isinstance(text, ast.Constant) and "'" in ast.unparse(text)[2:-2]:
        return None
    if not isinstance(text, ast.Constant) or not isinstance(text.value, str):
        raise ValueError(f"{ast.unparse(text)} is not plainly written")
    flags = [getattr(re, name) for flag in others for name in re.findall(r"re\.([A-Z]+)", ast.unparse(flag))]
    return re.compile(text.value, reduce(or_, flags, re.NOFLAG))


def _hidden_password(found: re.Match[str]) -> str:
    return f"{found[1]}:{REDACTED}@"


def _hidden_value(found: re.Match[str]) -> str:
    plain = is_ordinary(found[2]) or found[2] == REDACTED or not _is_chosen(found[2])
    return found[0] if plain else f"{found[1]}{REDACTED}"


def _is_chosen(value: str) -> bool:
    """Whether a value is none of the words that stand in its place in documentation."""
    return is_random(value, shortest=8) or any(c in "!#%^&*+=~@?" for c in value)


# -- values that say nothing secret, and values that only a machine makes ----------------------------------------------------
# Words that stand in the place of a credential, or are what a variable about one holds: never hidden, for everybody uses
# them.
COMMON = re.compile(
    r"access|account|active|address|always|amount|anonymous|answer|answers|api_key|apikey|balance|bearer|because|before"
    r"|between|billing|bridge|business|cached|cancel|cancelled|change|changeme|charge|client|common|company|complete|config"
    r"|confirm|contact|correct|country|credential|credentials|credit|current|custom|customer|customers|database|december"
    r"|default|delivery|details|development|device|digest|disable|disabled|discount|document|documents|domain|download"
    r"|during|enable|enabled|english|enterprise|evening|example|expired|external|failed|family|father|february|finance"
    r"|friday|friend|friends|future|general|global|google|government|helpdesk|hidden|history|however|important|information"
    r"|inside|internal|invalid|invoice|invoices|january|keyring|language|latest|letter|library|license|limited|little"
    r"|localhost|location|logged|manual|market|master|matter|memory|message|messages|minute|minutes|missing|mobile|moment"
    r"|monday|months|morning|mother|native|network|nobody|normal|nothing|notice|november|number|oauth2|october|office|online"
    r"|option|optional|options|ordered|orders|others|package|partner|passwd|password|payment|pending|people|period|person"
    r"|placeholder|platform|please|plugin|policy|possible|postgres|prefer|premium|prices|pricing|primary|privacy|private"
    r"|problem|product|production|products|profile|program|project|prompt|provider|public|purchase|question|questions"
    r"|readonly|reason|received|record|redacted|reference|refund|refunds|region|release|remote|renewal|replace|report"
    r"|reports|request|require|required|response|result|results|return|returns|saturday|school|search|second|secondary"
    r"|secret|secrets|section|security|selected|sender|september|server|service|session|settings|shipping|should|signed"
    r"|simple|single|social|something|source|special|staging|standard|started|static|status|storage|street|string|strong"
    r"|student|subject|subscription|success|summary|summer|sunday|support|system|testing|thanks|thursday|ticket|tickets"
    r"|together|tomorrow|transfer|tuesday|twenty|unknown|unlimited|update|upgrade|upload|username|verify|verify-full|version"
    r"|visitor|warehouse|warning|website|wednesday|welcome|window|windows|winter|within|without|worker|working|written"
    r"|yellow|yesterday",
    re.IGNORECASE,
)
SHORTEST = 6  # characters of a credential, the fewest: a shorter one hidden would turn ordinary text into stars
# Characters from which a mixture of letters and digits is taken for chosen by a machine.
RANDOM = 12
LETTERS = 16  # without digits more are asked for: names of classes are mixtures of cases too
_NUMBER = re.compile(r"[\d.,:_/+\sTZeE-]{1,40}")  # numbers, dates, times, versions, addresses of IPv4
_MOST_DIGITS = 19  # digits of a 64-bit number; longer ones may be credentials
_DRIVE = re.compile(r"(?:~|\.{0,2}|[A-Za-z]:)(?:[/\\][\w. @+-]{1,48})+[/\\]?(?::.*)?")  # paths below home, a folder or a drive
_WHOLE_PATH = re.compile(r"[A-Za-z0-9+=]{20,}")  # a part of a path that looks like base64 is none of a file


def is_ordinary(value: str) -> bool:
    """Whether a value says nothing secret: a number, a date, a path, a common word, one character again and again."""
    text = value.strip()
    if len(text) < SHORTEST or len(set(text)) == 1 or COMMON.fullmatch(text):
        return True
    if _NUMBER.fullmatch(text) and sum(c.isdigit() for c in text) <= _MOST_DIGITS:
        return True
    return "/" in text + "\\" and _DRIVE.fullmatch(text) is not None and not _machine_made(text)


def is_random(text: str, *, shortest: int = RANDOM) -> bool:
    """Whether letters and digits are mixed as only a machine does."""
    if len(text) < shortest or any(c.isspace() for c in text):
        return False
    digits, letters = any(c.isdigit() for c in text), any(c.isalpha() for c in text)
    return letters and (digits or (len(text) >= LETTERS and text.lower() != text and text.upper() != text))


def _machine_made(path: str) -> bool:
    return any(is_random(part) for part in re.split(r"[/\\]", path) if _WHOLE_PATH.fullmatch(part))
