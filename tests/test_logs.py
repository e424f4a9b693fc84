"""Secrets: what is replaced, what must stay as it is, and that all doors to a user pass by."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from runyoro_ssl import logs, redaction
from runyoro_ssl.commands.ending import command
from runyoro_ssl.config import Config
from runyoro_ssl.redaction import hide, redact, redact_command
from runyoro_ssl.resolve import load_config

HF = "hf_" + "AbCdEfGhIj" * 3
CANARY = "canary-4711-sings"


@pytest.fixture
def _nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_hidden", set())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"found {HF} here", "found [redacted] here"),
        ("ghp_" + "a1B2" * 9, "[redacted]"),
        ("github_pat_" + "a1B2" * 9, "[redacted]"),
        ("id AKIA" + "ABCD" * 4, "id [redacted]"),
        ("sk-" + "proj-a1B2" * 4, "[redacted]"),
        ("curl -H 'Authorization: Bearer abc.def-ghi'", "curl -H 'Authorization: Bearer [redacted]'"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic [redacted]"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "jwt [redacted]"),
        ("https://me:pass@word@host/x", "https://[redacted]@host/x"),
        ("https://me:pa/ss@host/x", "https://[redacted]@host/x"),
        ("hf://a-token@org/name?split=train", "hf://[redacted]@org/name?split=train"),
        ("https:/me:word@host/x", "https:/[redacted]@host/x"),
        ("https://h/x?access_token=abc&split=s", "https://h/x?access_token=[redacted]&split=s"),
        (
            "https://h/x?X-Amz-Credential=a%2Fb&X-Amz-Signature=cd&sig=e#f",
            "https://h/x?X-Amz-Credential=[redacted]&X-Amz-Signature=[redacted]&sig=[redacted]#f",
        ),
        ("--set plugins.options.x.token=abc", "--set plugins.options.x.token=[redacted]"),
        ("unrecognized arguments: --hub-token abc", "unrecognized arguments: --hub-token [redacted]"),
        ("""x is "{'api_key': 'a b', 'n': 1}": wrong""", """x is "{'api_key': '[redacted]', 'n': 1}": wrong"""),
    ],
)
def test_secrets_in_text_are_replaced(text: str, shown: str) -> None:
    """By their look, by the name before them, or by their place in an address; twice does no more."""
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "step 5/10 train  loss 4.3125  accuracy 1.2%  lr 5.0e-05",
        "/data/hf_transcriptions/task-speaker-01-2024-session-x.wav@12.500",
        "hf://org/name?config=nyo&split=train+test",
        "http://localhost:6006/a@b, dask://10.0.0.1:8786, mail to a@b.org",
        "token: expected a string; the password is wrong; max_tokens=512 --max-tokens 512",
        "tokenizer=facebook/x token_path=/x pad_token_id=0 use_token=true",
        "5f3c0a9be1d24c7d8f6a7b1c2d3e4f5061728394a5b6c7d8e9f0a1b2c3d4e5f6",
        "no such folder; run `invoke prepare --max-duration-sec 15` [interviews] a, é",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    """A false alarm would spoil names of files, and messages."""
    assert redact(text) == text


def test_every_default_stays() -> None:
    """No setting of the schema has the name of a secret."""
    everything = Config().model_dump(mode="json")
    assert redact(everything) == everything


def test_structures_are_searched_throughout() -> None:
    """Names of mappings, what stands below the name of a secret, numbers, bytes, objects; not counts and places."""
    assert redact(
        {
            HF: 1,
            "credentials": {"user": "me", "pin": [1234]},
            "password": 12345678,
            "raw": f"see {HF}".encode(),
            "path": Path(f"/x/{HF}"),
            "max_tokens": 512,
            "use_token": True,
            "token": None,
            "token_file": "/etc/x",
        }
    ) == {
        "[redacted]": 1,
        "credentials": {"user": "[redacted]", "pin": ["[redacted]"]},
        "password": "[redacted]",
        "raw": "see [redacted]",
        "path": "/x/[redacted]",
        "max_tokens": 512,
        "use_token": True,
        "token": None,
        "token_file": "/etc/x",
    }


@pytest.mark.parametrize("name", ["HF_TOKEN", "MY_SECRET", "DB_PASSWD", "WANDB_API_KEY", "AZURE_CREDENTIAL"])
def test_values_of_secret_environment_variables_are_replaced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever they turn up; a short one may be an ordinary word, and stays."""
    monkeypatch.setenv(name, CANARY)
    assert redact({"note": f"a{CANARY}b"}) == {"note": "a[redacted]b"}
    monkeypatch.setenv(f"OTHER_{name}", f"{CANARY}-twice")
    assert redact(f"a{CANARY}-twice, {CANARY}b") == "a[redacted], [redacted]b"
    monkeypatch.setenv(name, "short")
    assert redact("a short note") == "a short note"


