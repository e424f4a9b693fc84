"""One writer for a folder: processes that start, die, sleep and come back, on this machine and on another."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from conftest import ROOT
from runyoro_ssl.disk import drafts, lock
from runyoro_ssl.disk.lock import PATIENCE, FolderLock, Words
from runyoro_ssl.disk.owner import Owner
from runyoro_ssl.errors import ConfigError, TrainingError
from runyoro_ssl.train.run_lock import LOCK, lock_run
from support.rights import said_without_powers

BEAT_SEC = 0.1
OBEY = """
import sys
from pathlib import Path
from runyoro_ssl import logs
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.train.run_lock import lock_run
logs.configure()
print("ready", flush=True)
for line in sys.stdin:
    held = lock_run(Path(line.strip()))
    try:
        held.acquire()
    except TrainingError as error:
        print("refused", error, flush=True)
    else:
        print("held", flush=True)
    sys.stdin.readline()
    held.release()
    print("released", flush=True)
"""
"""Reads a folder, tries to hold it and says what came of it; lets go at the next line."""
HAMMER = """
import os, sys, time
from pathlib import Path
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.train.run_lock import lock_run
folder, held, refused = Path(sys.argv[1]), 0, 0
print("ready", flush=True)
sys.stdin.readline()
end = time.monotonic() + 60
while held < 20 and time.monotonic() < end:
    try:
        with lock_run(folder):
            os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))
            os.unlink(folder / "inside")
            held += 1
    except TrainingError:
        refused += 1
print(held, refused)
"""
"""Takes and leaves a folder twenty times, as fast as it can; fails if it is ever inside together with another."""
Peer = subprocess.Popen[str]


@pytest.fixture
def start() -> Iterator[Callable[[], Peer]]:
    """Starts processes that obey; they end with the test."""
    with ExitStack() as stack:

        def begin() -> Peer:
            process = subprocess.Popen(
                [sys.executable, "-c", OBEY], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            assert answer(process) == "ready\n"
            return process

        yield begin


def beating(folder: Path, beat_sec: float = BEAT_SEC) -> FolderLock:
    """A run's lock with a quicker beat."""
    return FolderLock(folder / LOCK, lock_run(folder)._words, beat_sec=beat_sec)


def tell(process: Peer, line: object) -> None:
    """Send one line."""
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def answer(process: Peer) -> str:
    """Read one line."""
    assert process.stdout is not None
    return process.stdout.readline()


def leave_record(folder: Path, **changes: Any) -> Owner:
    """Put the record of a process that is not there, with a beat of 0; by default one of this machine."""
    owner = Owner(**{**vars(Owner.here()), **changes})
    folder.mkdir(exist_ok=True)
    (folder / LOCK).write_bytes(owner.record(0))
    return owner


def test_second_run_is_refused_and_told_who_writes(tmp_path: Path, start: Callable[[], Peer]) -> None:
    """With its number and host, and what to do; when the first ends, the folder is free and nothing is left in it."""
    with lock_run(tmp_path / "run") as held:
        held.acquire()
        record = json.loads((tmp_path / "run" / LOCK).read_text())
        assert (record["host"], record["pid"]) == (os.uname().nodename, os.getpid())
        other = start()
        tell(other, tmp_path / "run")
        line = answer(other)
        assert line.startswith(f"refused {tmp_path / 'run'}: `invoke train` is already writing here (pid {os.getpid()}")
        assert f"on host {record['host']}, since {record['since']}" in line
        assert "--output-dir" in line
        held.check()
        (tmp_path / "run" / "checkpoint").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint"]
    tell(other, "")
    assert answer(other) == "released\n"
    tell(other, tmp_path / "run")
    assert answer(other) == "held\n"


def test_killed_run_blocks_nobody(tmp_path: Path, start: Callable[[], Peer]) -> None:
    """After kill -9 the next run takes the folder at once, and says from whom."""
    process = start()
    tell(process, tmp_path)
    assert answer(process) == "held\n"
    with pytest.raises(TrainingError, match=f"pid {process.pid} on host"):
        lock_run(tmp_path).acquire()
    process.kill()
    process.wait()
    assert (tmp_path / LOCK).exists()
    with capture_logs() as lines, lock_run(tmp_path) as held:
        held.check()
    assert [(line["event"], line.get("pid")) for line in lines] == [("stale_lock_taken", process.pid)]
    assert lines[0]["host"] == os.uname().nodename


