"""The configuration: precedence, and mistakes explained in one line."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import tomli_w

from runyoro_ssl.commands.given import nested
from runyoro_ssl.config import Config, TrainConfig
from runyoro_ssl.config.source import in_words, names, roles, shares
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.resolve import list_profiles, load_config


def test_precedence(tmp_path: Path) -> None:
    """Defaults < profile < config file < --set < flags."""
    file = tmp_path / "mine.toml"
    file.write_text("[train]\nlearning_rate = 1e-4\nseed = 1\nsave_steps = 5\n[hardware]\nbatch_seconds = 7.0\n")
    config = load_config(
        profile="cuda",
        config_file=str(file),
        settings=["train.seed=2", "train.save_steps=6"],
        flags={"train": {"save_steps": "8"}},
    )
    assert config.hardware.device == "cuda"
    assert config.hardware.batch_seconds == 7.0
    assert config.train.learning_rate == 1e-4
    assert (config.train.seed, config.train.save_steps) == (2, 8)
    assert config.train.weight_decay == 0.01


def test_every_profile_is_valid_and_holds_hardware_only() -> None:
    """The three profiles exist, are for their devices, and set only the hardware section."""
    assert {"mps-m4", "cuda", "cpu-smoke"} <= list_profiles().keys()
    for name, device in (("mps-m4", "mps"), ("cuda", "cuda"), ("cpu-smoke", "cpu")):
        config = load_config(profile=name)
        assert config.hardware.device == device
        assert config.model_copy(update={"hardware": Config().hardware}) == Config()


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ({"fp16": True}, "fp16"),
        ({"bf16": True}, "bf16"),
        ({"fp16": "false"}, "fp32"),
        ({"fp16": None, "bf16": None}, None),
    ],
)
def test_precision_flags_have_three_states(flags: dict[str, object], precision: str | None) -> None:
    """Given, denied, or left to the profile."""
    assert nested("train", flags).get("hardware", {}).get("precision") == precision


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (["train.lerning_rate=1"], r'no setting "train.lerning_rate" \(did you mean "learning_rate"\?\)'),
        (["trian.seed=1"], r'no setting "trian" \(did you mean "train"\?\)'),
        (["train.max_steps=abc"], r'train.max_steps is "abc": a whole number'),
        (["train.max_steps=0"], r'train.max_steps is "0".*greater than 0'),
        (["masking.mask_time_prob=1.5"], r"mask_time_prob.*less than or equal to 1"),
        (["hardware.precision=fp8"], r"precision.*'fp32', 'bf16' or 'fp16'"),
        (["prepare.min_duration_sec=20"], r"min_duration_sec 20 is above max_duration_sec 15"),
        (["plugins.filters=silence"], r"""a list is needed: --set 'plugins.filters=\["silence"\]'"""),
        (["train.learning_rate=inf"], r"learning_rate is \"inf\".*finite"),
        (["train.seed=-1"], r"train.seed is \"-1\""),
        (['adapter.targets=["nope"]'], r'^adapter.targets.0 is "nope": input should be [^;]*$'),
        (["adapter.targets=[]"], r"adapter.targets is \"\[\]\".*at least 1 item"),
        (["hardware.batch_seconds=lots"], r'^hardware.batch_seconds is "lots".*, or "auto"$'),
        (['train.sources=[{path="a",share=0.5},{path="b",share=0.3}]'], r"add up to 0.8 \(a 0.5, b 0.3\), not to 1"),
        (['train.sources=[{path="a"},{path="b",role="replay",share=1.0}]'], r"sources.1.share.*less than 1"),
        (['train.sources=[{path="a"},{path="b",share=0.0}]'], r"sources.1.share.*greater than 0"),
        (['train.sources=[{path="a",share=0.9},{path="b",share=0.1},{path="c"}]'], r"nothing is left for c; lower one"),
        (['train.sources=[{path="a"},{path="b"},{path="./b"}]'], r"/b is there twice"),
        (['train.sources=[{path="a"},{path="b",name="a"}]'], r'two are called "a"'),
        (['train.sources=[{path="a"},{path="b",role="target"}]'], r"a is the target, and only one can be"),
        (['train.sources=[{path="a",from_step=3},{path="b"}]'], r"the first, a, is the target, heard at all steps"),
        (['train.sources=[{path="a"},{path="b",from_step=5,until_step=5}]'], r"b is never heard"),
        (['train.sources=[{path="a"},{pth="b"}]'], r'"train.sources.1.pth" \(did you mean "path"\?\)'),
        (['train.sources={path="a"}'], r"a list of tables is needed: \[\[train.sources\]\], with two brackets"),
        (['train.sources=["a"]'], r'train.sources.0 is "a": settings are needed'),
        (
            ['train.sources=[{path="a"}]', "train.processed_dataset_path=b"],
            r'is "b", and the first of train.sources "a"',
        ),
        (["train.source_temperature=0.5"], r"source_temperature.*greater than or equal to 1"),
        (["nonsense"], r"is not section.field=value"),
        (['plugins.filters=["duration"'], r'not a TOML value .*a list is e.g. \["one", "two"\]'),
    ],
)
def test_mistake_is_explained(settings: list[str], complaint: str) -> None:
    """What, the value seen, and what is accepted."""
    with pytest.raises(ConfigError, match=complaint):
        load_config(settings=settings)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing or broken file, an unknown profile."""
    (tmp_path / "broken.toml").write_text("[train\n")
    for arguments, complaint in (
        ({"config_file": str(tmp_path / "none.toml")}, "no such file"),
        ({"config_file": str(tmp_path / "broken.toml")}, "not a readable TOML"),
        ({"profile": "mps-m5"}, r'no profile "mps-m5" \(did you mean "mps-m4"\?\)'),
    ):
        with pytest.raises(ConfigError, match=complaint):
            load_config(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("encoded", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_files_of_any_editor(tmp_path: Path, encoded: str, ends: str) -> None:
    """With Windows' ends of lines, and the mark that its editors put before a text."""
    text = f"[train]{ends}# é{ends}seed = 5{ends}"
    (tmp_path / "mine.toml").write_bytes(text.encode(encoded))
    assert load_config(config_file=str(tmp_path / "mine.toml")).train.seed == 5


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("# é".encode("latin-1"), "not UTF-8, as TOML is, at byte 2; save it as UTF-8"),
        (b"a = " + b"[" * 100_000, "not a readable TOML"),
        (b"#" * (1 << 21), "more than 1,048,576 bytes"),
        (b"[train]\nseed = " + b"9" * 5000, "not a readable TOML"),
        (b'[[train.sources]]\npath = "a\\u0000b"', r"train\.sources\.0\.path .*zero byte"),
    ],
)
def test_files_that_no_editor_writes(tmp_path: Path, content: bytes, complaint: str) -> None:
    """One line; a device that never ends is one of them."""
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=complaint):
        load_config(config_file=str(tmp_path / "mine.toml"))


