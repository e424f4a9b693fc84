"""Plugins: the five hooks, where they come from, and what a mistake in one says."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT
from runyoro_ssl import hookspecs
from runyoro_ssl.config import Config
from runyoro_ssl.errors import PluginError
from runyoro_ssl.plugins import HOOKS, Plugins, ensure_picklable, load_plugins
from runyoro_ssl.prepare.workers import opened, run_ordered
from runyoro_ssl.resolve import load_config

HEADER = "from runyoro_ssl import hookimpl\n"


@pytest.fixture
def write_plugin(tmp_path: Path) -> Callable[[str, str], None]:
    """A function (name, code) that drops a plugin file into the project's plugin folder."""

    def write(name: str, code: str) -> None:
        (tmp_path / f"runyoro_{name}.py").write_text(HEADER + code)

    return write


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Plugins]:
    """A function (*settings) that loads plugins from the project's plugin folder."""
    return lambda *settings: load_plugins(load_config(settings=[f"plugins.dir={tmp_path}", *settings]))


def offer(hook: str, name: str = "mine", factory: str = "Thing") -> str:
    """Code of a plugin that registers one class through one hook."""
    return (
        f"class Thing:\n    def __init__(self, size: int = 1):\n        self.size = size\n"
        f"    def __call__(self, *args):\n        return None\n"
        f"@hookimpl\ndef {hook}(register):\n    register('{name}', {factory})\n"
    )


def test_every_hook_has_a_test_and_a_place_in_the_guide() -> None:
    """A new hook needs a test here, named after it, and a line in plugins/README.md."""
    hooks = {name for name, _ in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("runyoro_")}
    assert hooks == set(HOOKS.values())
    guide = (ROOT / "plugins" / "README.md").read_text()
    for hook in hooks:
        assert f"test_hook_{hook.removeprefix('runyoro_')}" in globals(), hook
        assert f"`{hook}`" in guide, hook
        assert inspect.getdoc(getattr(hookspecs, hook)), hook


def test_hook_manifest_filters(write_plugin: Callable[[str, str], None], load: Callable[..., Plugins]) -> None:
    """A filter dropped into the folder is built with its options, in the configured place."""
    write_plugin("filter", offer("runyoro_manifest_filters"))
    built = load('plugins.filters=["duration", "mine"]', "plugins.options.mine.size=7").filters()
    assert [name for name, _ in built] == ["duration", "mine"]
    assert built[1][1].size == 7


def test_hook_augmentations(write_plugin: Callable[[str, str], None], load: Callable[..., Plugins]) -> None:
    """The same for an augmentation; unless named, it is not used."""
    write_plugin("augmentation", offer("runyoro_augmentations"))
    assert load().augmentations() == []
    assert [name for name, _ in load('plugins.augmentations=["mine"]').augmentations()] == ["mine"]


def test_hook_collators(write_plugin: Callable[[str, str], None], load: Callable[..., Plugins]) -> None:
    """The same for a collator, of which there is one."""
    write_plugin("collator", offer("runyoro_collators"))
    assert type(load('plugins.collator="mine"').collator()).__module__ == "runyoro_collator"


def test_hook_logging_backends(write_plugin: Callable[[str, str], None], load: Callable[..., Plugins]) -> None:
    """The same for a logging backend."""
    write_plugin("logger", offer("runyoro_logging_backends"))
    assert [name for name, _ in load('plugins.loggers=["jsonl", "mine"]').loggers()] == ["jsonl", "mine"]


def test_hook_executors(write_plugin: Callable[[str, str], None], load: Callable[..., Plugins], tmp_path: Path) -> None:
    """The guide's executor is opened with the number of workers, and then does the work."""
    blocks = re.findall(r"```py\n(.*?)```", (ROOT / "plugins" / "README.md").read_text(), re.DOTALL)
    write_plugin("threads", next(block for block in blocks if "runyoro_executors" in block))
    executor = load("prepare.executor=threads://here", "hardware.num_workers=3").executor(tmp_path)
    with opened(executor):
        results = [done.result for done in run_ordered(executor, abs, range(-5, 5), in_flight=4)]
    assert results == list(map(abs, range(-5, 5)))
    assert executor._max_workers == 3  # type: ignore[attr-defined]


