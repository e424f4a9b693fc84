"""Print the oldest release of every dependency that pyproject.toml allows, as constraints for pip."""

import re
import sys
import tomllib
from itertools import chain
from pathlib import Path

# Of an old torch, package indexes hold builds with gigabytes of CUDA only.
AS_RESOLVED = ("torch",)

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirement in chain(project["dependencies"], *project["optional-dependencies"].values()):
    floor = re.match(r"([\w.-]+)>=([\w.]+)", requirement)
    if floor and floor[1] not in AS_RESOLVED:
        sys.stdout.write(f"{floor[1]}=={floor[2]}\n")
