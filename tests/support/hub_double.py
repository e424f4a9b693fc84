"""A double of the Hugging Face hub on loopback: repositories from folders, every request noted, faults on demand."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from support.hub_writing import LARGE, Writing, tags_of

REVISION = r"refs/pr/\d+|refs/convert/\w+|[^/]+"
API = re.compile(rf"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/({REVISION})(?:/(.*))?)?")
CHECK = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)/auth-check")
RESOLVE = re.compile(rf"/(datasets/)?([^/]+/[^/]+)/resolve/({REVISION})/(.+)")
STORE = "/elsewhere/"
SIGNATURE = "signature-of-nobody"


@dataclass
class Fault:
    """What goes wrong with requests whose path matches, after `skip` of them, `times` times."""

    match: str
    method: str = "GET"
    skip: int = 0
    times: int = 1_000
    status: int | None = None
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes of the body after which the connection is cut."""
    says_length: int | None = None
    """Bytes that are promised, and not there: a cut that no header tells."""
    damage: bool = False
    """The first byte of the body is another one."""
    bytes_per_sec: int | None = None
    """Rate at which the body is sent."""
    stall_sec: float = 0.0
    """Before anything is answered."""

    def strikes(self, method: str, path: str) -> bool:
        """Whether it strikes this request; counts those that it could strike."""
        if method != self.method or not re.search(self.match, path):
            return False
        self.skip -= 1
        self.times -= self.skip < 0
        return self.skip < 0 <= self.times


@dataclass
class Request:
    """A request that was answered, and the bytes of content that were sent."""

    method: str
    path: str
    status: int
    num_bytes: int
    range: str | None
    token: str | None


@dataclass
class HubDouble:
    """The repositories under `root/{models,datasets}/org/name/<revision, "/" as "__">/…`."""

    root: Path
    address: str
    gated: dict[str, Literal["log in", "ask"]] = field(default_factory=dict)
    """Repositories for those who log in; for those who are let in, who are none."""
    commits: dict[Path, str] = field(default_factory=dict)
    """Of the folders of revisions that are at a commit of a certain name; of others it follows from their content."""
    bad_tokens: set[str] = field(default_factory=set)
    """Those who show one are refused, whatever they ask for."""
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.writing = Writing(self.root, self.address)

    def folder(self, name: str, revision: str = "main", kind: str = "datasets") -> Path:
        """The folder of a repository, made if there is none."""
        folder = self.root / kind / name / revision.replace("/", "__")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def commit(self, folder: Path) -> str:
        """The commit that a revision is at."""
        return self.commits.get(folder) or _commit(folder)

    def sent(self, pattern: str) -> int:
        """Bytes of content that were sent for paths that match."""
        return sum(one.num_bytes for one in self.requests if re.search(pattern, one.path))

    def asked(self, pattern: str) -> list[Request]:
        """The requests for content whose path matches."""
        return [one for one in self.requests if one.method == "GET" and re.search(pattern, one.path)]


