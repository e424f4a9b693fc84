"""Content that nobody would write: bytes, JSON values and names."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable
from typing import Any

from attacking.part import Draw
from fuzzing import damage

DEEP = "[" * 2000 + "]" * 2000
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 10**400, 1e308, -1e308, 0.5, 1e-320, -0.0),
    *(math.nan, math.inf, -math.inf, "", " ", "a", "nan", "1e999", "\x00"),
    *("\x1b[31mred\x1b]0;owned\x07", "\x9b31m", "\u202e"),
    *("\ud800", "☃" * 300, "x" * 100_000, "../../others/thesis", "/dev/zero", "/proc/self/mem"),
    *("%s%n{0}{x!r}", "[bold]"),
    *("canary", "canary.Canary", "canary:main", "<script>alert(1)</script>", "\n\n", "a\rb", "$(touch x)", "-"),
    *([], {}, [[]], [None], {"": None}, {"auto_map": {"AutoConfig": "canary.Canary"}}, [1] * 10_000, [{"a": [{}]}]),
)
NAMES = (
    *("a b", "a\nb", "q\"uo'te", "ŕüñ-☃", "-dash", "--max-steps=1", "dot.", "blank ", " blank", "%s%d", "{x}"),
    *("{{ 7*7 }}",),
    *("[bold]red[", "\x1b[31mred", "x" * 255, "é" * 127, "tab\tname", "a;touch x", "$(touch x)", "*", "~"),
    *("checkpoint-3",),
    *("\u202egnp.run", "new\u2028line", "back\\slash", ".hidden", "…", "con.", "#", "a=b", "a,b", "'"),
)


def spoil_bytes(content: bytes, chance: Draw) -> tuple[str, bytes]:
    """Content, damaged; and how."""
    kinds: dict[str, Callable[[bytes], bytes]] = {
        "some damage": lambda b: damage(b, b"\x00other", chance),
        "zeroed": lambda b: bytes(len(b)),
        "the middle zeroed": lambda b: b[: len(b) // 3] + bytes(len(b) // 3) + b[len(b) // 3 * 2 :],
        "cut": lambda b: b[: chance.randrange(len(b) + 1)],
        "cut by a byte": lambda b: b[:-1],
        "doubled": lambda b: b * 2,
        "CRLF": lambda b: b.replace(b"\n", b"\r\n"),
        "UTF-16": lambda b: b.decode("latin-1").encode("utf-16"),
        "a BOM before it": lambda b: b"\xef\xbb\xbf" + b,
        "empty": lambda _: b"",
        "no UTF-8 in it": lambda b: b[: len(b) // 2] + b"\xff\xfe\x80" + b[len(b) // 2 :],
        "random": lambda b: chance.randbytes(min(len(b), 5000)),
        "deep": lambda _: DEEP.encode(),
    }
    kind = chance.choice(sorted(kinds))
    return kind, kinds[kind](content)


CODE = b"\x80\x02ccanary\nCanary\n)\x81."
"""A pickle that runs code of others when it is loaded."""
BOMB_BYTES = 1 << 28


def spoil_archive(content: bytes, chance: Draw) -> tuple[str, bytes]:
    """A zip archive, such as torch and numpy write, whose members are damaged, wrong, gone, or huge; and how."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    pickles = [one for one in members if one.endswith(".pkl")] if chance.random() < 0.5 else []
    name = chance.choice(pickles or [*members])
    kinds: dict[str, Callable[[bytes], bytes]] = {
        "damaged": lambda b: damage(b, b"\x00other", chance),
        "of another": lambda _: members[chance.choice([*members])],
        "code": lambda _: CODE,
        "deep": lambda _: DEEP.encode(),
        "empty": lambda _: b"",
        "a bomb": lambda _: bytes(BOMB_BYTES),
    }
    kind = chance.choice((*sorted(kinds), "gone", "renamed"))
    found = members.pop(name)
    if kind != "gone":
        members[chance.choice(NAMES)[:200] if kind == "renamed" else name] = kinds.get(kind, bytes)(found)
    spoiled = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if kind == "a bomb" or chance.random() < 0.3 else zipfile.ZIP_STORED
    with zipfile.ZipFile(spoiled, "w", how) as archive:
        for one, inner in members.items():
            archive.writestr(one, inner)
    return f"{name}: {kind}", spoiled.getvalue()


def spoil_json(text: str, chance: Draw, *, is_lines: bool) -> tuple[str, str]:
    """JSON, or a line of JSON Lines, in which a value is absurd, a key is gone, or one more is there; and how."""
    lines = text.splitlines() if is_lines else [text]
    at = chance.randrange(len(lines)) if lines else 0
    try:
        value = json.loads(lines[at])
    except (ValueError, IndexError):
        value = {}
    kind, value = _spoil_value(value, chance)
    spoiled = json.dumps(value, indent=None if is_lines else 2)
    lines[at : at + 1] = [spoiled]
    return kind, "\n".join(lines) + "\n"


def _spoil_value(value: Any, chance: Draw) -> tuple[str, Any]:
    """A place is drawn: each key on the way down, until chance or the value ends it."""
    absurd = chance.choice(VALUES)
    if isinstance(value, dict) and value and chance.random() < 0.95:
        key = chance.choice(sorted(value))
        what = chance.random()
        if what < 0.1:
            return f"without {key}", {name: one for name, one in value.items() if name != key}
        if what < 0.2:
            return f"one more key {str(absurd)[:20]!r}", {**value, str(absurd): absurd}
        how, spoiled = _spoil_value(value[key], chance)
        return f"{key}: {how}", {**value, key: spoiled}
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        how, spoiled = _spoil_value(value[at], chance)
        return f"{at}: {how}", [*value[:at], spoiled, *value[at + 1 :]]
    return f"is {repr(absurd)[:40]}", absurd


def spoil_toml(text: str, chance: Draw) -> tuple[str, str]:
    """TOML in which a value is absurd."""
    lines = text.splitlines()
    places = [at for at, line in enumerate(lines) if " = " in line]
    if not places:
        return "nothing to spoil", text
    at = chance.choice(places)
    name = lines[at].split(" = ")[0]
    value = chance.choice(VALUES)
    shown = chance.choice((json.dumps(value), repr(value), str(value), "1979-05-27", "0x10", "[[x]]"))
    lines[at] = f"{name} = {shown}".encode("utf-8", "replace").decode()
    return f"{name} = {shown[:40]!r}", "\n".join(lines) + "\n"
