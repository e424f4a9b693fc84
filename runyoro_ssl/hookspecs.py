"""The types of the hooks, by the name under which plugins for 0.1 import them: see `runyoro_ssl.plugin.spec`."""

from runyoro_ssl.plugin.spec import (
    Augmentation,
    Batch,
    Candidate,
    Clip,
    Collator,
    CorpusFilter,
    Filter,
    LoggingBackend,
    OpenExecutor,
    Register,
    Run,
    Utterance,
)

__all__ = [
    "Augmentation",
    "Batch",
    "Candidate",
    "Clip",
    "Collator",
    "CorpusFilter",
    "Filter",
    "LoggingBackend",
    "OpenExecutor",
    "Register",
    "Run",
    "Utterance",
]
