"""The program around the tasks: Invoke's own, with options from the schema, help in groups, and kinder mistakes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from itertools import groupby
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.exceptions import Exit, ParseError
from invoke.parser.context import ParserContext, to_flag
from invoke.program import Program
from invoke.tasks import Task, task

from runyoro_ssl import __version__
from runyoro_ssl.commands.options import options_of
from runyoro_ssl.errors import did_you_mean

if TYPE_CHECKING:
    from runyoro_ssl.option import Option

UNKNOWN = re.compile(r"No idea what '(?P<word>.*)' is!")
LACKING = re.compile(r"Flag <Argument: (?P<name>\S+).*> needed value")
"""How Invoke says that it does not know a word of the command line, and that an option lacks its value."""


def as_task(function: Callable[..., None]) -> Task[Callable[..., None]]:
    """A task of Invoke that calls a function with the options that were given, by name; its name is the function's.

    The options are those of the schema, whatever the function's own signature.
    """
    options = options_of(function.__name__)

    def body(_context: Any, **given: Any) -> None:
        function(**{name: value for name, value in given.items() if value not in (None, False, [])})

    body.__doc__ = function.__doc__
    body.__name__ = function.__name__
    parameters = [inspect.Parameter("_context", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += [
        inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=_unset(option)) for option in options
    ]
    body.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    made: Task[Callable[..., None]] = task(
        auto_shortflags=False,
        iterable=[option.name for option in options if option.kind == "list"],
        optional=[option.name for option in options if option.kind == "switch" and option.is_setting],
        help={option.name: option.explained for option in options},
    )(body)
    return made


def _unset(option: Option) -> Any:
    """What Invoke gives where nothing was given. A setting has three states: true, false, and left to the profile."""
    return False if option.kind == "switch" and not option.is_setting else None


READ_TASKS = Program.parse_tasks
"""Invoke's own, which `adopt_invoke` replaces."""


class TaskProgram(Program):
    """Reads underscores as dashes, names what is nearest to a mistyped word, and shows options in groups."""

    def parse_tasks(self) -> None:
        """Read the tasks and their options. Ends with status 1 and one line where one is not known."""
        self.core.unparsed[:] = map(_with_dashes, self.core.unparsed)
        try:
            READ_TASKS(self)
        except ParseError as error:
            raise Exit(self._explain(error), code=1) from None

    def print_task_help(self, name: str) -> None:
        """Print what a task does and its options, in groups, with their defaults."""
        print(f"Usage: {self.binary} {name} [--options]\n")  # noqa: T201 - the result of --help
        print(f"{inspect.getdoc(self.collection[name])}\n")  # noqa: T201
        options = options_of(name)
        width = max(len(option.usage) for option in options)
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
            return f"error {place} has no option {word}{did_you_mean(word, known)}; {place} --help lists them"
        tasks = sorted(self.collection.task_names)
        return f"error no task {word}{did_you_mean(word, tasks)}; there are: {', '.join(tasks)}"


def _with_dashes(word: str) -> str:
    """`--mask_time_prob=0.5` as `--mask-time-prob=0.5`."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if re.fullmatch(r"--[a-z][a-z0-9_-]*", name) else word


def make_program(tasks: list[Task[Any]], *, binary: str) -> TaskProgram:
    """A program of its own that offers these tasks from any folder."""
    collection = Collection(*tasks)
    return TaskProgram(namespace=collection, name="runyoro_ssl", binary=binary, version=__version__)


def adopt_invoke() -> None:
    """Have the `invoke` that is reading tasks.py go on as a TaskProgram. It offers no other place to say so."""

    def parse_tasks(program: Program) -> None:
        program.__class__ = TaskProgram
        program.parse_tasks()

    Program.parse_tasks = parse_tasks  # type: ignore[assignment, method-assign]