@pytest.mark.parametrize("content", ["a record", "of before a restart", "nothing"])
def test_what_was_killed_while_it_entered_leaves_nothing(tmp_path: Path, content: str) -> None:
    """Its draft goes with the next who enters, written or not. That of who is alive, and what is none, stay."""
    here = Owner.here()
    records = {
        "a record": here.record(0),
        "of before a restart": Owner(here.host, here.pid, here.since, "another boot").record(0),
        "nothing": b"",
    }
    dead = draft(tmp_path, records[content])
    elsewhere = draft(tmp_path, Owner("elsewhere", 1, here.since, "another boot").record(0))
    foreign = draft(tmp_path, b"notes of mine")
    os.mkfifo(tmp_path / f".{LOCK}-pipe")
    (tmp_path / f".{LOCK}-link").symlink_to(dead)
    with draft(tmp_path, here.record(0)).open("rb") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        with lock_run(tmp_path):
            assert not dead.exists()
            left = {path.name for path in tmp_path.iterdir()}
            assert left == {LOCK, *(Path(path).name for path in (elsewhere, foreign, alive.name))} | {
                f".{LOCK}-pipe",
                f".{LOCK}-link",
            }


def draft(folder: Path, content: bytes) -> Path:
    """A record under the name that it has before it becomes the lock."""
    path = folder / f".{LOCK}-{uuid.uuid4().hex}"
    path.write_bytes(content)
    return path


def test_a_draft_that_is_swept_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sweeps between its making and its OS lock, before that or while it is taken, costs nothing."""
    real = drafts.os_lock
    swept: list[Path] = []

    def sweeping(file: int, *kind: int) -> bool | None:
        if len(swept) < 2:
            [path] = tmp_path.glob(f".{LOCK}-*")
            path.unlink()
            swept.append(path)
            return real(file, *kind) if len(swept) == 1 else False
        return real(file, *kind)

    monkeypatch.setattr(drafts, "os_lock", sweeping)
    with lock_run(tmp_path) as held:
        assert held.is_held()
        assert len(swept) == 2
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_one_whose_draft_was_swept_later_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a share without OS locks: only who has the folder sweeps."""

    def swept(self: FolderLock, draft: Path, file: int, owner: Owner) -> bool:
        draft.unlink()
        return put_in_place(self, draft, file, owner)

    put_in_place = FolderLock._put_in_place
    monkeypatch.setattr(FolderLock, "_put_in_place", swept)
    with pytest.raises(TrainingError, match="is already writing here"):
        lock_run(tmp_path).acquire()
    assert list(tmp_path.iterdir()) == []


def test_stopped_process_still_holds(tmp_path: Path, start: Callable[[], Peer]) -> None:
    """Ctrl-Z is not the end of a run."""
    process = start()
    tell(process, tmp_path)
    assert answer(process) == "held\n"
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(TrainingError, match=f"pid {process.pid} on host"):
        beating(tmp_path).acquire()


@pytest.mark.parametrize("left", [False, True])
def test_of_runs_started_together_one_wins(tmp_path: Path, start: Callable[[], Peer], *, left: bool) -> None:
    """In a new folder, and in one with the record of a dead run; fifteen times."""
    peers = [start() for _ in range(3)]
    for number in range(15):
        folder = tmp_path / str(number)
        if left:
            leave_record(folder, pid=4_000_000)
        for peer in peers:
            tell(peer, folder)
        answers = [answer(peer).split()[0] for peer in peers]
        assert sorted(answers) == ["held", "refused", "refused"]
        for peer in peers:
            tell(peer, "")
            assert answer(peer) == "released\n"


