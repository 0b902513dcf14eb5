"""A Hub on loopback, as far as the real client needs one: repositories with commits, branches, tags and large files.

Commits are atomic: files that were uploaded but never committed are in no revision. `HubServer.cut` makes the server
drop a connection in the middle, as a broken network does.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

TOKEN = "hf_loopback"
LARGE = (".safetensors", ".bin", ".parquet", ".tar", ".mp4", ".onnx", ".png")
KINDS = {"models": "model", "datasets": "dataset"}


class NotFoundError(Exception):
    """What the client is told in the header `X-Error-Code`."""


@dataclass
class Repo:
    """One repository; a commit is a complete mapping of paths to contents."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], message: str, ref: str) -> str:
        content = repr([(path, hashlib.sha256(data).hexdigest()) for path, data in sorted(files.items())])
        oid = hashlib.sha1(f"{content}{message}{len(self.commits)}".encode()).hexdigest()
        self.commits[oid] = files
        self.messages.append(message)
        self.refs[ref] = oid
        return oid

    def resolve(self, revision: str) -> str:
        for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if name in self.refs:
                return self.refs[name]
        if revision in self.commits:
            return revision
        raise NotFoundError("RevisionNotFound")

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return self.commits[self.resolve(revision)]


class HubServer:
    """The server; use it in a `with` block. Clients need the environment of `environment()`."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.cut: Callable[[str, str], bool] = lambda method, path: False
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.http.server_port}"

    def environment(self, home: Any, offline: bool = False) -> dict[str, str]:
        """Variables that send a client here, with a cache of its own; set them before `huggingface_hub` is imported."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": str(int(offline)),
        }

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *details: object) -> None:
        self.http.shutdown()
        self.http.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *details: Any) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlparse(self.path)
        path, self.query = unquote(url.path), parse_qs(url.query)
        self.hub.requests.append(f"{self.command} {path}")
        length = int(self.headers.get("Content-Length") or 0)
        try:
            if self.hub.cut(self.command, path):
                self.rfile.read(length // 2)
                self.close_connection = True
                self.connection.close()
                return
            self.body = self.rfile.read(length)
            with self.hub.lock:
                self._route(path.strip("/").split("/"))
        except NotFoundError as error:
            commit = str(error.args[1]) if len(error.args) > 1 else ""
            headers = {"X-Error-Code": str(error.args[0]), **({"X-Repo-Commit": commit} if commit else {})}
            self._send(404, b"", headers)
        except (ConnectionError, ValueError):
            self.close_connection = True  # readers of streams leave early

    # Routing ---------------------------------------------------------------------------------------------------------
    def _route(self, parts: list[str]) -> None:
        if parts[0] == "api":
            self._api(parts[1:])
        elif parts[0] == "lfs" and self.command == "PUT":
            if hashlib.sha256(self.body).hexdigest() != parts[1]:
                self._send(400)
                return
            self.hub.blobs[parts[1]] = self.body
            self._send(200)
        elif "objects" in parts:
            self._lfs_batch()
        elif "resolve" in parts:
            kind = "datasets" if parts[0] == "datasets" else "models"
            place = parts.index("resolve")
            # A reference such as refs/pr/1 has slashes of its own.
            size = 3 if parts[place + 1] == "refs" else 1
            name, path = parts[place + 1 : place + 1 + size], parts[place + 1 + size :]
            repo = self._repo(kind, "/".join(parts[place - 2 : place]))
            self._file(repo, "/".join(name), "/".join(path))
        else:
            raise NotFoundError("EntryNotFound")

    def _api(self, parts: list[str]) -> None:
        if parts[0] == "whoami-v2":
            auth = {"accessToken": {"role": "write", "displayName": "test"}}
            self._json({"type": "user", "name": "tester", "orgs": [], "auth": auth})
        elif parts == ["validate-yaml"]:
            self._json({"errors": [], "warnings": []})
        elif parts == ["repos", "create"]:
            self._create()
        elif parts[0] in KINDS and len(parts) >= 3:
            kind, name, action, rest = parts[0], "/".join(parts[1:3]), parts[3:4], parts[4:]
            repo = self._repo(kind, name)
            actions: dict[str, Callable[[Repo, str, list[str]], None]] = {
                "revision": self._info,
                "preupload": self._preupload,
                "commit": self._commit,
                "tree": self._tree,
                "paths-info": self._paths,
                "refs": self._refs,
                "tag": self._tag,
                "branch": self._branch,
            }
            if not action:
                self._info(repo, name, ["main"])
            elif action[0] in actions:
                actions[action[0]](repo, name, rest)
            else:
                raise NotFoundError("EntryNotFound")
        else:
            raise NotFoundError("EntryNotFound")

    def _repo(self, kind: str, name: str) -> Repo:
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            raise NotFoundError("RepoNotFound")
        return repo

    # Repositories ----------------------------------------------------------------------------------------------------
    def _create(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401)
            return
        asked = json.loads(self.body)
        kind = "datasets" if asked.get("type") == "dataset" else "models"
        name = f"{asked.get('organization') or 'tester'}/{asked['name']}"
        url = f"{self.hub.endpoint}/{'datasets/' if kind == 'datasets' else ''}{name}"
        status = 409 if (kind, name) in self.hub.repos else 200
        if status == 200:
            repo = self.hub.repos[kind, name] = Repo(asked.get("visibility") == "private" or bool(asked.get("private")))
            repo.commit({".gitattributes": b""}, "initial commit", "refs/heads/main")
        self._json({"url": url, "name": name, "id": name}, status)

    def _info(self, repo: Repo, name: str, rest: list[str]) -> None:
        oid = repo.resolve("/".join(rest))
        siblings = [{"rfilename": path} for path in sorted(repo.commits[oid])]
        self._json({"id": name, "sha": oid, "private": repo.private, "siblings": siblings, "tags": []})

    def _refs(self, repo: Repo, name: str, rest: list[str]) -> None:
        found: dict[str, list[dict[str, str]]] = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
        groups = {"refs/heads/": "branches", "refs/tags/": "tags", "refs/pr/": "pullRequests"}
        for ref, oid in repo.refs.items():
            prefix = next(each for each in groups if ref.startswith(each))
            entry = {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": oid}
            found[groups[prefix]].append(entry)
        self._json(found)

    def _tag(self, repo: Repo, name: str, rest: list[str]) -> None:
        tag = f"refs/tags/{json.loads(self.body)['tag']}"
        if tag in repo.refs:
            self._json({}, 409)
            return
        repo.refs[tag] = repo.resolve("/".join(rest))
        self._json({})

    def _branch(self, repo: Repo, name: str, rest: list[str]) -> None:
        ref = f"refs/heads/{'/'.join(rest)}"
        if ref in repo.refs:
            self._json({}, 409)
            return
        repo.refs[ref] = repo.resolve(json.loads(self.body or b"{}").get("startingPoint", "main"))
        self._json({})

    # Uploading -------------------------------------------------------------------------------------------------------
    def _preupload(self, repo: Repo, name: str, rest: list[str]) -> None:
        repo.resolve("/".join(rest))
        answer = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) and file["size"] else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in json.loads(self.body)["files"]
        ]
        self._json({"files": answer})

    def _lfs_batch(self) -> None:
        objects = []
        for asked in json.loads(self.body)["objects"]:
            entry = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.hub.blobs:
                entry["actions"] = {"upload": {"href": f"{self.hub.endpoint}/lfs/{asked['oid']}"}}
            objects.append(entry)
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, repo: Repo, name: str, rest: list[str]) -> None:
        lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        revision = "/".join(rest)
        files = dict(repo.files(revision))
        header: dict[str, Any] = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                header = value
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
            else:
                raise NotFoundError("EntryNotFound")
        if header.get("parentCommit") not in (None, repo.resolve(revision)):
            self._json({"error": "the branch has moved"}, 412)
            return
        answer = {"success": True, "hookOutput": ""}
        ref = f"refs/heads/{revision}"
        if self.query.get("create_pr") == ["1"]:
            number = 1 + sum(each.startswith("refs/pr/") for each in repo.refs)
            ref = f"refs/pr/{number}"
            answer["pullRequestUrl"] = f"{self.hub.endpoint}/{name}/discussions/{number}"
        oid = repo.commit(files, header["summary"], ref)
        self._json({**answer, "commitOid": oid, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{oid}"})

    # Downloading -----------------------------------------------------------------------------------------------------
    def _entry(self, path: str, data: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": _git_oid(data)}
        if path.endswith(LARGE):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry

    def _tree(self, repo: Repo, name: str, rest: list[str]) -> None:
        size = 3 if rest[0] == "refs" else 1
        oid, folder = repo.resolve("/".join(rest[:size])), "/".join(rest[size:])
        files = repo.commits[oid]
        inside = {path: data for path, data in files.items() if not folder or path.startswith(f"{folder}/")}
        if folder and not inside:
            raise NotFoundError("EntryNotFound", oid)
        if self.query.get("recursive", ["false"])[0].lower() not in ("true", "1"):
            depth = len(folder.split("/")) if folder else 0
            below = {"/".join(path.split("/")[: depth + 1]) for path in inside}
            listed = [
                self._entry(path, files[path])
                if path in files
                else {"type": "directory", "path": path, "oid": _git_oid(path.encode()), "size": 0}
                for path in sorted(below)
            ]
        else:
            listed = [self._entry(path, data) for path, data in sorted(inside.items())]
        self._json(listed)

    def _paths(self, repo: Repo, name: str, rest: list[str]) -> None:
        asked: Any
        if "json" in self.headers.get("Content-Type", ""):
            asked = json.loads(self.body)["paths"]
        else:
            asked = parse_qs(self.body.decode()).get("paths", [])
        files = repo.files("/".join(rest))
        wanted = [asked] if isinstance(asked, str) else asked
        self._json([self._entry(path, files[path]) for path in wanted if path in files])

    def _file(self, repo: Repo, revision: str, path: str) -> None:
        oid = repo.resolve(revision)
        if path not in repo.commits[oid]:
            raise NotFoundError("EntryNotFound", oid)
        data = repo.commits[oid][path]
        digest = hashlib.sha256(data).hexdigest() if path.endswith(LARGE) else _git_oid(data)
        headers = {"X-Repo-Commit": oid, "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
        if path.endswith(LARGE):
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        status, asked = 200, self.headers.get("Range", "")
        if asked.startswith("bytes=") and self.command == "GET":
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start = int(first) if first else max(len(data) - int(last), 0)
            stop = min(int(last) + 1, len(data)) if first and last else len(data)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            status, data = 206, data[start:stop]
        self._send(status, data, headers)

    # Answers ---------------------------------------------------------------------------------------------------------
    def _json(self, content: Any, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