def test_hook_may_ask_for_the_configuration(
    write_plugin: Callable[[str, str], None], load: Callable[..., Plugins]
) -> None:
    """An implementation takes `config` if it names it."""
    code = "@hookimpl\ndef runyoro_collators(register, config):\n    register(f'seed{config.train.seed}', dict)\n"
    write_plugin("configured", code)
    assert "seed42" in load().registered["collator"]


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("1 / 0\n", r"runyoro_bad.py: cannot be imported: ZeroDivisionError"),
        ("def broken(:\n", r"runyoro_bad.py: cannot be imported: SyntaxError"),
        ("@hookimpl\ndef runyoro_filters(register): pass\n", r"runyoro_bad.py: unknown hook 'runyoro_filters'"),
        ("def runyoro_collators(register): pass\n", r"runyoro_bad.py: runyoro_collators lacks its @hookimpl"),
        ("raise SystemExit(0)\n", r"runyoro_bad.py: cannot be imported: SystemExit"),
        ("@hookimpl\ndef runyoro_collators(register, cfg): pass\n", r"(?s)runyoro_bad.py: .*cfg"),
        (
            "@hookimpl\ndef runyoro_collators(register): nope()\n",
            r"runyoro_bad.py: runyoro_collators failed: NameError",
        ),
        (offer("runyoro_manifest_filters", "silence"), r'runyoro_bad.py: "silence" is already registered by built in'),
    ],
    ids=["raises", "syntax", "unknown hook", "unmarked", "exits", "odd argument", "failing hook", "taken name"],
)
def test_mistake_names_the_file(
    write_plugin: Callable[[str, str], None], load: Callable[..., Plugins], code: str, complaint: str
) -> None:
    """Whatever is wrong with a plugin, the message says in which file."""
    write_plugin("bad", code)
    with pytest.raises(PluginError, match=complaint):
        load()


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ('plugins.filters=["loudnes"]', r'no filter "loudnes".*clipping, .*duration, .*silence'),
        ('plugins.collator="jpeg"', r'no collator "jpeg".*cropped, padded'),
        ("plugins.dir=/no/such/folder", r"plugins.dir is /no/such/folder: no such folder"),
        ('plugins.loggers=["wandb"]', r"wandb is not installed; pip install"),
        ("plugins.options.nothing.size=1", r'no plugin has the name "nothing"'),
        (
            "plugins.options.silence.treshold=1",
            r"plugins.options.silence \(built in\).*min_active_share, threshold_dbfs",
        ),
    ],
)
def test_unknown_name_or_option(load: Callable[..., Plugins], setting: str, complaint: str) -> None:
    """What the configuration asks for must exist; the message lists what does."""
    with pytest.raises(PluginError, match=complaint):
        build_all(load, setting)


def build_all(load: Callable[..., Plugins], setting: str) -> None:
    """Load plugins and build those that are enabled."""
    loaded = load(setting)
    loaded.filters()
    loaded.loggers()


def test_closure_cannot_go_to_workers() -> None:
    """The message says how to write it instead."""
    with pytest.raises(PluginError, match=r'filter "mine" cannot be sent to worker processes.*class'):
        ensure_picklable("filter", [("mine", lambda _utterance: None)])


def test_examples_work(load: Callable[..., Plugins], tmp_path: Path) -> None:
    """The two plugins that teach are loaded from plugins/, do what they say, and are off unless named."""
    del load
    config = load_config(
        settings=[
            f"plugins.dir={ROOT / 'plugins'}",
            'plugins.filters=["loudness"]',
            'plugins.loggers=["csv"]',
            "plugins.options.loudness.min_dbfs=-30",
        ]
    )
    plugins = load_plugins(config)
    assert {"loudness", "csv"} & {*Config().plugins.filters, *Config().plugins.loggers} == set()
    import numpy as np

    (_, loudness), (_, logger) = plugins.filters()[0], plugins.loggers()[0]
    quiet, loud = (
        hookspecs.Utterance("id", "f", "r", None, None, 0.0, np.full(100, level, np.float32), 16_000)
        for level in (0.01, 0.5)
    )
    assert (loudness(quiet), loudness(loud)) == ("too quiet", None)
    logger.open(hookspecs.Run(tmp_path, "run", {}, 0, 10))
    logger.log(5, {"train/loss": 1.0})
    logger.log(5, {"epoch": 1, "eval/loss": 4.5, "eval/accuracy": 0.1, "eval/codevector_perplexity": 30})
    logger.close("finished")
    assert (tmp_path / "validation.csv").read_text().splitlines()[1] == "5,1,4.5,0.1,30"


def test_guide_example_runs(write_plugin: Callable[[str, str], None], load: Callable[..., Plugins]) -> None:
    """The code block of plugins/README.md is a working plugin."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "plugins" / "README.md").read_text(), re.DOTALL)
    write_plugin("village", block)
    (_, village) = load('plugins.filters=["village"]', "plugins.options.village.name=Hoima").filters()[0]
    import numpy as np

    clip = hookspecs.Utterance("i", "f", "r", None, None, 0.0, np.zeros(1, np.float32), 16_000, {"village": "Masindi"})
    assert village(clip) == "another village"
