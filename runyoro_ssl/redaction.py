"""Secrets kept out of all that is shown or written: found by their name, by their look, or by their value.

And control characters, which a terminal would obey, shown as escapes.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

REDACTED = "[redacted]"
MIN_CHARACTERS = 8
"""The value of a shorter secret is not looked for in text: it may be an ordinary word."""
MAX_SHOWN = 60
"""Characters of a wrong value that are shown."""

# Repetitions are bounded: what is searched may be long, and somebody else's.
_NAME = r"(?:token(?!i[sz]|_ids?)|secret|passw|passphrase|(?:api|access|private)[_-]?key|credential|authorization)"
_REST = r"[\w-]{0,40}"
_LOOKS_SECRET = re.compile(
    r"""(?<![A-Za-z0-9])(?:
      hf_(?:[A-Za-z0-9]{24,}|(?=[a-z]{0,24}[A-Z0-9])[A-Za-z0-9]{12,})  # and not hf_transcriptions
    | gh[opsur]_[A-Za-z0-9]{16,} | github_pat_\w{16,}
    | (?:AKIA|ASIA)[A-Z0-9]{12,}
    | sk-(?=[\w-]{0,40}\d)[\w-]{16,}
    | eyJ[\w-]{8,999}\.[\w-]{8,}\.[\w-]*  # a JSON Web Token
    )""",
    re.VERBOSE,
)
# A Path has lost one of the two slashes. A password may hold a slash that should have been written in per cents.
_USERINFO = re.compile(r"""(?<=\w\w:/)(/{0,2})([^\s/"'<>]{1,999}|[^\s/:@"'<>]{1,99}:(?!\d+/)[^\s@"'<>]{1,99})(?=@)""")
_QUERY = re.compile(
    r"""(?<=[?&])((?:sig|signature|AWSAccessKeyId|X-(?:Amz|Goog)-(?:Signature|Credential))=)[^&\s"'#<>]+""",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"""((?:\bbearer|authorization\\?["']?\s?:\s?\\?["']?(?:basic|digest|token))\s)[\w.~+/=:-]{8,}""", re.IGNORECASE
)
_ASSIGNED = re.compile(
    rf"""({_NAME}{_REST})(\\?["']\s{{0,4}}[:=]\s{{0,4}}|\s{{0,4}}=(?!=)\s{{0,4}})"""
    r"""(\\?"[^"]*"|\\?'[^']*'|[^\s"'&]+)""",
    re.IGNORECASE,
)
_OPTION = re.compile(rf"(?<![\w-])(--[\w-]{{0,40}}?{_NAME}{_REST})", re.IGNORECASE)
_OPTION_VALUE = re.compile(rf"{_OPTION.pattern}(\s)((?!-)\S+)", re.IGNORECASE)
_ASSIGNMENT = re.compile(rf"((?:--[\w-]+=)?[\w.-]*{_NAME}[\w-]*=).+", re.IGNORECASE | re.DOTALL)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What moves a cursor, colours, renames a window or turns the writing round; not the end of a line, nor a tab."""
_WORD = re.compile(r"[A-Za-z]?[a-z]{1,15}\d{0,4}|[A-Z]{1,16}\d{0,4}")
"""What may be a word of a language, and part of a path: of the environment, it is a secret where it stands alone."""
_NUMBER = re.compile(r"\d[\d_.]*[])},;]*")

_hidden: set[str] = set()


def redact(value: Any, key: str = "") -> Any:
    """Replace every secret in a text, a value or a structure of them, names of a mapping included.

    A secret is what has the name of one, here or in the environment; credentials in addresses; tokens of a known look;
    and what was told to `hide`.
    """
    return _redact(value, key, _secret_values())


def printable(text: str) -> str:
    """A text as a terminal may show it: without secrets, and control characters, which may be a stranger's, escaped."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), str(redact(text)))


