"""Every command of README and docs, in their order, by one shell: `python tests/documents.py`.

It works in a copy of this folder. README's own first commands make the environment; what comes after has it. A tiny
model has the names of the large ones, on a double of the hub. What a small machine lacks is in INSTEAD, with what
stands for it.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = "docs/notebook.ipynb"
DOCUMENTS = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")), "plugins/README.md")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMPT = re.compile(r"^(\w*)\$ ", re.MULTILINE)
INSTEAD = {
    "--profile cuda": "--profile cpu-smoke",
    "--nproc-per-node 4": "--nproc-per-node 2",
    "--num_processes 4": "--num_processes 2",
    "--multi_gpu": "--cpu",
    "--master-addr node1": "--master-addr 127.0.0.1",
    "/shared/": "shared/",
    "10.0.0.5": "127.0.0.1",
    "max_steps=100": "max_steps=10",
}
"""What stands for GPUs, other machines, their disks, and for patience."""
MORE = {r"(invoke doctor|runyoro_ssl\.check).*--check|runyoro_ssl\.check": "--minutes 0.2"}
"""Options that are added to a command."""
STOPPED = "invoke train"
"""What is stopped when it has saved for the first time: README's next command goes on with it."""
STOP = """{} & while kill -0 $! && ! ls models/ssl/*/checkpoint-* > /dev/null 2>&1; do sleep 0.1; done
kill -TERM $!; wait $!; [ $? = 143 ]"""
BESIDE = {"dask://127.0.0.1:8786": ("dask scheduler --port 8786", "dask worker tcp://127.0.0.1:8786")}
"""What runs beside a command."""


@dataclass(frozen=True)
class Command:
    """A command of a document: the lines of a shell that runs it, from a line of the document on."""

    document: str
    line: int
    text: str