def test_a_setting_too_deep() -> None:
    """Nor in the value of --set."""
    with pytest.raises(ConfigError, match="not a TOML value"):
        load_config(settings=[f"train.interpolate={'[' * 100_000}"])


def test_precision_flags_exclude_each_other() -> None:
    """Both at once is a mistake, and so is a value that is neither yes nor no."""
    with pytest.raises(ConfigError, match="exclude each other"):
        nested("train", {"fp16": True, "bf16": True})
    with pytest.raises(ConfigError, match='--fp16 is "maybe"'):
        nested("train", {"fp16": "maybe"})


def test_configuration_survives_toml(tmp_path: Path) -> None:
    """Written and read again, it is the same."""
    config = load_config(profile="cuda", settings=["plugins.options.silence.threshold_dbfs=-60", "train.max_steps=3"])
    (tmp_path / "run.toml").write_text(config.to_toml())
    assert load_config(config_file=str(tmp_path / "run.toml")) == config


def test_redacted_value_is_asked_for_again(tmp_path: Path) -> None:
    """A run.toml used again does not pass on what stands in place of a secret; given anew, the rest holds."""
    file = tmp_path / "run.toml"
    file.write_text('[plugins.options.remote]\ntoken = "[redacted]"\nurl = "here"\n')
    with pytest.raises(ConfigError, match=r'plugins.options.remote.token is "\[redacted\]".*--set plugins.options'):
        load_config(config_file=str(file))
    config = load_config(config_file=str(file), settings=["plugins.options.remote.token=opensesame"])
    assert config.plugins.options["remote"] == {"token": "opensesame", "url": "here"}


def test_shares_follow_from_what_is_given_and_from_hours() -> None:
    """A replay has 5 %; what has no share divides the rest by its hours, flattened by a temperature."""
    settings = 'train.sources=[{path="a"},{path="x/b"},{path="y/b"},{path="c",role="replay"}]'
    train = load_config(settings=[settings]).train
    assert train.processed_dataset_path == Path("a")
    assert names(train.sources) == ["a", "x-b", "y-b", "c"]
    assert roles(train.sources) == ["target", "donor", "donor", "replay"]
    assert shares(train.sources, [10, 40, 50, 5], 1.0) == pytest.approx([0.095, 0.38, 0.475, 0.05])
    assert shares(train.sources, [10, 40, 90, 5], 2.0) == pytest.approx([0.95 / 6, 0.95 / 3, 0.95 / 2, 0.05])
    given = load_config(settings=['train.sources=[{path="a",share=0.7},{path="b",share=0.3}]']).train
    assert shares(given.sources, [1, 1000], 1.0) == pytest.approx([0.7, 0.3])
    assert load_config(flags=tomllib.loads(given_as_toml(given))).train.sources == given.sources


def test_what_a_source_is_in_words() -> None:
    """To the step; one alone is as none, for the dataset is then given by itself."""
    many = load_config(settings=['train.sources=[{path="a"},{path="b",from_step=1234567,role="replay"}]']).train
    assert in_words(many.sources) == ["target", "replay, share 0.05, from step 1234567"]
    assert in_words(load_config(settings=['train.sources=[{path="a"}]']).train.sources) == []


def given_as_toml(train: TrainConfig) -> str:
    """Its sources as a run.toml has them."""
    return tomli_w.dumps({"train": {"sources": train.model_dump(mode="json", exclude_none=True)["sources"]}})
