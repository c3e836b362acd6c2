"""A server on loopback that speaks the Hugging Face hub's protocol with files made by the tests."""

import hashlib
import json
import re
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

# Larger files are declared by their SHA-256 as in Git LFS, smaller ones as git blobs.
LFS_BYTES = 1000
API = re.compile(r"/api/(datasets|models)/(.+)/revision/([^/]+)")
TREE = re.compile(r"/api/(datasets|models)/(.+)/tree/([^/]+)/?(.*)")
PATHS = re.compile(r"/api/(datasets|models)/(.+)/paths-info/([^/]+)")
RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class Hub(ThreadingHTTPServer):
    """Serves repositories; what is wrong with them is set in the attributes below."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, tuple[str, dict[str, bytes]]] = {}
        """Name -> revision and {file: content}."""
        self.refusals: dict[str, tuple[int, str]] = {}
        """Repository -> HTTP status and error code with which all of it is refused."""
        self.token = ""
        """Files (not their list) are served only with this token, as in a gated repository."""
        self.breaks: dict[str, list[int]] = {}
        """File -> for each of the next requests the byte at which the connection breaks off."""
        self.altered: dict[str, bytes] = {}
        """File -> what is sent in place of the content that is declared."""
        self.lost: set[str] = set()
        """Files that are listed and not there."""
        self.stalls: set[str] = set()
        """Files of which only the first byte is sent; `stalled` is set then, and nothing more comes."""
        self.stalled = threading.Event()
        self.requests: list[str] = []
        """Method and path of every request, with its Range where it has one."""

    @property
    def endpoint(self) -> str:
        """For HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_port}"

    def publish(self, name: str, revision: str, files: dict[str, bytes]) -> None:
        """Add files to a repository."""
        self.repositories.setdefault(name, (revision, {}))[1].update(files)

    def close(self) -> None:
        """Stop serving; connections are then refused."""
        self.shutdown()
        self.server_close()


@contextmanager
def serving():
    """A hub that serves."""
    hub = Hub()
    threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
    yield hub
    hub.close()


def _entry(name: str, content: bytes) -> dict:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry = {"type": "file", "path": name, "size": len(content), "oid": blob}
    if len(content) > LFS_BYTES:
        sha256 = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": sha256, "sha256": sha256, "size": len(content), "pointerSize": 134}
    return entry


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        hub, url = self.server, urlsplit(self.path)
        asked = self.headers.get("Range", "")
        hub.requests.append(f"{self.command} {url.path} {asked}".strip())
        listing, file, tree = (pattern.fullmatch(url.path) for pattern in (API, RESOLVE, TREE))
        named = listing or file or tree
        name, revision = (named[2], named[3]) if named else ("", "")
        published, files = hub.repositories.get(name, ("", {}))
        if name in hub.refusals:
            self._send(hub.refusals[name][0], code=hub.refusals[name][1])
        elif name not in hub.repositories:
            self._send(404, code="RepoNotFound")
        elif revision != published:
            self._send(404, code="RevisionNotFound")
        elif listing:
            self._list(name, revision, files)
        elif tree:
            self._tree(files, tree[4], "true" in parse_qs(url.query).get("recursive", []))
        elif hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._send(401, code="GatedRepo")
        elif file[4] not in files or file[4] in hub.lost:
            self._send(404, code="EntryNotFound")
        else:
            self._file(file[4], revision, files[file[4]], int(re.sub(r"bytes=(\d+)-", r"\1", asked) or 0))

    do_HEAD = do_GET  # noqa: N815

    def _list(self, name, revision, files):
        siblings = [{"rfilename": file} for file in files]
        self._send(200, json.dumps({"id": name, "sha": revision, "siblings": siblings}).encode())

    def do_POST(self):
        hub, url = self.server, urlsplit(self.path)
        asked = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        hub.requests.append(f"POST {url.path}")
        paths = PATHS.fullmatch(url.path)
        _, files = hub.repositories.get(paths[2], ("", {})) if paths else ("", {})
        found = [_entry(file, files[file]) for file in asked.get("paths", []) if file in files]
        self._send(200, json.dumps(found).encode(), body=True)

    def _tree(self, files, folder, recursive):
        prefix = f"{folder}/" if folder else ""
        below = {file: content for file, content in files.items() if file.startswith(prefix)}
        here = [file for file in below if recursive or "/" not in file.removeprefix(prefix)]
        folders = {prefix + file.removeprefix(prefix).split("/")[0] for file in below if file not in here}
        entries = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)]
        self._send(200, json.dumps(entries + [_entry(file, below[file]) for file in here]).encode())

    def _file(self, name, revision, content, start):
        hub = self.server
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": revision}
        content = hub.altered.get(name, content)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        end = len(content)
        if self.command == "GET" and name in hub.stalls:
            self._send(200, content, headers, sent=1, stall=True)
            return
        if self.command == "GET" and hub.breaks.get(name):
            end = hub.breaks[name].pop(0)
        self._send(206 if start else 200, content[start:], headers, sent=max(0, end - start))

    def _send(self, status, content=b"", headers=None, code="", sent=None, stall=False, body=False):
        self.send_response(status)
        headers = {**(headers or {}), "Content-Length": str(len(content))}
        for key, value in (headers | ({"X-Error-Code": code} if code else {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET" or body:
            self.wfile.write(content[:sent])
        if stall:
            self.wfile.flush()
            self.server.stalled.set()
            time.sleep(60)
        if sent is not None and sent < len(content):
            self.close_connection = True

    def log_message(self, *_):
        pass
