"""A call in a process of its own, by the name under which plugins for 0.1 import it: see `builtins.executors.apart`."""

from runyoro_ssl.builtins.executors.apart import ProcessDied, call_apart

__all__ = ["ProcessDied", "call_apart"]