@contextmanager
def hub_double(root: Path) -> Iterator[HubDouble]:
    """A hub that is there while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    hub = HubDouble(root, f"http://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass = type("Handler", (_Handler,), {"hub": hub})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers as the hub does, as far as `huggingface_hub` and `datasets` ask to read, and the former to write."""

    protocol_version = "HTTP/1.1"
    hub: HubDouble

    def do_GET(self) -> None:
        """Answer, with whatever fault is due."""
        self.fault = next((one for one in self.hub.faults if one.strikes(self.command, self.path)), None)
        path = unquote(urlsplit(self.path).path)
        if self._is_cut_short():
            return
        body = self._body()
        try:
            if self._token() in self.hub.bad_tokens and not path.startswith(STORE):
                self._refuse(401, "", message="Invalid credentials in Authorization header")
            elif self.fault and self.fault.status:
                self._refuse(self.fault.status, self.fault.code, self.fault.headers)
            elif path.startswith(STORE):
                self._send_file(self.hub.root / path.removeprefix(STORE), {})
            elif answer := self.hub.writing.answer(self.command, path, body, self._token()):
                self._say(*answer)
            elif found := CHECK.fullmatch(path):
                self._check(found[2])
            elif found := API.fullmatch(path):
                self._answer_api(*found.groups(), body=body)
            elif found := RESOLVE.fullmatch(path):
                self._resolve(*found.groups())
            else:
                self._refuse(404, "")
        except OSError:  # the client has gone
            self.close_connection = True

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - the names that http.server looks for

    def _is_cut_short(self) -> bool:
        """Whether a large file that is being sent is to break off; else, whatever stalls has stalled."""
        fault = self.fault or Fault("")
        if self.command == "PUT" and fault.cut_after is not None:
            self.rfile.read(fault.cut_after)
            self._hang_up()
            return True
        if fault.stall_sec:
            threading.Event().wait(fault.stall_sec)  # tests replace time.sleep
        return False

    def _body(self) -> bytes:
        """What was sent with the request, in one piece or in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _say(self, status: int, content: Mapping[str, Any]) -> None:
        headers = {"X-Error-Message": content["error"]} if "error" in content else {}
        self._send(status, json.dumps(content).encode(), headers)

    def _hang_up(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer_api(
        self, kind: str, name: str, what: str | None, revision: str | None, path: str | None, *, body: bytes
    ) -> None:
        folder = self._checkout(kind, name, revision or "main")
        if folder is None:
            return
        if what in (None, "revision"):
            files = [
                {**one, "rfilename": one["path"], "blobId": one["oid"]}
                | ({"lfs": {**one["lfs"], "sha256": one["lfs"]["oid"]}} if "lfs" in one else {})
                for one in _entries(folder, folder)
                if one["type"] == "file"
            ]
            about = {
                "id": name,
                "sha": self.hub.commit(folder),
                "tags": tags_of(folder),
                "private": name in self.hub.writing.private,
                "gated": name in self.hub.gated,
                "siblings": files,
            }
            self._send(200, json.dumps(about).encode())
        elif what == "tree":
            recursive = parse_qs(urlsplit(self.path).query).get("recursive") in (["true"], ["True"], ["1"])
            if (folder / (path or "")).is_dir():
                found = _entries(folder, folder / (path or ""), recursive=recursive)
                self._send(200, json.dumps(found).encode())
            else:
                self._refuse(404, "EntryNotFound")
        else:
            text = body.decode()
            asked = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
            known = [_entry(folder, folder / one) for one in asked if (folder / one).exists()]
            self._send(200, json.dumps(known).encode())

    def _resolve(self, kind: str | None, name: str, revision: str, path: str) -> None:
        folder = self._checkout("datasets" if kind else "models", name, revision)
        if folder is None:
            return
        head = {"X-Repo-Commit": self.hub.commit(folder)}
        file = folder / path
        if path != "README.md" and self._is_kept_out(name, head):
            return
        if not file.is_file():
            self._refuse(404, "EntryNotFound", head)
        elif path.endswith(LARGE):
            tag = f'"{_digest(file)}"'
            linked = {"X-Linked-Size": str(file.stat().st_size), "X-Linked-Etag": tag, "ETag": tag}
            # As on the hub, another host, and an address that whoever has it can use.
            home = self.hub.address.replace("127.0.0.1", "localhost")
            place = f"{home}{STORE}{file.relative_to(self.hub.root)}?X-Amz-Signature={SIGNATURE}"
            self._send(302, b"", {**head, **linked, "Location": place})
        else:
            self._send_file(file, head)

    def _check(self, name: str) -> None:
        if not self._is_kept_out(name, {}):
            self._send(200, b"{}")

    def _is_kept_out(self, name: str, headers: Mapping[str, str]) -> bool:
        """Whether a gate is shut; the refusal is then sent."""
        gate = self.hub.gated.get(name)
        stranger = not self.headers.get("Authorization")
        if gate and (stranger or gate == "ask"):
            self._refuse(401 if stranger else 403, "GatedRepo", headers)
            return True
        return False

    def _checkout(self, kind: str, name: str, revision: str) -> Path | None:
        """The folder of a revision; the refusal is sent if there is none."""
        home = self.hub.root / kind / name
        if not home.is_dir():
            # The hub does not tell strangers what there is.
            known = self.headers.get("Authorization")
            self._refuse(404 if known else 401, "RepoNotFound" if known else "")
            return None
        for folder in home.iterdir():
            if revision in (folder.name.replace("__", "/"), self.hub.commit(folder)):
                return folder
        self._refuse(404, "RevisionNotFound")
        return None

    def _send_file(self, file: Path, headers: Mapping[str, str]) -> None:
        size = file.stat().st_size
        headers = {**headers, "ETag": f'"{_digest(file)}"', "Accept-Ranges": "bytes"}
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked is None:
            self._send(200, _pieces(file, 0, size), headers, size)
        elif (start := int(asked[1])) >= size:
            self._send(416, [], {**headers, "Content-Range": f"bytes */{size}"}, 0)
        else:
            end = min(int(asked[2] or size), size - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{size}"
            self._send(206, _pieces(file, start, end + 1 - start), headers, end + 1 - start)

    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _refuse(self, status: int, code: str, headers: Mapping[str, str] | None = None, message: str = "") -> None:
        text = "Access to it is restricted." if code == "GatedRepo" else "Invalid username or password."
        text = message or text
        self._send(
            status,
            json.dumps({"error": text}).encode(),
            {**(headers or {}), "X-Error-Code": code, "X-Error-Message": text},
        )

    def _send(
        self,
        status: int,
        content: bytes | Iterable[bytes],
        headers: Mapping[str, str] | None = None,
        size: int | None = None,
    ) -> None:
        fault = self.fault or Fault("")
        pieces = [content] if isinstance(content, bytes) else content
        size = len(content) if isinstance(content, bytes) else size
        length = fault.says_length if fault.says_length is not None else size
        asked, token = self.headers.get("Range"), self.headers.get("Authorization")
        self.noted = Request(self.command, self.path, status, 0, asked, token)
        self.hub.requests.append(self.noted)
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD" and self._write(pieces, fault) != length:
            self.wfile.flush()
            self._hang_up()

    def _write(self, pieces: Iterable[bytes], fault: Fault) -> int:
        """Send a body, with what is wrong with it. Returns the number of bytes that were sent."""
        sent = 0
        for whole in pieces:
            piece = whole if fault.cut_after is None else whole[: fault.cut_after - sent]
            if fault.damage and sent == 0:
                piece = bytes([piece[0] ^ 1]) + piece[1:]
            sent += len(piece)
            self.noted.num_bytes = sent  # before it is sent: a client that has it may look
            self.wfile.write(piece)
            if len(piece) < len(whole):
                break
            if fault.bytes_per_sec:
                threading.Event().wait(len(piece) / fault.bytes_per_sec)
        return sent


def _pieces(file: Path, start: int, num_bytes: int) -> Iterator[bytes]:
    """Bytes of a file, of which there may be gigabytes."""
    with file.open("rb") as opened:
        opened.seek(start)
        while num_bytes > 0 and (piece := opened.read(min(num_bytes, 1 << 16))):
            num_bytes -= len(piece)
            yield piece


def _commit(folder: Path) -> str:
    """A name of the content, by its files and their sizes."""
    files = sorted((str(one.relative_to(folder)), one.stat().st_size) for one in folder.rglob("*") if one.is_file())
    return hashlib.sha1(json.dumps([folder.name, files]).encode(), usedforsecurity=False).hexdigest()


def _digest(file: Path) -> str:
    return _digest_of(file, file.stat().st_mtime_ns)


@cache
def _digest_of(file: Path, _changed: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _entries(home: Path, folder: Path, *, recursive: bool = True) -> list[dict[str, Any]]:
    return [_entry(home, one) for one in sorted(folder.rglob("*") if recursive else folder.iterdir())]


def _entry(home: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(home).as_posix()
    if path.is_dir():
        return {"type": "directory", "oid": "0" * 40, "size": 0, "path": name}
    about = {"type": "file", "oid": _digest(path)[:40], "size": path.stat().st_size, "path": name}
    if name.endswith(LARGE):
        about["lfs"] = {"oid": _digest(path), "size": path.stat().st_size, "pointerSize": 135}
    return about
