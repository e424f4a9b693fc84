"""The program around the tasks: Invoke's own, with options from the schema, help in groups, and kinder mistakes."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from itertools import chain, groupby, repeat
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.config import Config
from invoke.exceptions import Exit, ParseError
from invoke.parser.argument import Argument
from invoke.parser.context import ParserContext, to_flag
from invoke.parser.parser import ParseResult
from invoke.program import Program
from invoke.tasks import Task

from runyoro_ssl import __version__
from runyoro_ssl.errors import ConfigError, did_you_mean, did_you_mean_option
from runyoro_ssl.redaction import printable

if TYPE_CHECKING:
    from runyoro_ssl.option import Option

LONG_DASHES = ("\u2013", "\u2014")
"""What word processors make of two short ones."""
NEAR = 0.75
"""Likeness from which a word behind a task is taken for another one, mistyped."""
UNKNOWN = re.compile(r"No idea what '(?P<word>.*)' is!")
LACKING = re.compile(r"Flag <Argument: (?P<name>\S+).*> needed value")
"""How Invoke says that it does not know a word of the command line, and that an option lacks its value."""


class SchemaTask(Task[Callable[..., None]]):
    """A task of Invoke that calls a function with the options that were given, by name.

    Its options are those of the schema; they are looked up when they are needed.
    """

    def __init__(self, name: str, text: str, function: Callable[..., None]) -> None:
        def body(_context: Any, **given: Any) -> None:
            function(**{option: value for option, value in given.items() if value not in (None, False, [])})

        body.__doc__ = text
        super().__init__(body, name=name, positional=(), auto_shortflags=False)

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:  # noqa: ARG002, FBT001 - Invoke's
        """Its options, as Invoke reads them."""
        from runyoro_ssl.commands.options import options_of

        return [_as_argument(option) for option in options_of(self.name)]


def _as_argument(option: Option) -> Argument:
    """What Invoke needs to know of an option; values stay text, for the schema to check."""
    kind: Any = {"switch": str if option.has_three_states else bool, "list": list}.get(option.kind, str)
    return Argument(
        names=(option.flag.removeprefix("--"),),
        attr_name=option.name if "_" in option.name else None,  # an alias of itself has no end
        kind=kind,
        default={bool: False, list: []}.get(kind),
        optional=option.has_three_states,
        help=option.explained,
    )


READ_TASKS = Program.parse_tasks
"""Invoke's own, which `adopt_invoke` replaces."""


class NoFiles(Config):
    """Invoke's own configuration, of which no file says anything: a home that is no folder is none's business."""

    def load_base_conf_files(self) -> None:
        """None is looked for."""


