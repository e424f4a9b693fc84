"""Plugins: the five hooks, where they come from, and what a mistake in one says."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT
from runyoro_ssl import __version__
from runyoro_ssl.config import Config
from runyoro_ssl.errors import PluginError, where_raised
from runyoro_ssl.plugin import spec as hookspecs
from runyoro_ssl.plugin.manager import HOOKS, Plugins, ensure_picklable, load_plugins
from runyoro_ssl.prepare.clips.filtering import ClipFilters
from runyoro_ssl.prepare.workers import opened, run_ordered
from runyoro_ssl.resolve import load_config

RunTask = Callable[[str], tuple[int, str, str]]

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
    built = load('plugins.filters=["mine", "duration"]', "plugins.options.mine.size=7").filters()
    assert [name for name, _ in built] == ["mine", "duration"]
    assert built[0][1].size == 7


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
    """The guide's executor is opened with the number of workers, no more than tasks, and then does the work."""
    blocks = re.findall(r"```py\n(.*?)```", (ROOT / "plugins" / "README.md").read_text(), re.DOTALL)
    write_plugin("threads", next(block for block in blocks if "runyoro_executors" in block))
    executor = load("prepare.executor=threads://here", "hardware.num_workers=3").executor(tmp_path, num_tasks=9)
    with opened(executor):
        results = [done.result for done in run_ordered(executor, abs, range(-5, 5), in_flight=4)]
    assert results == list(map(abs, range(-5, 5)))
    assert executor._max_workers == 3  # type: ignore[attr-defined]
    few = load("prepare.executor=threads://here", "hardware.num_workers=3").executor(tmp_path, num_tasks=2)
    assert few._max_workers == 2, "a worker without a task"  # type: ignore[attr-defined]


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
        ("1 / 0\n", r"runyoro_bad.py: cannot be imported: ZeroDivisionError.*\(runyoro_bad.py:2\)"),
        ("def broken(:\n", r"runyoro_bad.py: cannot be imported: SyntaxError.*\(runyoro_bad.py:2\)"),
        ("@hookimpl\ndef runyoro_filters(register): pass\n", r"runyoro_bad.py: unknown hook 'runyoro_filters'"),
        ("def runyoro_collators(register): pass\n", r"runyoro_bad.py: runyoro_collators lacks its @hookimpl"),
        ("raise SystemExit(0)\n", r"runyoro_bad.py: cannot be imported: SystemExit.*\(runyoro_bad.py:2\)"),
        ("@hookimpl\ndef runyoro_collators(register, cfg): pass\n", r"(?s)runyoro_bad.py: .*cfg"),
        (
            "@hookimpl\ndef runyoro_collators(register): nope()\n",
            r"runyoro_bad.py: runyoro_collators failed: NameError.*\(runyoro_bad.py:3\)",
        ),
        (offer("runyoro_manifest_filters", "silence"), r'runyoro_bad.py: "silence" is already registered by built in'),
        (offer("runyoro_collators", "silence"), r'runyoro_bad.py: "silence" is already registered by built in'),
    ],
    ids=[
        "raises",
        "syntax",
        "unknown hook",
        "unmarked",
        "exits",
        "odd argument",
        "failing hook",
        "taken name",
        "taken by another kind",
    ],
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
    logger.log(5, {"train/objective": 1.0})
    logger.log(5, {"epoch": 1, "eval/objective": 4.5, "eval/accuracy": 0.1, "eval/hard_perplexity": 30})
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


def utterance() -> hookspecs.Utterance:
    """A second of silence."""
    import numpy as np

    return hookspecs.Utterance("clip@0", "f", "r", None, None, 0.0, np.zeros(16_000, np.float32), 16_000)


RAISING = """
import json

class Thing:
    def __init__(self, text: str = "1"):
        json.loads(text)

    def __call__(self, *args):
        return json.loads(self.read())

    def read(self):
        raise SystemExit(3)
"""


@pytest.mark.parametrize(
    ("hook", "build"),
    [
        ("runyoro_manifest_filters", lambda plugins: plugins.filters(["mine"])),
        ("runyoro_collators", lambda plugins: plugins.collator("mine")),
    ],
)
def test_factory_that_raises_is_named_with_its_line(
    write_plugin: Callable[[str, str], None],
    load: Callable[..., Plugins],
    hook: str,
    build: Callable[[Plugins], object],
) -> None:
    """Not with the line of a library where it ended: that would tell its author nothing."""
    write_plugin("bad", f"{RAISING}\n@hookimpl\ndef {hook}(register):\n    register('mine', Thing)\n")
    plugins = load("plugins.options.mine.text=no")
    with pytest.raises(PluginError, match=r'"mine" \(.*\) could not be made: JSONDecodeError.*\(runyoro_bad.py:7\)'):
        build(plugins)


