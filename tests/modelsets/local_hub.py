"""A server on this machine that speaks as the hub does, and as plain places of files."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAR = "/far/"  # where the hub sends those who ask for a large file
LARGE = 10_000


@dataclass
class Hub:
    """``files`` by path, and how it misbehaves."""

    files: dict[str, bytes] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)  # name: bytes, of each answer
    broken: dict[str, int] = field(default_factory=dict)  # name: status
    takes_ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # name, range
    url: str = ""

    def ranges(self, name: str) -> list[str | None]:
        """What was asked for of a file, in order."""
        return [wanted for asked, wanted in self.asked if asked == name]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path = "/" + self.path.removeprefix("http://").partition("/")[2]  # as a proxy is asked
        path = path if self.path.startswith("http:") else self.path
        far, name = path.startswith(FAR), path.rpartition("/")[2]
        content = self.hub.files.get(path.removeprefix(FAR[:-1]) if far else path)
        status = self.hub.broken.get(name, 404 if content is None else 200)
        if content is None or status != 200:
            return self.answer(status, b"")
        if "/resolve/" in path and len(content) > LARGE and not far:
            return self.answer(302, b"", Location=f"{self.hub.url}{FAR[:-1]}{path}")
        wanted = self.headers.get("Range")
        self.hub.asked.append((name, wanted))
        start = 0
        if wanted and self.hub.takes_ranges:
            start, status = int(wanted.removeprefix("bytes=").removesuffix("-")), 206
        digest = hashlib.sha256(content).hexdigest()
        hub_says = {"ETag": f'"{digest}"', "X-Repo-Commit": "0" * 40}
        if status == 206:
            hub_says["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self.answer(status, content[start:], self.hub.cuts.get(name), **hub_says)

    def answer(
        self, status: int, content: bytes, cuts: list[int] | None = None, **headers: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content[: cuts.pop(0)] if cuts else content)


@contextmanager
def serving() -> Iterator[Hub]:
    """A `Hub` that answers."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
