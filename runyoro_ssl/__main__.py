"""`runyoro-ssl TASK`, `python -m runyoro_ssl TASK`, `torchrun -m runyoro_ssl train`: the tasks, from any folder."""

from __future__ import annotations

import sys
from pathlib import Path

from runyoro_ssl.commands.program import make_program
from runyoro_ssl.commands.tasks import ALL


def main() -> None:
    """Run the tasks that the command line names."""
    started_as_module = Path(sys.argv[0]).name == "__main__.py"
    make_program(ALL, binary="python -m runyoro_ssl" if started_as_module else "runyoro-ssl").run()


if __name__ == "__main__":
    main()
