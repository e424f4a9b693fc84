"""Test releases of Python, torch and the other libraries together, and write what came of it into docs/versions.md.

    python .ci/matrix.py              every row; some 5 GB to fetch for each torch, some 10 minutes a row
    python .ci/matrix.py 3.13 2.12    the rows of these releases only; the others stay as they are written

Needs `uv` and the Pythons. A row is a fresh environment, `invoke smoke`, and the tests of .ci/part. Status 1 if one
fails.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/versions.md"
ROWS = (
    ("3.11", "2.11", "oldest"),
    ("3.11", "2.12", "newest"),
    ("3.11", "2.13", "newest"),
    ("3.12", "2.11", "newest"),
    ("3.12", "2.13", "oldest"),
    ("3.13", "2.12", "oldest"),
    ("3.13", "2.13", "newest"),
    ("3.13", "2.14", "newest"),
)
"""Python, torch, and all other libraries at the oldest or the newest release that pyproject.toml allows."""
HEAD = "| Python | torch | others | transformers | accelerate | datasets | numpy | smoke | tests | on |"
SHOWN = ("transformers", "accelerate", "datasets", "numpy")
LAST_LINE = re.compile(r"\d+ (?:passed|failed|error).*(?= in )")


def main(wanted: list[str]) -> int:
    """Run the rows that are asked for; the page is whole after each."""
    rows = [row for row in ROWS if all(word in row for word in wanted)]
    if not rows:
        sys.exit(f"no row has {' and '.join(wanted)}; there are: {'; '.join(map(' '.join, ROWS))}")
    failed = 0
    for row in rows:
        print(f"== Python {row[0]}, torch {row[1]}, the others at their {row[2]}", flush=True)  # noqa: T201
        cells = try_row(*row)
        print(write_row([*row, *cells]), flush=True)  # noqa: T201
        failed += not cells[-2].endswith(" passed")
    return int(failed > 0)


def try_row(python: str, torch: str, others: str) -> list[str]:
    """The cells of a row: versions, what smoke and the tests came to, the date and system."""
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "environment"
        bin_folder = environment / ("Scripts" if os.name == "nt" else "bin")
        variables = {**os.environ, "VIRTUAL_ENV": str(environment)}
        variables["PATH"] = f"{bin_folder}{os.pathsep}{variables['PATH']}"

        def run(*command: str) -> subprocess.CompletedProcess[str]:
            done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode:
                print(*(done.stdout + done.stderr).splitlines()[-25:], sep="\n", flush=True)  # noqa: T201
            return done

        run("uv", "venv", "--quiet", "--python", python, str(environment))
        resolution = "lowest-direct" if others == "oldest" else "highest"
        # Without --only-binary the oldest of some libraries would be built, where a Python is newer than they are.
        done = run(
            *("uv", "pip", "install", "--quiet", "--resolution", resolution, "--only-binary", ":all:"),
            *("--no-binary", "runyoro-ssl"),
            *("-e", ".[test]", f"torch=={torch}.*"),
        )
        on = f"{time.strftime('%Y-%m')}, {platform.system()} {platform.machine()}"
        if done.returncode:
            return [*("" for _ in SHOWN), "", "not installed", on]
        listed = json.loads(run("uv", "pip", "list", "--format", "json", "--quiet").stdout)
        versions = {package["name"]: package["version"] for package in listed}
        smoke = "passed" if run("invoke", "smoke").returncode == 0 else "failed"
        told = LAST_LINE.findall(run("bash", ".ci/part", "-q").stdout)
        return [*(versions[name] for name in SHOWN), smoke, told[-1] if told else "failed", on]


def write_row(cells: list[str]) -> str:
    """Put a row in its place in the page. Returns it."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index(HEAD)
    table = {tuple(cell.strip() for cell in line.split("|")[1:4]): line for line in lines[start + 2 :] if line}
    row = f"| {' | '.join(cells)} |"
    table[tuple(cells[:3])] = row
    kept = [table[key] for key in ROWS if key in table]
    PAGE.write_text("\n".join([*lines[: start + 2], *kept]) + "\n", encoding="utf-8")
    return row


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