@pytest.mark.parametrize("word", ["recordings", "Recordings", "recordings2024", "RECORDINGS"])
def test_a_common_word_of_the_environment_eats_no_paths(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is replaced where it stands alone; parts of paths and names are what they are."""
    monkeypatch.setenv("VNC_PASSWORD", word)
    for path in (f"/data/{word}/a.wav", f"{word}/a.wav", f"/data/{word}", f"{word}.jsonl", f"my-{word}", f"old_{word}"):
        assert redact(path) == path
        assert redact(f"{path}: no such file") == f"{path}: no such file"
    assert redact(f"login with {word} failed") == "login with [redacted] failed"
    assert redact(f"it said: '{word}'.") == "it said: '[redacted]'."
    assert redact(f"https://me:{word}@host/{word}") == f"https://[redacted]@host/{word}"
    assert redact({"vnc_password": word, "where": f"x/{word}"}) == {"vnc_password": "[redacted]", "where": f"x/{word}"}


def test_a_long_text_costs_little() -> None:
    """Somebody else's text cannot keep the patterns busy."""
    start = time.process_time()
    for part in ("token", "https://a:", "-eyJaaaaaaaa", "sk-", "--token", 'token="', "bearer  "):
        redact(f"x = {part * 20_000}")
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--set", f'plugins.options.x.token={CANARY} "a, b'], '"--set" "plugins.options.x.token=[redacted]"'),
        ([f"--set=plugins.options.x.token={CANARY}"], '"--set=plugins.options.x.token=[redacted]"'),
        (["--hub-token", CANARY, "--seed", "3"], '"--hub-token" "[redacted]" "--seed" "3"'),
        (["--use-token", "--seed", "3"], '"--use-token" "--seed" "3"'),
        (["a\nb"], r'"a\nb"'),
    ],
)
def test_command_line_is_one_line_without_secrets(arguments: list[str], shown: str) -> None:
    """The whole value goes, whatever it holds."""
    assert redact_command(arguments) == shown


def test_written_settings_hold_no_secret_and_are_else_the_same() -> None:
    """A number that is a secret leaves valid TOML behind; without a secret it is what the configuration is."""
    config = load_config(
        settings=["plugins.options.x.token=12345678", f"prepare.manifest_path=https://me:{CANARY}@h/m"]
    )
    assert 'token = "[redacted]"' in config.to_toml()
    assert CANARY not in config.to_toml()
    config = load_config(settings=['plugins.filters=["duration"]', "plugins.options.silence.threshold_dbfs=-50"])
    assert config.to_toml() == tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


@pytest.mark.usefixtures("_nothing_hidden")
def test_secrets_of_the_settings_are_found_where_others_quote_them() -> None:
    """By their value alone: a plugin or a library may say them in any words."""
    quoted = f"login as {CANARY} failed; it said 'horse-battery'"
    assert redact(quoted) == quoted
    hide({"plugins": {"options": {"x": {"token": CANARY}}}, "url": "https://me:horse-battery@h"})
    assert redact(quoted) == "login as [redacted] failed; it said '[redacted]'"


def test_log_lines_and_tables_hold_no_secret(capfd: pytest.CaptureFixture[str]) -> None:
    """Events, keys and values of a log line, objects among them; titles and cells of a table."""
    logs.configure()
    values: dict[str, Any] = {"error": ValueError(HF), HF: 1, "found": [HF]}
    logs.get_logger().info(f"found {HF}", **values)
    logs.print_table(f"x {HF}", ["what"], [[f"https://me:{CANARY}@host"]])
    out, err = capfd.readouterr()
    assert err.count("[redacted]") == 4
    said = "".join((out + err).split())  # a long title is folded
    assert said.count("[redacted]") == 6
    assert "@host" in said
    assert HF not in said
    assert CANARY not in said


@pytest.mark.usefixtures("_nothing_hidden")
def test_traceback_of_a_bug_holds_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """It is made to be sent to somebody: neither the error nor what it came from shows what is hidden."""
    hide({"token": CANARY})

    @command
    def buggy() -> None:
        raise LookupError(HF) from ValueError(f"https://me:word@host said no to {CANARY}")

    with pytest.raises(SystemExit):
        buggy()
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "said no to [redacted]" in err
    for secret in (CANARY, HF, "me:word"):
        assert secret not in err


def test_colons_in_messages_stay_colons() -> None:
    """A path or a format such as h:m:s holds no pictures, whatever stands between its colons."""
    with logs.console.capture() as shown:
        logs.console.print("seconds, or h:m:s")
    assert shown.get() == "seconds, or h:m:s\n"
