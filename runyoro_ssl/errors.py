"""Errors a user can mend. Each message says what, where, the value seen and what to do next, in one line."""


class RunyoroError(Exception):
    """Ends a task with exit status 1 and its message; anything else that escapes a task is a bug (status 2)."""


class ConfigError(RunyoroError):
    """A setting, profile, device or path that cannot work."""


class ManifestError(RunyoroError):
    """A manifest that is missing, empty or has a line that cannot be read."""


class AudioError(RunyoroError):
    """A recording that cannot be used.

    `reason` is the short category that reports count by ("empty file"); the message adds the detail.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}" if detail else reason)

    def __reduce__(self) -> tuple[type["AudioError"], tuple[str, str]]:
        # Exceptions pickle through their args; worker processes send these home.
        return type(self), (self.reason, self.detail)


class DatasetError(RunyoroError):
    """A prepared dataset that is missing, damaged or made for another model."""


class CheckpointError(RunyoroError):
    """A model or checkpoint that cannot be loaded, trained or resumed."""


class PluginError(RunyoroError):
    """A plugin that cannot be loaded, or that failed; the message names its file."""


class TrainingError(RunyoroError):
    """Training that cannot start, or must not go on."""
