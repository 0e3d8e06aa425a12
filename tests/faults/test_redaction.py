"""What the gate hides, and what it leaves alone: names and values of variables, shapes of keys, encodings, ordinary text."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisect_ai.config import Config, SecretsOf
from bisect_ai.errors import ConfigError
from bisect_ai.provider.redaction import Secrets, holds_key, key_shapes, obey, redact, redact_all, strength
from bisect_ai.provider.redaction.key_shapes import REDACTED, hide, maintained

NAMES = (
    *(
        "ANTHROPIC_API_KEY_PROD",
        "OPENAI_KEY_EU",
        "CLIENT_SECRET_PROD",
        "DB_PASS",
        "MYSQL_PWD",
        "GITHUB_PAT",
        "BEARER",
        "STRIPE_SK",
    ),
    *(
        "SVC_CREDENTIAL_2",
        "openaiApiKey",
        "HOOK_WEBHOOK_URL",
        "PGPASSWORD",
        "AUTHTOKEN_X",
        "KEYS",
        "TOKEN_V2",
        "SSHPASS",
        "OPENAIKEY",
    ),
    *("aws.secret.access.key", "session-cookie"),
)
VALUE = "qz-7F3a90bX+1/yy"
ELSEWHERE = {
    "REDIS_ADDRESS": (f"redis://:{quote(VALUE, safe='')}@host:1/0", VALUE),
    "PLAIN_URL": (f"https://h.example/y?x=1&api_key={quote(VALUE, safe='')}", VALUE),
    "GIT_REMOTE": ("https://qz7F3a90bXyy@git.example/x.git", "qz7F3a90bXyy"),
    "SERVICE_ACCOUNT": (json.dumps({"type": "x", "nested": [{"private_key": f"-----BEGIN-----\n{VALUE}ab\n"}]}), VALUE + "ab"),
    "APP_SETTINGS": (json.dumps({"db": {"password": VALUE}}), VALUE),
    "STORAGE": (f"AccountName=x;AccountKey={VALUE};EndpointSuffix=y", VALUE),
    "OPTIONS": (f"--retries=3 --token={VALUE}", VALUE),
    "SENTRY_DSN": ("https://qz7f3a90bf@o1.ingest.example/42", "qz7f3a90bf"),
    "SLACK_WEBHOOK": ("https://hooks.example.org/services/T0/B0/qz7F3a90bXyy", "qz7F3a90bXyy"),
    "BASIC_AUTH": ("someone:qz7F3a90bXyy", "qz7F3a90bXyy"),
    "API_KEYS": ("qz7F3a90bXyy,qz7F3a90bXzz", "qz7F3a90bXzz"),
}
WRITTEN: dict[str, Callable[[str], str]] = {
    "raw": str,
    "json": lambda v: json.dumps({"a": v}),
    "json in json": lambda v: json.dumps(json.dumps({"a": v})),
    "url": lambda v: quote(v, safe=""),
    "url, small": lambda v: quote(v, safe="").replace("%2B", "%2b").replace("%2F", "%2f"),
    "url twice": lambda v: quote(quote(v, safe=""), safe=""),
    "html": html.escape,
    "hex": lambda v: v.encode().hex(),
    "HEX": lambda v: v.encode().hex().upper(),
    **{f"base64 after {n}": (lambda v, n=n: base64.b64encode(b"user:"[:n] + v.encode() + b"!").decode()) for n in range(4)},  # type: ignore[misc]
    "base64, for addresses": lambda v: base64.urlsafe_b64encode(v.encode()).decode(),
}


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No credential but the test's own."""
    for name in os.environ:
        if strength(name) != "none":
            monkeypatch.delenv(name)
    yield
    obey(Secrets())


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_known_by_its_words_and_a_value_in_each_form(
    name: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"before {WRITTEN[written](VALUE)} after"
    obey(Secrets(shapes=False))
    assert redact(text) == text
    monkeypatch.setenv(name, VALUE)
    clear = redact(text)
    assert clear.startswith("before ") and clear.endswith(" after") and "[redacted]" in clear
    pieces = {VALUE, VALUE.encode().hex(), quote(VALUE, safe="")} | {base64.b64encode(VALUE.encode()).decode()[4:16]}
    assert not [piece for piece in pieces if piece.lower() in clear.lower()]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_inside_addresses_json_and_lists_is_hidden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value, secret = ELSEWHERE[name]
    obey(Secrets(shapes=False))
    assert secret in redact(f"x {secret} y")
    monkeypatch.setenv(name, value)
    for text in (f"x {secret} y", f"x {value} y", secret.encode().hex(), base64.b64encode(f"u:{secret}".encode()).decode()):
        assert secret not in redact(text) and redact(text) != text


ORDINARY = {
    "MAX_TOKENS": "100000",
    "TOKENIZERS_PARALLELISM": "false-ish",
    "TOKEN_EXPIRES_AT": "2026-11-28T10:00:00Z",
    "SSL_KEY_FILE": "/etc/ssl/private/server.pem",
    "AUTH_MODE": "disabled",
    "DB_PASS": "password",
    "OTHER_PASS": "secret",
    "SECRET_NUMBER": "12345678",
    "KEY_REPEAT": "xxxxxxxx",
    "USE_KEYRING": "true",
    "TOKEN_URL": "https://login.example.com/oauth",
    "PATH_TO_X": "/usr/local/bin:/usr/bin",
    "KEYBOARD": "keyboard layout",
    "TASK": "reconcile the invoices",
    "MONKEY": "bananas",
    "SK": "short",
    "KEY_VAULT_NAME": "vault-westeurope",
    "AUTH_PROVIDER": "keycloak",
    "SECRET_TOPIC": "invoices",
    "X_PASS": "support",
}
PROSE = (
    "The password is 100000 characters at most; false-ish or disabled, use https://login.example.com/oauth on 2026-11-28T10:00:00Z. "
    "Your secret: 12345678, xxxxxxxx, /usr/local/bin:/usr/bin and /etc/ssl/private/server.pem, bananas, true, short. "
    "The keyboard layout lets you reconcile the invoices with support: vault-westeurope, keycloak. "
    "Basic authentication, bearer bonds and a basic understanding of tokens."
)


def test_ordinary_values_do_not_turn_text_into_stars(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ORDINARY.items():
        monkeypatch.setenv(name, value)
    assert redact(PROSE) == PROSE


@pytest.mark.parametrize(
    "name", ["PGPWD", "DBPASS", "SMTPPASS", "dbpwd", "GITHUBPAT", "OPENAIKEYS", "ADMINPW", "MY_SIGNINGKEY_2", "STRIPESK"]
)
def test_two_words_written_as_one_name_a_credential_whatever_it_looks_like(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "hunter88two")
    assert redact("x hunter88two y") == "x [redacted] y"


@pytest.mark.parametrize("name", ["MONKEY", "BYPASS", "OLDPWD", "TASK", "KEYBOARD"])
def test_a_word_that_only_ends_like_one_names_no_credential(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "hunter88two")
    assert redact("x hunter88two y") == "x hunter88two y"


def test_a_short_word_is_hidden_only_where_it_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASS", "hunter")
    assert (
        redact("hunter, headhunter, hunters: hunter! %2Fhunter") == "[redacted], headhunter, hunters: [redacted]! %2F[redacted]"
    )


A, H, D = "aB3xK9zQ", "0a1b2c3d", "12345678"
KEYS = {
    "anthropic": f"sk-ant-api03-{A * 8}-{A}AA",
    "openai": f"sk-{A}{A}12T3BlbkFJ{A}{A}1234",
    "openai project": f"sk-proj-{A * 10}",
    "openrouter": f"sk-or-v1-{H * 8}",
    "deepseek": f"sk-{H * 4}",
    "google": f"AIzaSy{A * 4}x",
    "hugging face": f"hf_{A * 4}ab",
    "groq": f"gsk_{A * 6}",
    "aws": "AKIA" + "QZ7F3A90BXYY1234",
    "github": f"ghp_{A * 4}1234",
    "github, fine": f"github_pat_{A * 10}",
    "gitlab": f"glpat-{A * 2}1234",
    "slack": f"xoxb-{D}90-{D}90-{A * 3}",
    "slack hook": f"https://hooks.slack.com/services/T0{D}/B0{D}/{A * 3}",
    "discord hook": f"https://discord.com/api/webhooks/{D}/{A * 4}",
    "stripe": f"sk_live_{A * 3}",
    "sendgrid": f"SG.{(A * 3)[:22]}.{(A * 6)[:43]}",
    "npm": f"npm_{A * 4}abcd",
    "pypi": f"pypi-AgEIcHlwaS5vcmc{A * 10}",
    "telegram": f"{D}90:{(A * 5)[:35]}",
    "twilio": f"SK{H * 4}",
    "azure": f"AccountKey={A * 11}",
    "jwt": f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjMifQ.{A * 5}",
    "pem": f"-----BEGIN RSA PRIVATE KEY-----\n{A * 8}\n{A * 3}=\n-----END RSA PRIVATE KEY-----",
    "pem in json": json.dumps(f"-----BEGIN PRIVATE KEY-----\n{A * 8}\n-----END PRIVATE KEY-----"),
    "bearer": f"Authorization: Bearer {A * 3}",
    "address": "postgres://someone:hunter2hunter@db.example/x",
    "query": f"https://x.example/y?a=1&access_token={A * 2}",
    "member": json.dumps({"client_secret": A * 2}),
    "member in json": json.dumps(json.dumps({"api_key": A * 2})),
    "assignment": f"aws_secret_access_key={A * 5}",
}
AROUND = ("{}", "the key {} is wrong", '{{"a": ["{}"]}}', "x=({});", "`{}`\n")


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", KEYS)
def test_keys_are_known_by_their_shape(name: str, around: str) -> None:
    key = KEYS[name]
    clear = redact(around.format(key))
    assert "[redacted]" in clear
    assert not [part for part in (key, A, H * 2, "hunter2", "QZ7F3A") if part in key and part in clear]
    obey(Secrets(shapes=False))
    assert redact(around.format(key)) == around.format(key)


DOCUMENTATION = (
    "Set api_key: required, password: string, token = your-token-here; "
    "click sk-container-id-1 or <i class='sk-toggleable__label-arrow'>. "
    'See https://example.com:8080/a/b?page=2&sort=key and {"secret": "see below", "password": "********"}. '
    "The digest is 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae, version 1.2.3-beta.20261128, id "
    "123e4567-e89b-12d3-a456-426614174000, order FH-10001-20261128-EU, file retrieval_augmented_generation_pipeline_v2.py, "
    "mail someone@example.com, ftp://files.example.com/pub@2026, Bearer <token>, get_order_by_customer_id_and_region(limit=5)."
)


def test_documentation_about_keys_is_left_alone() -> None:
    assert redact(DOCUMENTATION) == DOCUMENTATION
    assert not holds_key(DOCUMENTATION)


def test_two_passes_give_what_one_gives() -> None:
    text = " ".join(KEYS.values()) + DOCUMENTATION
    assert redact(redact(text)) == redact(text)


HOSTILE = (
    "sk-",
    "//",
    "eyJ-",
    "a",
    "https://",
    "awskey",
    "://a:",
    "&key=",
    "secret=",
    "bearer ",
    "AKIA",
    "xoxb-1-",
    "1",
    "-----BEGIN ",
)


@pytest.mark.parametrize("seed", HOSTILE)
def test_no_text_is_slow(seed: str) -> None:
    """A pattern that takes quadratic time would be at this for hours."""
    began = time.process_time()
    hide((seed * 1_000_000)[:1_000_000] + "PRIVATE KEY @ ? & secret bearer")
    assert time.process_time() - began < 30


def test_fields_that_are_called_so_are_hidden_in_structures() -> None:
    told = {"authorization": "Bearer some words", "x": {"Set-Cookie": "sid=abcdef"}, "password": "correct-horse", "tokens": 12}
    hidden = {"authorization": "[redacted]", "x": {"Set-Cookie": "[redacted]"}, "password": "[redacted]", "tokens": 12}
    assert redact_all(told) == hidden
    plain = {"password": "string", "secret": "the secret of good coffee", "api_key": "required", "key": "value-of-a-key"}
    assert redact_all(plain) == plain


# -- secrets: in bisect.yaml ---------------------------------------------------------------------------------------------
def test_the_user_names_variables_values_and_exceptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARMLESS", "ordinary words")
    monkeypatch.setenv("KEY_VAULT", "vault-of-the-west-1")
    (tmp_path / "hidden.txt").write_text("first value of mine\n\nexport SECOND='another-value'\nshort\n")
    text = "ordinary words, vault-of-the-west-1, first value of mine, another-value, short"
    assert redact(text) == text.replace("vault-of-the-west-1", "[redacted]")
    obey(SecretsOf(env=["HARMLESS"], ignore=["KEY_VAULT"], values_from="hidden.txt").resolved(tmp_path))
    assert redact(text) == "[redacted], vault-of-the-west-1, [redacted], [redacted], short"


def test_a_file_of_values_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read secrets.values_from .*nowhere: No such file"):
        SecretsOf(values_from="nowhere").resolved(tmp_path)
    assert "secrets" in Config.model_fields


@pytest.mark.parametrize("pattern", maintained(), ids=str)
@settings(deadline=None)  # a busy machine is no fault of a pattern
@given(data=st.data())
def test_what_a_maintained_pattern_matches_is_hidden(pattern: re.Pattern[str], data: st.DataObject) -> None:
    key = data.draw(st.from_regex(pattern, fullmatch=True))
    if len(key) >= 20 and not re.search(r"[\s\"'`,;<>(){}\[\]|\\]", key):
        assert REDACTED in hide(f"before {key} after")


@pytest.mark.parametrize(("module", "name"), key_shapes._PLUGINS.items())
def test_patterns_read_out_of_a_plugin_are_those_it_gives(module: str, name: str) -> None:
    given = [pattern for pattern in key_shapes._denylist(module, name) if "'" not in pattern.pattern]
    assert [(p.pattern, p.flags) for p in key_shapes._written_patterns(module)] == [(p.pattern, p.flags) for p in given]


def test_a_plugin_written_another_way_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a later version of detect-secrets looks like, no pattern is lost."""
    known = maintained()
    monkeypatch.setattr(key_shapes, "_written_patterns", lambda module: [])
    assert key_shapes.maintained.__wrapped__() == known