def test_nobody_enters_while_another_leaves(tmp_path: Path) -> None:
    """Runs that come and go as fast as they can are never inside together."""
    command = [sys.executable, "-c", HAMMER, str(tmp_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    peers = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(3)]
    assert [answer(peer) for peer in peers] == ["ready\n"] * 3
    for peer in peers:
        tell(peer, "go")
    counts = [list(map(int, peer.communicate()[0].split())) for peer in peers]
    assert [peer.returncode for peer in peers] == [0, 0, 0]
    assert [held for held, _ in counts] == [20] * 3
    assert sum(refused for _, refused in counts) > 0


def test_number_of_another_process_is_not_alive(tmp_path: Path) -> None:
    """A record of this machine whose pid now belongs to another process does not block, nor is it watched."""
    leave_record(tmp_path, pid=os.getppid())
    with capture_logs() as lines, lock_run(tmp_path):
        pass
    assert [line["event"] for line in lines] == ["stale_lock_taken"]


@pytest.mark.parametrize("content", [None, b"", b'{"host": "x', b"\0" * 200, b"[" * 4096, b"[]"])
def test_still_record_of_another_machine_is_taken_over(tmp_path: Path, content: bytes | None) -> None:
    """After 2.5 beats, which is said before; a damaged record is nobody's and is treated the same."""
    leave_record(tmp_path, host="elsewhere", pid=7, boot="other")
    if content is not None:
        (tmp_path / LOCK).write_bytes(content)
    begin = time.monotonic()
    with capture_logs() as lines, beating(tmp_path) as held:
        assert time.monotonic() - begin >= PATIENCE * BEAT_SEC
        held.check()
    assert [line["event"] for line in lines] == ["lock_found", "stale_lock_taken"]
    for line in lines:
        assert (line["host"], line["pid"]) == (("elsewhere", 7) if content is None else (None, None))


def test_record_is_watched_after_a_restart_of_this_machine(tmp_path: Path) -> None:
    """Another kernel may be that of a machine of the same name."""
    leave_record(tmp_path, boot="before")
    with capture_logs() as lines, beating(tmp_path):
        pass
    assert [line["event"] for line in lines] == ["lock_found", "stale_lock_taken"]


def test_beating_record_of_another_machine_is_respected(tmp_path: Path) -> None:
    """The error names the machine, and its record is as it was."""
    owner = leave_record(tmp_path, host="elsewhere", pid=7, boot="other")
    ended = threading.Event()

    def beat() -> None:
        with (tmp_path / LOCK).open("r+b", buffering=0) as file:
            for number in range(1, 1000):
                if ended.wait(BEAT_SEC):
                    return
                os.pwrite(file.fileno(), owner.record(number), 0)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(TrainingError, match=r"pid 7 on host elsewhere.*wait for it"):
            beating(tmp_path).acquire()
    finally:
        ended.set()
        thread.join()
    assert Owner.read((tmp_path / LOCK).read_bytes()) == owner
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_record_removed_while_watched_is_no_obstacle(tmp_path: Path) -> None:
    """The run on the other machine has ended."""
    leave_record(tmp_path, boot="other")
    timer = threading.Timer(BEAT_SEC, (tmp_path / LOCK).unlink)
    timer.start()
    with capture_logs() as lines, beating(tmp_path) as held:
        held.check()
    assert [line["event"] for line in lines] == ["lock_found"]


def test_owner_beats_and_can_always_be_read(tmp_path: Path) -> None:
    """Every reading is a whole record, and another machine sees it change."""
    with beating(tmp_path, 0.001):
        seen = set()
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            content = (tmp_path / LOCK).read_bytes()
            assert Owner.read(content) == Owner.here()
            seen.add(content)
    assert len(seen) > 10


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("left", [True, False])
def test_of_two_machines_without_common_locks_one_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, left: bool, links: bool
) -> None:
    """Neither sees the other's OS lock, and both take the name in the same moment; with and without hard links."""

    def no_links(*_args: Any) -> None:
        raise PermissionError

    for module in (lock, drafts):
        monkeypatch.setattr(module, "os_lock", lambda _file: None)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    for name in ("replace", "rename"):
        monkeypatch.setattr(Path, name, at_once(getattr(Path, name)))
    for number in range(3):
        folder = tmp_path / str(number)
        if left:
            leave_record(folder, boot="other")
        held, refused = come_together([beating(folder) for _ in range(2)])
        assert (len(held), len(refused)) == (1, 1)
        held[0].check()
        held[0].release()