def read_commands(document: str) -> list[Command]:
    """The commands of a document, in their order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found = []
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 2
        found += [Command(document, line + offset, command) for offset, command in _of_block(block[1], block[2])]
    return found


def _of_block(language: str, content: str) -> Iterator[tuple[int, str]]:
    """Line within the block, and command. Commands of several machines, `node1$`, run beside each other."""
    if "@hookimpl" in content:
        name = re.findall(r"register\(\"(\w+)\"", content)[0]
        yield 0, f"cat > plugins/runyoro_{name}.py <<'END'\n{content}END\ninvoke plugins | grep runyoro_{name}.py"
    elif language in ("python", "py"):
        yield 0, f"cat > block.py <<'END'\n{content}END\npython -c \"$(cat block.py)\""
    elif language == "bash":
        yield 0, f"cat > block.sh <<'END'\n{content}END\nsbatch --wait block.sh"
    elif language == "console":
        prompts = list(PROMPT.finditer(content))
        ends = [prompt.start() for prompt in prompts[1:]] + [len(content)]
        texts = [content[prompt.end() : end].rstrip("\n") for prompt, end in zip(prompts, ends, strict=True)]
        if prompts and prompts[0][1]:
            yield 0, " & ".join(texts) + " & wait -n && wait -n"
            return
        for prompt, text in zip(prompts, texts, strict=True):
            yield content.count("\n", 0, prompt.start()), text


def adapt(text: str) -> str:
    """A command as it runs here."""
    for there, here in INSTEAD.items():
        text = text.replace(there, here)
    bare = re.sub(r"\s+#.*$", "", text)
    for pattern, more in MORE.items():
        if "\n" not in bare and re.search(pattern, bare):
            bare = f"{bare} {more}"
    return bare if "\n" not in text else text


class Shell:
    """A bash that keeps its folder, variables and environment from command to command."""

    def __init__(self, folder: Path) -> None:
        self.bash = subprocess.Popen(
            ["bash"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.bash.stdin
        self.bash.stdin.close()
        self.bash.wait()

    def run(self, text: str) -> tuple[int, str]:
        """Exit status and output of a command."""
        assert self.bash.stdin
        assert self.bash.stdout
        self.bash.stdin.write(f"{{ {text}\n}} < /dev/null\nprintf '\\nEND-OF-COMMAND %s\\n' $?\n")
        self.bash.stdin.flush()
        said: list[str] = []
        for line in self.bash.stdout:
            if line.startswith("END-OF-COMMAND"):
                return int(line.split()[1]), "".join(said)
            said.append(line)
        return 1, "".join([*said, "the shell has ended\n"])


class Reader:
    """Somebody who types what the documents say."""

    def __init__(self, shell: Shell, checkout: Path, own: Path) -> None:
        self.shell, self.checkout, self.own = shell, checkout, own
        self.belongings: subprocess.Popen[str] | None = None
        self.num_failed = 0

    def read(self, document: str) -> None:
        """Run a document's commands."""
        for command in read_commands(document):
            if document != "README.md":
                self._begin_again(command.text)
            self._type(command)
            if self.belongings is None and (self.checkout / ".venv/bin/invoke").exists():
                self._gather()
        if document == "README.md":
            shutil.copytree(self.checkout / "data", self.own / "data")
            for name in ("rutooro", "swahili"):
                shutil.copytree(self.own / "data/processed/ssl_dataset", self.own / "data/processed" / name)
            ignored = shutil.ignore_patterns("checkpoint-*")
            shutil.copytree(self.checkout / "models/ssl", self.own / "models", ignore=ignored)
            manifest = self.own / "data/manifest/audio_manifest.jsonl"
            lines = [{**json.loads(line), "village": "Hoima"} for line in manifest.read_text().splitlines()]
            manifest.write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    def _type(self, command: Command) -> None:
        text = adapt(command.text)
        if text == STOPPED:
            text = STOP.format(text)
        for sign, beside in BESIDE.items():
            if sign in text:
                end = "status=$?; kill $!; wait $!; kill $(jobs -p); wait; (exit $status)"  # the last one first
                text = f"{' & '.join(beside)} & sleep 3; {text}; {end}"
        self._run(f"{command.document}:{command.line}", text)

    def _run(self, place: str, text: str) -> None:
        """Run a command, and say how it went; all that it said, where it failed."""
        started = time.perf_counter()
        status, said = self.shell.run(text)
        is_wrong = status != 0 or "Traceback" in said
        shown = text.splitlines()["<<'END'" in text]
        verdict = "FAILED" if is_wrong else "ok"
        print(f"{verdict:6} {time.perf_counter() - started:5.1f} s  {place}  {shown}", flush=True)  # noqa: T201 - the result
        if is_wrong:
            self.num_failed += 1
            print(f"{text}\n{said}status {status}", flush=True)  # noqa: T201 - the result

    def _gather(self) -> None:
        """Have recordings, a hub and a cluster."""
        python = self.checkout / ".venv/bin/python"
        script = ROOT / "tests/support/reader.py"
        self.belongings = subprocess.Popen(
            [python, script, self.checkout, self.own], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.belongings.stdout
        about = json.loads(self.belongings.stdout.readline())
        exports = [f"export {name}={shlex.quote(value)}" for name, value in about.items()]
        self.shell.run("; ".join([*exports, f"export PATH={self.own / 'bin'}:$PATH"]))

    def _begin_again(self, text: str) -> None:
        """What README has made, less what a command is about to make."""
        for name in ("data", "models/ssl", "shared"):
            shutil.rmtree(self.checkout / name, ignore_errors=True)
        shutil.copytree(self.own / "data", self.checkout / "data")
        shutil.copytree(self.own / "data/processed/ssl_dataset", self.checkout / "shared/dataset")
        if not re.search(r"(?<!\.)\btrain\b", text):  # a model has a method of that name
            shutil.copytree(self.own / "models", self.checkout / "models/ssl")
        if "prepare" in text:
            shutil.rmtree(self.checkout / "data/processed")
        if "manifest" in text:
            shutil.rmtree(self.checkout / "data/manifest")

    def run_notebook(self) -> None:
        """All cells of the notebook on a machine that ends suddenly; then all cells on the next one, which finishes."""
        self._run(NOTEBOOK, "pip install --quiet papermill ipykernel")
        kept, work, ran = self.own / "kept", self.own / "work", self.own / "ran.ipynb"
        where = {"CODE": ROOT, "RECORDINGS": self.checkout / "recordings", "KEPT": kept, "EARLIER": kept, "WORK": work}
        given = shlex.join(word for name, value in where.items() for word in ("-p", name, str(value)))
        run = f"papermill --no-progress-bar {NOTEBOOK} {ran} {given}"
        saved = f"{kept}/models/ssl/*/checkpoint-*/MANIFEST.json"
        # Whatever runs in its environment is killed when the first checkpoint has been kept.
        wait = f"while kill -0 $! && ! ls {saved} > /dev/null 2>&1; do sleep 0.2; done"
        self._run(
            NOTEBOOK,
            f"{run} -p EVERY_MIN 0.01 > /dev/null 2>&1 & {wait}; pkill -9 -f {work}/env; ! wait $! && ls {saved}",
        )
        shutil.rmtree(work / "runyoro_ssl", ignore_errors=True)  # the environment beside it would be made again
        self._run(NOTEBOOK, f"{run} && grep -q resumed {ran} && ls {kept}/models/ssl/*/model.safetensors")


@contextmanager
def copied() -> Iterator[tuple[Path, Path]]:
    """A copy of this folder, of what is not ignored; and a folder beside it."""
    with tempfile.TemporaryDirectory(prefix="runyoro-documents-") as folder:
        checkout = Path(folder) / "runyoro_ssl"
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / name).is_file():
                (checkout / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, checkout / name)
        yield checkout, Path(folder) / "own"


def main(documents: Sequence[str]) -> int:
    """Run the documents' commands; the number of those that fail."""
    with copied() as (checkout, own), Shell(checkout) as shell:
        reader = Reader(shell, checkout, own)
        try:
            for document in ["README.md", *(name for name in documents if name not in ("README.md", NOTEBOOK))]:
                reader.read(document)
            if NOTEBOOK in documents:
                reader.run_notebook()
        finally:
            if reader.belongings:
                reader.belongings.terminate()
        return reader.num_failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("documents", nargs="*", default=(*DOCUMENTS, NOTEBOOK))
    sys.exit(min(main(parser.parse_args().documents), 1))
