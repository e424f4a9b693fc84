"""Whether a plugin is made for this version of runyoro_ssl: by what its module declares, and its package requires."""

from __future__ import annotations

import ast
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from runyoro_ssl import __version__
from runyoro_ssl.errors import PluginError

DECLARATION = "requires_runyoro_ssl"
"""Name of the variable by which a module says what it is made for: a range as in PEP 440, ">=0.1,<1"."""
OWN_NAME = canonicalize_name("runyoro_ssl")


def check_file(path: Path) -> None:
    """Raise PluginError if a file declares a range without this version.

    It is read, not imported: what was made for another version may fail on import, with an error that says less.
    A range that has to be computed is checked later.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # the import will say so
        return
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if DECLARATION in [getattr(target, "id", None) for target in targets] and isinstance(value, ast.Constant):
            check_range(str(path), value.value)


def check_range(source: str, declared: Any) -> None:
    """Raise PluginError if this version is not in the range that a module declares, or if that is no range."""
    try:
        accepted = SpecifierSet(declared) if isinstance(declared, str) else None
    except InvalidSpecifier:
        accepted = None
    if accepted is None:
        raise PluginError(
            f'{source}: {DECLARATION} is {declared!r}, which is no range of versions; write one such as ">=0.1,<1"'
        )
    if not accepted.contains(__version__, prereleases=True):
        raise _mismatch(source, f'{DECLARATION} is "{declared}"')


def check_distribution(source: str, distribution: Distribution) -> None:
    """Raise PluginError if an installed package requires another version, whatever its installer was told."""
    for line in distribution.requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            if canonicalize_name(line).startswith(OWN_NAME):
                raise PluginError(
                    f'{source}: it requires "{line}", which is no range of versions; install another version of it'
                ) from None
            continue
        applies = requirement.marker is None or requirement.marker.evaluate()
        ours = canonicalize_name(requirement.name) == OWN_NAME and applies
        if ours and not requirement.specifier.contains(__version__, prereleases=True):
            raise _mismatch(source, f'it requires "{line}"')


def _mismatch(source: str, wish: str) -> PluginError:
    return PluginError(
        f"{source}: {wish}, and this is runyoro_ssl {__version__}; get the version of the plugin that fits, or leave "
        "plugins out with --no-plugins"
    )
