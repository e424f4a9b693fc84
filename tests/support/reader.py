"""What a reader of the documents has: recordings, corpora, base models on a hub, a cluster. Run by documents.py."""

from __future__ import annotations

import json
import sys
import wave
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from runyoro_ssl import logs
from runyoro_ssl.audio.synth import write_corpus
from runyoro_ssl.commands.smoke import MODEL
from runyoro_ssl.hub.known import pinned_revision
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.pipeline import prepare
from runyoro_ssl.prepare.scan import scan
from runyoro_ssl.resolve import load_config
from runyoro_ssl.torchaudio_compat import import_transformers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from support.hub_double import HubDouble, hub_double

BASES = ("facebook/wav2vec2-xls-r-300m", "facebook/wav2vec2-xls-r-1b")
ROWS = 4
"""Recordings of each corpus that comes with a table."""
SLURM = {
    # Only the script is looked at, and runs at once; `--wait` waits for it.
    "sbatch": """for script; do :; done
export SLURM_JOB_ID=$$ SLURM_NNODES=1 SLURM_JOB_NODELIST=localhost SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0
export SLURM_NTASKS=1
run() { bash "$script" > "$HERE/$SLURM_JOB_ID.log" 2>&1; status=$?; touch "$HERE/$SLURM_JOB_ID.done"; return $status; }
case "$*" in
    *--wait*) run || { cat "$HERE/$SLURM_JOB_ID.log"; exit 1; } ;;
    *) run > /dev/null 2>&1 & echo "Submitted batch job $$" ;; # whoever asks waits for its output to close
esac""",
    "srun": """while [ "${1#-}" != "$1" ]; do
    case "$1" in --output|--error) shift ;; esac
    shift
done
exec "$@" """,
    "sacct": """echo 'JobID|State|NodeList'
while [ $# -gt 0 ]; do
    if [ "$1" = -j ]; then
        [ -e "$HERE/$2.done" ] && state=COMPLETED || state=RUNNING
        echo "$2|$state|localhost"
    fi
    shift
done""",
    "squeue": "true",
    "scancel": "true",
    "scontrol": "echo localhost",
}
"""A cluster of this machine, as shell scripts."""


def main(checkout: Path, own: Path) -> None:
    """Make all of it, say what the shell should know, and stay until standard input ends."""
    logs.configure()  # to standard error: what is printed is for the shell
    (own / "bin").mkdir(parents=True)
    _write_recordings(checkout)
    _prepare_pools(checkout / "corpora")
    _write_slurm(own / "bin")
    with ExitStack() as stack:
        hub = stack.enter_context(hub_double(own / "hub"))
        for name in BASES:
            _publish(hub, name)
        about = {"HF_ENDPOINT": hub.address, "HF_HOME": str(own / "cache")}
        print(json.dumps(about), flush=True)  # noqa: T201 - to documents.py
        sys.stdin.read()


def _write_recordings(checkout: Path) -> None:
    """`recordings/SPEAKER/…`, and the three corpora of docs/recordings.md."""
    write_corpus(checkout / "recordings", num_clips=140, clip_sec=3.0)
    for corpus in ("cv/clips", "LJSpeech-1.1/wavs", "corpus"):
        write_corpus(checkout / corpus, num_clips=ROWS, num_voices=ROWS, clip_sec=3.0)
    found = sorted((checkout / "cv/clips").rglob("*.wav"))
    rows = ["client_id\tpath\tsentence\tlocale"]
    rows += [f"{path.parent.name}\t{path.relative_to(checkout / 'cv/clips')}\tOraire ota?\tnyo" for path in found]
    _write(checkout / "cv/validated.tsv", rows)
    found = sorted((checkout / "LJSpeech-1.1/wavs").rglob("*.wav"))
    _write(checkout / "LJSpeech-1.1/metadata.csv", [f"{path.stem}|oraire ota|Oraire ota?" for path in found])
    found = sorted((checkout / "corpus").rglob("*.wav"))
    train = checkout / "corpus/data/train"
    _write(train / "wav.scp", [f"{path.stem} {path.relative_to(checkout / 'corpus')}" for path in found])
    _write(train / "segments", [f"{path.stem}-1 {path.stem} 0.0 {_seconds(path):.2f}" for path in found])
    _write(train / "utt2spk", [f"{path.stem}-1 {path.parent.name}" for path in found])
    _write(train / "text", [f"{path.stem}-1 oraire ota" for path in found])


def _prepare_pools(folder: Path) -> None:
    """The datasets of docs/donors.md, by voices and words of their own."""
    for seed, name in enumerate(("luganda", "kinyarwanda"), start=1):
        audio, manifest = folder / f"{name}-audio", folder / f"{name}.jsonl"
        write_corpus(audio, num_clips=40, clip_sec=3.0, seed=seed)
        scan(audio, manifest, speaker_from="folder")
        places = {"manifest_path": str(manifest), "output_dir": folder / name}
        config = load_config(profile="cpu-smoke", settings=['plugins.filters=["duration"]'], flags={"prepare": places})
        prepare(config, load_plugins(config))


def _seconds(path: Path) -> float:
    with wave.open(str(path)) as opened:
        return float(opened.getnframes() / opened.getframerate())


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def _write_slurm(folder: Path) -> None:
    for name, script in SLURM.items():
        (folder / name).write_text(f"#!/bin/bash\nHERE={folder}\n{script}\n")
        (folder / name).chmod(0o755)


def _publish(hub: HubDouble, name: str) -> None:
    """A tiny base model under the name of a large one, at the commit that is taken of it."""
    folder = hub.folder(name, kind="models")
    transformers: Any = import_transformers()
    transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**MODEL)).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    if revision := pinned_revision(name):
        hub.commits[folder] = revision


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