def test_filter_that_raises_in_a_worker_is_named_with_its_line(
    write_plugin: Callable[[str, str], None], load: Callable[..., Plugins], tmp_path: Path
) -> None:
    """The line is found where the traceback is; the error that comes home has none."""
    write_plugin("bad", f"{RAISING}\n@hookimpl\ndef runyoro_manifest_filters(register):\n    register('mine', Thing)\n")
    plugins = load('plugins.filters=["mine"]', "hardware.num_workers=1")
    judge = ClipFilters(tuple(plugins.filters()))
    with (
        pytest.raises(PluginError, match=r'filter "mine" failed on clip@0: SystemExit: 3 \(runyoro_bad.py:13\)'),
        opened(plugins.executor(tmp_path, num_tasks=1)) as executor,
    ):
        list(run_ordered(executor, judge, [utterance()], in_flight=1))


def test_executor_that_does_not_start_is_named_with_its_line(
    write_plugin: Callable[[str, str], None], load: Callable[..., Plugins], tmp_path: Path
) -> None:
    """It is plugin code, too."""
    write_plugin("bad", f"{RAISING}\n@hookimpl\ndef runyoro_executors(register):\n    register('mine', Thing)\n")
    with pytest.raises(PluginError, match=r'executor "mine" \(.*\) failed: SystemExit: 3 \(runyoro_bad.py:13\)'):
        load("prepare.executor=mine://here").executor(tmp_path, num_tasks=1)


def test_place_of_an_error_without_a_plugin() -> None:
    """Of a library's error, the line that called it; of a built-in plugin's, its own; without a traceback, none."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - any will do
        json.loads("{")
    assert re.fullmatch(r"test_plugins.py:\d+", where_raised(raised.value))
    (_, duration), *_ = load_plugins(Config()).filters()
    with pytest.raises(AttributeError) as missing:
        duration(None)
    assert re.fullmatch(r"filters.py:\d+", where_raised(missing.value))
    assert where_raised(ValueError()) == "no traceback"


@pytest.mark.parametrize(
    ("declaration", "complaint"),
    [
        ('requires_runyoro_ssl = ">=9"', r'requires_runyoro_ssl is ">=9", and this is runyoro_ssl 0.*--no-plugins'),
        ('requires_runyoro_ssl: str = "<0.1"', r'requires_runyoro_ssl is "<0.1", and this is runyoro_ssl 0'),
        ('requires_runyoro_ssl = ">=9"\nfrom runyoro_ssl.plugin.spec import Later', r'requires_runyoro_ssl is ">=9"'),
        ('requires_runyoro_ssl = "new"', r"requires_runyoro_ssl is 'new', which is no range.*>=0.1,<1"),
        ("requires_runyoro_ssl = 1", r"requires_runyoro_ssl is 1, which is no range"),
        ("requires_runyoro_ssl = f'>={9}'", r'requires_runyoro_ssl is ">=9", and this is'),
        ("requires_runyoro_ssl, a = [], 1", r"requires_runyoro_ssl is \[\], which is no range"),
    ],
)
def test_file_for_another_version_is_refused(
    write_plugin: Callable[[str, str], None], load: Callable[..., Plugins], declaration: str, complaint: str
) -> None:
    """Before it is imported, which may fail for that very reason; the file, the range and the version are named."""
    write_plugin("late", f"{declaration}\n{offer('runyoro_collators')}")
    with pytest.raises(PluginError, match=rf"runyoro_late.py: {complaint}"):
        load()


def test_file_for_this_version_is_loaded(
    write_plugin: Callable[[str, str], None], run_task: RunTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says so in the list."""
    write_plugin("fits", f'requires_runyoro_ssl = ">=0.0.1,=={__version__}"\n{offer("runyoro_collators")}')
    monkeypatch.chdir(tmp_path)
    status, out, err = run_task("plugins --set plugins.dir=.")
    assert status == 0, err
    assert f"for runyoro_ssl >=0.0.1,=={__version__}" in " ".join(out.split())


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function (requirement, code) that puts a package with an entry point onto the path."""

    def put(requirement: str, code: str = "") -> None:
        site = tmp_path / "site"
        info = site / "parrot-2.0.dist-info"
        info.mkdir(parents=True)
        (site / "parrot_of_runyoro.py").write_text(HEADER + code + offer("runyoro_collators"))
        requirements = f"Requires-Dist: numpy\nRequires-Dist: {requirement}\n" if requirement else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: parrot\nVersion: 2.0\n{requirements}")
        (info / "entry_points.txt").write_text("[runyoro_ssl]\nparrot = parrot_of_runyoro\n")
        monkeypatch.delitem(sys.modules, "parrot_of_runyoro", raising=False)
        monkeypatch.syspath_prepend(site)

    return put


@pytest.mark.parametrize(
    ("requirement", "code", "complaint"),
    [
        ("runyoro-ssl>=9", "import nothing\n", r'it requires "runyoro-ssl>=9", and this is runyoro_ssl 0'),
        ("Runyoro_SSL~=3.0", "", r'it requires "Runyoro_SSL~=3.0", and this is'),
        ("runyoro_ssl>=x", "", r'it requires "runyoro_ssl>=x", which is no range of versions'),
        ("runyoro_ssl", 'requires_runyoro_ssl = ">=9"\n', r'requires_runyoro_ssl is ">=9", and this is'),
        ("", "1 / 0\n", r"cannot be imported: ZeroDivisionError.*\(parrot_of_runyoro.py:2\)"),
    ],
)
def test_package_for_another_version_is_refused(
    install: Callable[..., None], requirement: str, code: str, complaint: str
) -> None:
    """By what it requires, whatever was installed beside it, and by what its module declares."""
    install(requirement, code)
    with pytest.raises(PluginError, match=rf"package parrot 2.0: {complaint}"):
        load_plugins(Config())


@pytest.mark.parametrize("requirement", ["runyoro_ssl>=0.1", "runyoro_ssl>=9; python_version < '3'", "numpy>=x", ""])
def test_package_for_this_version_is_loaded(install: Callable[..., None], requirement: str) -> None:
    """A requirement that does not hold here, or is not about us, is the installer's."""
    install(requirement)
    assert load_plugins(Config()).registered["collator"]["mine"].plugin.source == "package parrot 2.0"