def shortly(value: Any) -> str:
    """A stranger's value as it may stand in a line, whatever it is: without secrets, MAX_SHOWN characters at most."""
    shown = str(redact(repr(value)))
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}…"


def redact_command(arguments: Sequence[str]) -> str:
    """A command line without its secrets: on one line, each argument quoted as JSON."""
    shown = []
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        secret = _OPTION.fullmatch(previous) and not argument.startswith("--")
        shown.append(REDACTED if secret else redact(_ASSIGNMENT.sub(rf"\1{REDACTED}", argument)))
    return " ".join(map(json.dumps, shown))


def hide(settings: Mapping[str, Any]) -> None:
    """Replace the secrets of these settings wherever they turn up from now on: a library may quote them."""
    _hidden.update(_secrets_of(settings, ""))


def _redact(value: Any, key: str, secrets: Sequence[str]) -> Any:
    if isinstance(value, str):
        return REDACTED if _is_secret(key, value) else _redact_text(value, secrets)
    if isinstance(value, Mapping):
        return {
            _redact(name, "", secrets): _redact(part, _key_below(key, name), secrets) for name, part in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact(part, key, secrets) for part in value]
    if _is_secret(key, value):
        return REDACTED
    if value is None or isinstance(value, bool | float):
        return value
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    clean = _redact_text(text, secrets)
    return value if clean == text else clean


def _redact_text(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, REDACTED) if secret in _hidden else _redact_value(text, secret)
    text = _LOOKS_SECRET.sub(REDACTED, text)
    if ":" in text or "=" in text or " " in text:
        text = _USERINFO.sub(rf"\1{REDACTED}", text)
        text = _QUERY.sub(rf"\1{REDACTED}", text)
        text = _HEADER.sub(rf"\1{REDACTED}", text)
        text = _OPTION_VALUE.sub(_redact_named, text)
        text = _ASSIGNED.sub(_redact_named, text)
    return text


def _redact_value(text: str, secret: str) -> str:
    """The value of a variable replaced: a common word where it stands alone, and is no part of a path or a name."""
    if secret not in text or not _WORD.fullmatch(secret):
        return text.replace(secret, REDACTED)
    return re.sub(rf"(?<![\w/\\.-]){re.escape(secret)}(?![\w/\\-]|\.\w)", REDACTED, text)


def _redact_named(found: re.Match[str]) -> str:
    name, link, text = found.groups()
    literal = text.strip("\\\"'")
    value = 0 if _NUMBER.fullmatch(literal) else literal
    if literal.lower() in ("none", "null", "true", "false") or not _is_secret(name, value):
        return found[0]
    return name + link + text.replace(literal, REDACTED)


def _is_secret(name: str, value: Any) -> bool:
    """Whether a value is one that must not be shown, by its name. `max_tokens` is a number, and none."""
    if not _is_secret_name(name) or value is None or value == "" or isinstance(value, bool):
        return False
    return not (isinstance(value, int | float) and "tokens" in name.lower())


@lru_cache(maxsize=4096)
def _is_secret_name(name: str) -> bool:
    """`token`, `WANDB_API_KEY`; not `token_path`, which is a place."""
    return bool(re.search(_NAME, name, re.IGNORECASE)) and not re.search(r"_(?:path|file|dir)$", name, re.IGNORECASE)


def _key_below(key: str, name: Any) -> str:
    """What stands below a secret's name is secret."""
    return key if _is_secret_name(key) else str(name)


def _secret_values() -> list[str]:
    """Those of the environment and those hidden, longest first: one may hold another."""
    values = {os.environ[name] for name in os.environ if _is_secret_name(name)} | _hidden
    return sorted((value for value in values if len(value) >= MIN_CHARACTERS), key=len, reverse=True)


def _secrets_of(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _secrets_of(part, _key_below(key, name))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _secrets_of(part, key)
    elif _is_secret(key, value):
        yield str(value)
    elif isinstance(value, str):
        for found in _USERINFO.finditer(value):
            yield found[2].partition(":")[2] or found[2]
