"""Attacks on the command line, drawn: each goes wrong in one or two ways, and is judged by what must always hold.

`python tests/attacks.py WORK --number 300 --seed 1`; `--only 17` is the attack of that number again, alone. The real
commands work on a tiny model and synthetic speech. Of each attack that failed the folder is kept, WORK/attacks/17:
`log/first.err` is what the command said, `log/again.err` what it said when it went on, `log/how` what was damaged.
Exit status 1 if one failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from attacking import files, options, others, pipes, signals, surroundings
from attacking.attack import WEIGHTS, Attack, carry_out, draw_attack, words_of
from attacking.command import Ended, finish
from attacking.place import Place, make_seeds
from runyoro_ssl.bars import progress
from runyoro_ssl.logs import print_table
from support.forked import FORKED

FAMILIES = {
    "files": files.draw,
    "signals": signals.draw,
    "options": options.draw,
    "pipes": pipes.draw,
    "environment": surroundings.draw_environment,
    "limits": surroundings.draw_limits,
    "disks": surroundings.draw_disks,
    "clocks": others.draw_clocks,
    "names": others.draw_names,
    "concurrency": others.draw_concurrency,
}


def main() -> int:
    """Draw, carry out, print a line each and a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="the number to begin with")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="the number of one attack")
    parser.add_argument("--family", help="only attacks of this family")
    parser.add_argument("--tasks", default=",".join(WEIGHTS), help="only attacks on these, comma-separated")
    parser.add_argument("--limit-sec", type=float, default=60, help="in which each must end")
    parser.add_argument("--until", type=float, help="begin none after this second since the epoch")
    given = parser.parse_args()
    seeds = _seeds(given.work.resolve())
    numbers = range(given.first, given.first + given.number) if given.only is None else [given.only]
    attacks = [draw_attack(number, given.seed, seeds.folder.parent / "attacks", FAMILIES) for number in numbers]
    attacks = [attack for attack in attacks if not given.family or given.family in attack.family]
    attacks = [attack for attack in attacks if attack.task in given.tasks.split(",")]
    tried, failed = Counter[str](), Counter[str]()
    with progress("attacks") as bar:
        task = bar.add_task("attacks", total=len(attacks))
        for attack in attacks:
            if given.until and time.time() > given.until:
                break
            ended, problems = carry_out(attack, seeds, limit_sec=given.limit_sec)
            _tell(attack, ended, problems)
            tried[attack.family] += 1
            failed[attack.family] += bool(problems)
            if not problems and given.only is None:
                shutil.rmtree(attack.place.folder)
            bar.advance(task)
    rows = [[family, str(number), str(failed[family])] for family, number in sorted(tried.items())]
    total = ["all", str(tried.total()), str(failed.total())]
    print_table("attacks", ["family", "tried", "failed"], [*rows, total])
    return int(failed.total() > 0)


def _tell(attack: Attack, ended: Ended, problems: list[str]) -> None:
    verdict = f"FAILED: {json.dumps(problems, ensure_ascii=True)}" if problems else "held"
    what = attack.what.encode("unicode_escape").decode()
    line = f"{attack.number:5} {attack.family:20} {what} | {ended.status} {ended.seconds:.1f} s | {verdict}\n"
    sys.stdout.write(line)
    sys.stdout.flush()


def _seeds(work: Path) -> Place:
    """What all attacks are copies of, made once."""
    folder = work / "seeds"
    if (folder / "whole").exists():
        return Place(folder)
    raw = Place(work / "raw")
    shutil.rmtree(raw.folder, ignore_errors=True)
    for name in ("home", "tmp", "log"):
        (raw.folder / name).mkdir(parents=True)
    process = FORKED.Process(target=_make_raw, args=(raw.folder,))
    process.start()
    process.join()
    made = [*words_of(raw, "manifest"), "--speaker-from", r"^([^/]+)/"]
    made[made.index("--output") + 1] = str(raw.folder / "manifest.jsonl")
    for words in (made, [*raw.prepare(), "--set", "prepare.validation_share=0.2"]):
        ended = finish(raw.command(words, "seeds"), limit_sec=300)
        if ended.status != 0:
            sys.exit(ended.said)
    at = raw.folder
    given = {name: at / name for name in ("model", "corpus", "pool", "replay")}
    return make_seeds(folder, at / "manifest.jsonl", {**given, "dataset": at / "out"})


def _make_raw(folder: Path) -> None:
    from conftest import build_tiny_model
    from runyoro_ssl.audio.synth import write_corpus
    from support.pools import synthetic

    build_tiny_model(folder / "model")
    for seed, name in enumerate(("pool", "replay"), start=1):
        synthetic(folder / name, folder / "model", name, seed=seed, num_clips=12)
    write_corpus(folder / "corpus", num_clips=24, num_voices=4, num_words=6, clip_sec=2.5)


if __name__ == "__main__":
    sys.exit(main())