def test_version_in_development_counts(
    write_plugin: Callable[[str, str], None],
    load: Callable[..., Plugins],
    install: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For a file and for a package: it is later than what came before."""
    monkeypatch.setattr("runyoro_ssl.plugin.versions.__version__", "0.2.dev3")
    write_plugin("fits", f'requires_runyoro_ssl = ">=0.1"\n{offer("runyoro_collators", "other")}')
    install("runyoro_ssl>=0.1")
    assert {"mine", "other"} <= load().registered["collator"].keys()


def test_no_plugins_loads_the_built_in_ones_only(
    write_plugin: Callable[[str, str], None], install: Callable[..., None], run_task: RunTask, tmp_path: Path
) -> None:
    """Neither the folder's nor those of packages, not even to find what is wrong with them."""
    write_plugin("bad", "1 / 0\n")
    install("runyoro_ssl>=9")
    settings = f"--set plugins.dir={tmp_path}"
    assert run_task(f"plugins {settings}")[0] == 1
    status, out, err = run_task(f"plugins --no-plugins {settings}")
    assert status == 0, err
    assert "tensorboard" in out
    assert "parrot" not in out
    assert "parrot_of_runyoro" not in sys.modules


@pytest.mark.parametrize(
    ("command", "hidden"),
    [
        ("plugins", """'plugins.filters=["mine"]'"""),
        ("prepare", """'plugins.filters=["mine"]'"""),
        ("train --profile cpu-smoke", "plugins.collator=mine"),
        ("train --profile cpu-smoke", "plugins.options.mine.size=2"),
    ],
)
def test_no_plugins_says_what_it_hides(
    write_plugin: Callable[[str, str], None], run_task: RunTask, tmp_path: Path, command: str, hidden: str
) -> None:
    """A configuration that names a plugin of the folder: it may be there."""
    write_plugin("mine", offer("runyoro_manifest_filters"))
    status, _, err = run_task(f"{command} --no-plugins --set {hidden} --set plugins.dir={tmp_path}")
    assert status == 1
    assert '"mine"' in err
    assert "hidden by --no-plugins" in " ".join(err.split())


def test_no_plugins_in_the_module_form() -> None:
    """`python -m runyoro_ssl.train` knows it, too."""
    command = [sys.executable, "-m", "runyoro_ssl", "train", "--profile", "cpu-smoke", "--no-plugins"]
    command += ["--set", "plugins.collator=mine"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "hidden by --no-plugins" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    "line",
    [
        "from runyoro_ssl.hookspecs import Batch, Candidate, Clip, Run, Utterance",
        "from runyoro_ssl.builtins.apart import ProcessDied, call_apart",
        "from runyoro_ssl import hookimpl",
    ],
)
def test_what_plugins_for_0_1_import_is_there(line: str) -> None:
    """By the names that plugins/README.md gave them then."""
    exec(line, {})  # noqa: S102
