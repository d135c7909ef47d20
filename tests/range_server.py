"""A web server on this machine for a folder, which answers byte ranges, or is as bad as some servers are."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Behaviour:
    """How the server is to behave, and what it was asked.

    Attributes:
        ranges: Whether it answers byte ranges, or sends the whole file.
        fail: How many of the next GET requests for a tar to fail.
        status: With which status; where 0, the connection breaks in the middle of the answer.
        asked: File name and Range header of every GET request.
    """

    ranges: bool = True
    fail: int = 0
    status: int = 503
    asked: list[tuple[str, str | None]] = field(default_factory=list)


class Handler(SimpleHTTPRequestHandler):
    def __init__(self, *arguments, behaviour: Behaviour, **options):
        self.behaviour = behaviour
        super().__init__(*arguments, **options)

    def log_message(self, format, *arguments):
        pass

    def do_GET(self):
        path, wanted = Path(self.translate_path(self.path)), self.headers.get("Range")
        self.behaviour.asked.append((path.name, wanted))
        failing = path.suffix == ".tar" and self.behaviour.fail > 0
        self.behaviour.fail -= failing
        if failing and self.behaviour.status:
            self.send_error(self.behaviour.status)
        elif path.is_file() and (failing or (wanted and self.behaviour.ranges)):
            data = path.read_bytes()
            first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", wanted).groups()) if wanted else (0, len(data))
            self.send_response(206 if wanted else 200)
            body = data[first : last + 1]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if failing else body)
            self.close_connection = True
        else:
            super().do_GET()


@contextlib.contextmanager
def serve(root: Path) -> Iterator[tuple[str, Behaviour]]:
    """The URL of a folder, and how its server behaves."""
    behaviour = Behaviour()
    handler = partial(Handler, directory=str(root), behaviour=behaviour)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", behaviour
        server.shutdown()