class TaskProgram(Program):
    """Reads underscores as dashes, names what is nearest to a mistyped word, and shows options in groups."""

    def parse_tasks(self) -> None:
        """Read the tasks and their options. Ends with status 1 and one line where one is not known."""
        if not self.core.unparsed and not isinstance(self.args.help.value, str) and not self.args.complete.value:
            self.tasks = ParseResult()  # nothing to read: nobody waits for the schema
            return
        self.core.unparsed[:] = _with_names(list(map(_with_dashes, self.core.unparsed)))
        try:
            READ_TASKS(self)
        except ParseError as error:
            raise Exit(printable(self._explain(error)), code=1) from None

    def parse_cleanup(self) -> None:
        """Do what --help and --list ask for. `--help TASK` of no task ends as a task that there is not."""
        try:
            super().parse_cleanup()
        except ParseError as error:
            raise Exit(printable(self._explain(error)), code=1) from None
        except BrokenPipeError:  # `--help | head`: whoever read has seen enough; Python must not write the rest
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Exit from None

    def print_task_help(self, name: str) -> None:
        """Print what a task does and its options, in groups, with their defaults."""
        from runyoro_ssl.commands.options import options_of

        options = options_of(name)
        places = [option.usage for option in options if option.has_a_place]
        usage = " ".join([self.shown_name, name, *([f"[{' '.join(places)}]"] if places else []), "[--options]"])
        print(f"Usage: {usage}\n")  # noqa: T201 - the result of --help
        print(f"{inspect.getdoc(self.collection[name])}\n")  # noqa: T201
        width = max((len(option.usage) for option in options), default=0)
        for group, members in groupby(options, key=lambda option: option.group):
            print(f"{group}:")  # noqa: T201
            self.print_columns([(option.usage.ljust(width), option.explained) for option in members])

    def no_tasks_given(self) -> None:
        """List the tasks."""
        self.list_tasks()
        raise Exit

    @property
    def shown_name(self) -> str:
        """How this program is called, in a message."""
        return self.called_as if self.namespace is None else self.binary

    def _quote(self, word: str) -> str:
        """What to do with a word that no option takes: often a path has a blank, and no quotes."""
        words = self.core.unparsed
        index = words.index(word) if word in words else 0
        flag, _, value = words[index - 1].rpartition("=")
        named = [one.partition("=")[0] for one in words]
        last = next((place for place, one in enumerate(words) if one.endswith(f"={word}")), index - 1)
        if named[last].startswith("--") and named.count(named[last]) > 1:
            return f"{named[last]} is given twice"
        if index > 1 and not value.startswith("--") and (flag or words[index - 2].startswith("--")):
            option = flag or words[index - 2]
            before = "" if option in _places(words[0]) else f"{option} "
            return f'If it belongs to the word before it, quote both: {before}"{value} {word}"'
        return "An option goes before it"

    def _explain(self, error: ParseError) -> str:
        """What is wrong on the command line, in one line that says what there is."""
        context: ParserContext | None = error.context
        task_name = context.name if context is not None else None
        place = f"{self.shown_name} {task_name}" if task_name else self.shown_name
        unknown, lacking = UNKNOWN.fullmatch(str(error)), LACKING.match(str(error))
        if lacking is not None:
            return f"error {place}: {to_flag(lacking['name'])} needs a value; {place} --help says which"
        if unknown is None:
            return f"error {place}: {error}; see {place} --help"
        word = unknown["word"]
        if word.startswith("-"):
            options = context if context is not None and task_name else self.initial_context
            known = [flag for flag in options.flag_names() if flag.startswith("--")]
            hint = _as_setting(task_name, word) or did_you_mean_option(word, known)
            return f"error {place} has no option {word}{hint}; {place} --help lists them"
        tasks = sorted(self.collection.task_names)
        if word.startswith(LONG_DASHES):
            return f"error {place}: {word} begins with a long dash; type two short ones: --{word[1:]}"
        hint = did_you_mean(word, tasks)
        if task_name and not difflib.get_close_matches(word, tasks, cutoff=NEAR):
            return f"error {place}: what is {word}? {self._quote(word)}; {place} --help lists the options"
        return f"error no task {word}{hint}; there are: {', '.join(tasks)}"


def _as_setting(task: str | None, word: str) -> str:
    """How to give a setting that is no option of a task, but has the name of one; nothing for other words."""
    from runyoro_ssl.commands.given import find_setting

    try:
        section, name = find_setting(task or "", word.lstrip("-").replace("-", "_"))
    except (ConfigError, KeyError):
        return ""
    return f" (give that setting as --set {section}.{name}=VALUE)"


def _with_dashes(word: str) -> str:
    """`--mask_time_prob=0.5`, and `-mask-time-prob=0.5`, as `--mask-time-prob=0.5`: no option has one short dash."""
    name, equals, value = word.partition("=")
    if not re.fullmatch(r"--?[a-z][a-z0-9_-]+", name):
        return word
    return "--" + name.lstrip("-").replace("_", "-") + equals + value


def _places(task: str) -> list[str]:
    """The options of a task that may be given without their names, in their order."""
    from runyoro_ssl.commands.options import TASKS, options_of

    return [option.flag for option in options_of(task) if option.has_a_place] if task in TASKS else []


def _with_names(words: list[str]) -> list[str]:
    """`runs A B` as `runs --one A --other B`: Invoke has no place for a word that may be left out.

    `embed A B` as `embed --files A --files B`: nor for several.
    """
    from runyoro_ssl.commands.options import TASKS, options_of

    options = options_of(words[0]) if words and words[0] in TASKS else []
    places = chain.from_iterable(
        repeat(option.flag) if option.kind == "list" else [option.flag] for option in options if option.has_a_place
    )
    alone = {option.flag for option in options if option.kind == "switch" and not option.has_three_states}
    named, awaits_value = words[:1], False
    for word in words[1:]:
        flag = None if awaits_value or word.startswith("-") else next(places, None)
        named += [word] if flag is None else [flag, word]
        awaits_value = word.startswith("--") and "=" not in word and word not in alone
    return named


def make_program(tasks: Sequence[SchemaTask], *, binary: str) -> TaskProgram:
    """A program of its own that offers these tasks from any folder."""
    collection = Collection(*tasks)
    return TaskProgram(
        namespace=collection, name="runyoro_ssl", binary=binary, version=__version__, config_class=NoFiles
    )


def adopt_invoke() -> None:
    """Have the `invoke` that is reading tasks.py go on as a TaskProgram. It offers no other place to say so."""

    def parse_tasks(program: Program) -> None:
        program.__class__ = TaskProgram
        program.parse_tasks()

    Program.parse_tasks = parse_tasks  # type: ignore[assignment, method-assign]
