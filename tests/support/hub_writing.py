"""What the double of the hub does for those who send: repositories, branches, large files, commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

LARGE = (".bin", ".parquet", ".safetensors", ".wav", ".flac", ".mp3", ".opus", ".tar", ".zip")
"""Endings of files that the hub keeps elsewhere, and sends a client to."""
WRITE_API = re.compile(r"/api/models/([^/]+/[^/]+)/(preupload|commit|branch)/(.+)")
LFS_BATCH = re.compile(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch")
ARRIVALS = "/arrivals/"
"""Where large files are sent to: as on the hub, another host, and no token is shown."""

Answer = tuple[int, dict[str, Any]]


@dataclass
class Writing:
    """Who may write, and what came. `owners`: people and organisations that whoever shows a token belongs to."""

    root: Path
    address: str
    owners: set[str] = field(default_factory=lambda: {"akiiki"})
    private: set[str] = field(default_factory=set)
    """Repositories that are."""
    arrived: dict[str, bytes] = field(default_factory=dict)
    """Large files by their sha256."""
    messages: list[str] = field(default_factory=list)
    """Of the commits."""

    def answer(self, method: str, path: str, body: bytes, token: str) -> Answer | None:
        """The status and the content of an answer; None where this is nothing of those who send."""
        if method == "PUT" and path.startswith(ARRIVALS):
            return self._keep(path, body)
        if path == "/api/whoami-v2":
            return 200, {"name": "akiiki"}
        if path == "/api/validate-yaml":
            return self._validate(json.loads(body)["content"])
        asked: list[tuple[Any, Callable[..., Answer]]] = [
            (re.fullmatch("/api/repos/create", path), self._create),
            (LFS_BATCH.fullmatch(path), self._batch),
            (WRITE_API.fullmatch(path), self._write),
        ]
        for found, act in asked:
            if found:
                return act(*found.groups(), body) if token else (401, {"error": "Invalid username or password."})
        return None

    def _keep(self, path: str, body: bytes) -> Answer:
        """Take a large file."""
        digest = hashlib.sha256(body).hexdigest()
        if digest != path.removeprefix(ARRIVALS):
            return 400, {"error": "the content is not what was announced"}
        self.arrived[digest] = body
        return 200, {}

    def _validate(self, card: str) -> Answer:
        found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
        data = yaml.safe_load(found[1]) if found else None
        if not isinstance(data, dict):
            return 200, {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
        return 200, {"errors": [], "warnings": []}

    def _create(self, body: bytes) -> Answer:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] not in self.owners:
            said = f'You don\'t have the rights to create a model under the namespace "{asked["organization"]}"'
            return 403, {"error": said}
        folder = self.root / "models" / name
        if folder.exists():
            return 409, {"error": "You already created this model repo", "url": f"{self.address}/{name}"}
        (folder / "main").mkdir(parents=True)
        (folder / "main" / ".gitattributes").write_text("*.safetensors filter=lfs\n")
        if asked.get("private") or asked.get("visibility") == "private":
            self.private.add(name)
        return 200, {"url": f"{self.address}/{name}"}

    def _batch(self, name: str, body: bytes) -> Answer:
        if not (self.root / "models" / name).is_dir():
            return 404, {"error": "Repository not found"}
        home = self.address.replace("127.0.0.1", "localhost")
        objects = []
        for one in json.loads(body)["objects"]:
            upload = {"actions": {"upload": {"href": f"{home}{ARRIVALS}{one['oid']}", "header": {}}}}
            objects.append({**one, **({} if one["oid"] in self.arrived else upload)})
        return 200, {"transfer": "basic", "objects": objects}

    def _write(self, name: str, what: str, revision: str, body: bytes) -> Answer:
        home = self.root / "models" / name
        if name.partition("/")[0] not in self.owners:
            return 403, {"error": "you are not allowed to write to it"}
        if what == "branch":
            if (home / revision).exists():
                return 409, {"error": "the branch is there"}
            shutil.copytree(home / "main", home / revision)
            return 200, {}
        folder = home / revision
        if not folder.is_dir():
            return 404, {"error": "Invalid rev id"}
        if what == "preupload":
            return 200, {"files": [_mode(one["path"]) for one in json.loads(body)["files"]]}
        return self._commit(name, folder, [json.loads(line) for line in body.splitlines()])

    def _commit(self, name: str, folder: Path, operations: list[dict[str, Any]]) -> Answer:
        contents = list(self._contents(operations))
        if missing := [path for path, content in contents if content is None]:
            return 400, {"error": f"{missing[0]} has not arrived"}
        for path, content in contents:
            (folder / path).write_bytes(content or b"")
        self.messages += [one["value"]["summary"] for one in operations if one["key"] == "header"]
        return 200, {"commitUrl": f"{self.address}/{name}/commit/{'ab' * 20}", "commitOid": "ab" * 20}

    def _contents(self, operations: list[dict[str, Any]]) -> Iterator[tuple[str, bytes | None]]:
        for one in operations:
            if one["key"] == "file":
                yield one["value"]["path"], base64.b64decode(one["value"]["content"])
            elif one["key"] == "lfsFile":
                yield one["value"]["path"], self.arrived.get(one["value"]["oid"])


def tags_of(folder: Path) -> list[str]:
    """The tags that the card of a model states."""
    card = folder / "README.md"
    found = re.match(r"---\n(.*?)\n---\n", card.read_text(), re.DOTALL) if card.is_file() else None
    data = yaml.safe_load(found[1]) if found else None
    return list(data.get("tags", [])) if isinstance(data, dict) else []


def _mode(path: str) -> dict[str, Any]:
    return {"path": path, "uploadMode": "lfs" if path.endswith(LARGE) else "regular", "shouldIgnore": False}
