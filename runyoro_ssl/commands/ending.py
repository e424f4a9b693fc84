"""How a command ends: exit statuses, one-line errors, and signals."""

from __future__ import annotations

import functools
import os
import platform
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TypeVar

from runyoro_ssl.errors import RunyoroError
from runyoro_ssl.processes import SIGNAL_EXIT, SIGNALS
from runyoro_ssl.redaction import printable
from runyoro_ssl.streams import outlast_readers

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

EXIT_MENDABLE = 1
EXIT_BUG = 2
NO_MEMORY = "there is too little memory, or a limit on it (ulimit -v, that of a job)"
LINK_TO_ITSELF = "Symlink loop"
"""How `Path.resolve` begins what it says of one, before Python 3.13."""
AGAIN_SEC = 0.05
"""After which a signal comes again that was lost."""
NOT_ON_WINDOWS = (
    "not on Windows itself, which lacks what keeps a run's files whole here (flock, pread): install it in WSL2, which "
    "is Linux; docs/versions.md says more"
)


class Terminated(BaseException):
    """A signal, raised like Ctrl-C so that every `with` block cleans up. A run that has begun handles them itself."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def command(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Give a task its exit status: 0 done, 1 mendable (one line on stderr), 2 a bug (traceback), 128 + N a signal."""

    @functools.wraps(function)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        outlast_readers()
        from runyoro_ssl import logs  # rich and structlog: a tenth of a second that --list and --help need not wait for

        logs.configure()
        if platform.system() == "Windows":
            end(NOT_ON_WINDOWS)
        previous, previous_hook = _handle_signals(), sys.unraisablehook
        sys.unraisablehook = _lost
        try:
            return function(*args, **kwargs)
        except RunyoroError as error:
            end(str(error))
        except OSError as error:
            where = error.filename or "the disk"
            end(
                f"{where}: {error.strerror or error}; check the path, its permissions and the free space, and run again"
            )
        except KeyboardInterrupt:
            end("interrupted; nothing unfinished was kept", status=SIGNAL_EXIT + signal.SIGINT)
        except Terminated as signalled:
            end("terminated; nothing unfinished was kept", status=SIGNAL_EXIT + signalled.number)
        except Exception as error:  # noqa: BLE001 - the last door: what escapes here is a bug, and says so
            if mendable := _mendable(error):
                end(mendable)
            _report_bug()
        finally:
            sys.unraisablehook = previous_hook
            for number, handler in previous.items():
                signal.signal(number, handler)

    return run


def _handle_signals() -> dict[int, Any]:
    """Have all but Ctrl-C raise `Terminated`, unless ignored, as by `nohup`. Returns what handled them before."""
    return {
        number: signal.signal(number, _terminate)
        for number in SIGNALS
        if number != signal.SIGINT and signal.getsignal(number) != signal.SIG_IGN
    }


def _terminate(number: int, _frame: Any) -> NoReturn:
    raise Terminated(number)


def _lost(lost: sys.UnraisableHookArgs) -> None:
    """Send a signal again whose exception Python only prints: in a destructor, or where C calls back."""
    if isinstance(lost.exc_value, KeyboardInterrupt | Terminated):
        number = getattr(lost.exc_value, "number", signal.SIGINT)
        threading.Timer(AGAIN_SEC, os.kill, (os.getpid(), number)).start()
    else:
        sys.__unraisablehook__(lost)


def _mendable(error: Exception) -> str | None:
    """In a line, what is no bug, though no library says so; None where it is one."""
    if _is_for_want_of_memory(error):
        return f"{NO_MEMORY} ({error}): raise it, close other programs, and run again"
    if isinstance(error, RuntimeError) and str(error).startswith(LINK_TO_ITSELF):
        return f"{error}: that is a link to itself; mend it, or give another path"
    return None


def _is_for_want_of_memory(error: Exception) -> bool:
    """Whether a library could not be loaded, or Python not go on, because an address space or a machine is full."""
    said = str(error)
    unloadable = isinstance(error, ImportError) and ("failed to map" in said or "annot allocate" in said)
    return unloadable or isinstance(error, MemoryError) or (isinstance(error, SystemError) and _has_limit())


def _has_limit() -> bool:
    """Whether addresses are limited: then C code that was given none may forget to say so."""
    import resource  # not on Windows

    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def end(message: str, *, status: int = EXIT_MENDABLE) -> NoReturn:
    """Leave with a line and a status."""
    from runyoro_ssl import logs

    logs.console.print(
        f"[bold red]error[/] {_plain(message)}" if status == EXIT_MENDABLE else _plain(message), soft_wrap=True
    )
    sys.exit(status)


def _report_bug() -> NoReturn:
    from runyoro_ssl import logs

    sys.stderr.write(printable(traceback.format_exc()))
    logs.console.print("[bold red]bug[/] this should not happen: please report it with the lines above", soft_wrap=True)
    sys.exit(EXIT_BUG)


def _plain(message: str) -> str:
    """Redacted, on one line, with nothing that rich would take for markup."""
    from rich.markup import escape

    return escape(printable(" ".join(message.split())))