def at_once(move: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
    """The move of two threads, each of which waits for the other before."""
    barrier = threading.Barrier(2)

    def moved(path: Path, to: Path) -> Path:
        barrier.wait(timeout=5)
        return move(path, to)

    return moved


def come_together(locks: list[FolderLock]) -> tuple[list[FolderLock], list[TrainingError]]:
    """Acquire each in a thread of its own: who holds, and what the others were told."""
    barrier, held, refused = threading.Barrier(len(locks)), [], []

    def come(one: FolderLock) -> None:
        barrier.wait()
        try:
            one.acquire()
            held.append(one)
        except TrainingError as error:
            refused.append(error)

    threads = [threading.Thread(target=come, args=(one,)) for one in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return held, refused


def test_check_notices_that_the_file_was_removed(tmp_path: Path) -> None:
    """The folder is not taken again: who removed it may have gone further since."""
    with lock_run(tmp_path) as held:
        held.check()
        (tmp_path / LOCK).unlink()
        with pytest.raises(
            TrainingError, match=r"run.lock is gone.*nothing was written.*--resume-from-checkpoint last"
        ):
            held.check()
    assert not (tmp_path / LOCK).exists()


def test_run_that_was_replaced_learns_by_whom_and_disturbs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine slept, another took over: `check` names it, and neither a beat nor the release touches its file."""
    sleeper, other = beating(tmp_path), beating(tmp_path)
    sleeper.acquire()
    assert sleeper._beats is not None
    sleeper._ended.set()
    sleeper._beats.join()
    for module in (lock, drafts):
        monkeypatch.setattr(module, "os_lock", lambda _file: None)
    monkeypatch.setattr(Owner, "here", lambda: Owner("elsewhere", 7, "noon", "other"))
    other.acquire()
    assert sleeper._file is not None
    os.pwrite(sleeper._file, b"late beat", 0)
    with pytest.raises(TrainingError, match=r"taken it over \(pid 7 on host elsewhere.*nothing was written"):
        sleeper.check()
    sleeper.release()
    other.check()
    assert Owner.read((tmp_path / LOCK).read_bytes()) == Owner.here()
    other.release()


def test_folder_made_for_nothing_goes(tmp_path: Path) -> None:
    """A start that fails leaves no trace; a folder that was there stays."""
    with lock_run(tmp_path / "new"):
        pass
    (tmp_path / "old").mkdir()
    with lock_run(tmp_path / "old"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_words_are_those_of_the_command(tmp_path: Path) -> None:
    """Who is refused, or has lost the folder, is told the command, the place and the remedy that the caller named."""
    words = Words("invoke prepare", Path("data/set"), "Run the same again", ConfigError)
    with FolderLock(tmp_path / "prepare.lock", words) as held:
        with pytest.raises(ConfigError, match=r"^data/set: `invoke prepare` is already writing here \(pid"):
            FolderLock(tmp_path / "prepare.lock", words).acquire()
        (tmp_path / "prepare.lock").unlink()
        with pytest.raises(ConfigError, match=r"^data/set: prepare.lock is gone.*Run the same again$"):
            held.check()


def test_dead_run_of_another_user_blocks_nobody(tmp_path: Path) -> None:
    """Its record may only be read: that is enough to see that nobody holds it, and to put another in its place."""
    leave_record(tmp_path, pid=4_000_000)
    (tmp_path / LOCK).chmod(0o444)

    def acquire() -> str:
        with lock_run(tmp_path) as held:
            held.check()
            return str(Owner.read((tmp_path / LOCK).read_bytes()) == Owner.here())

    assert said_without_powers(acquire) == "True"


def test_living_run_of_another_user_is_named(tmp_path: Path, start: Callable[[], Peer]) -> None:
    """A record that may only be read tells who writes."""
    process = start()
    tell(process, tmp_path)
    assert answer(process) == "held\n"
    (tmp_path / LOCK).chmod(0o444)
    said = said_without_powers(lock_run(tmp_path).acquire)
    assert f"is already writing here (pid {process.pid} on host" in said


def test_record_that_may_not_be_read_or_replaced(tmp_path: Path) -> None:
    """Whether its run is alive is said where it can be known; and that the file may be removed."""
    leave_record(tmp_path, pid=4_000_000)
    (tmp_path / LOCK).chmod(0)
    said = said_without_powers(lock_run(tmp_path).acquire)
    assert "run.lock may not be read" in said
    assert "alive is not known. If nothing writes into this folder any more, the file may be removed" in said
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    if os.geteuid() != 0:
        pytest.skip("only root can make a file that is another user's")
    (tmp_path / LOCK).chmod(0o644)
    for path in (tmp_path / LOCK, tmp_path):
        os.chown(path, 1, 1)
    tmp_path.chmod(0o1777)  # sticky, as /tmp: nobody replaces what is another's
    said = said_without_powers(lock_run(tmp_path).acquire)
    os.chown(tmp_path, 0, 0)
    assert "was left by a `invoke train` that is dead (pid 4000000" in said
    assert "it belongs to" in said
    assert "the file may be removed" in said


def test_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    """Not a draft of the lock, of which nobody has heard."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o555)
    said = said_without_powers(lock_run(tmp_path / "run").acquire)
    assert f"{tmp_path / 'run'}: nothing may be written there (Permission denied" in said
    said = said_without_powers(lock_run(tmp_path / "run" / "new").acquire)
    assert f"{tmp_path / 'run' / 'new'}: nothing may be written there" in said


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_no_lock(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A folder or a pipe of that name is not waited for."""
    make(tmp_path / LOCK)
    with pytest.raises(TrainingError, match=r"run.lock is no file, as a lock is: remove it"):
        lock_run(tmp_path).acquire()


def test_renamed_folder_is_found_by_its_open_lock(tmp_path: Path) -> None:
    """It is named, and released under its new name; a removed one has a refuge beside; one taken over has none."""
    folder, renamed = tmp_path / "run", tmp_path / "renamed"
    with lock_run(folder) as held:
        assert held.folder_now() == folder
        folder.rename(renamed)
        with pytest.raises(TrainingError, match=rf"it was renamed during the run, and is now {renamed}"):
            held.check()
        assert held.refuge() == renamed
        leave_record(folder, boot="other")  # another run under the old name
        assert held.refuge() == renamed
        (renamed / LOCK).unlink()
        assert held.refuge() is None
        (folder / LOCK).unlink()
        assert held.refuge() == tmp_path / "run-rescued"
        (tmp_path / "run-rescued").mkdir()
        assert held.refuge() == tmp_path / "run-rescued-2"
    with lock_run(folder):
        folder.rename(tmp_path / "again")
    assert list((tmp_path / "again").iterdir()) == []
