"""Who builds which shard: a claim file that only one process can create, kept fresh while it works.

Claims save work; they do not guard the cache. Two builders of one shard write under names of their own and rename the
same features into place, so a claim that is wrongly taken over does no harm.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STALE_AFTER = 120.0  # seconds; a network file system may show a touch a minute late


class Claims:
    """The claims of one builder in a folder.

    Args:
        root: Folder of the cache.
        stale_after: Seconds without a sign of life after which a claim counts as left by a dead builder.

    Attributes:
        token: Names this builder in claims and in temporary files.
    """

    def __init__(self, root: Path, stale_after: float = STALE_AFTER) -> None:
        self.root, self.stale_after = root, stale_after
        self.host, self.pid = socket.gethostname(), os.getpid()
        self.token = f"{self.host}-{self.pid}-{uuid.uuid4().hex[:8]}"
        # Of a claim, when its time stamp last changed, by our own clock: clocks of two machines need not agree.
        self._seen: dict[Path, tuple[int, float]] = {}

    @contextlib.contextmanager
    def claimed(self, name: str) -> Iterator[bool]:
        """Whether the shard is ours for the length of the block."""
        path = self.root / f"features-{name}.claim"
        descriptor = self._create(path)
        if descriptor is None and self._is_dead(path):
            self._clear(path)
            descriptor = self._create(path)
        if descriptor is None:
            yield False
            return
        stop = threading.Event()
        beat = threading.Thread(target=self._beat, args=(descriptor, stop), daemon=True)
        beat.start()
        try:
            os.write(descriptor, json.dumps({"host": self.host, "pid": self.pid, "token": self.token}).encode())
            yield True
        finally:
            stop.set()
            beat.join()
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(descriptor).st_ino:
                    path.unlink()
            os.close(descriptor)

    def sweep(self) -> None:
        """Remove what builders left that were killed; to be called when every shard is there, so none is needed."""
        for path in self.root.glob("features-*.claim"):
            self._clear(path)
        for path in self.root.glob("*.partial"):
            token = re.search(r"-(\d+)-[0-9a-f]{8}\.partial$", path.name)
            if token and f".{self.host}-" in path.name and not is_alive(int(token[1])):
                path.unlink(missing_ok=True)

    def _create(self, path: Path) -> int | None:
        try:
            return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return None

    def _beat(self, descriptor: int, stop: threading.Event) -> None:
        """Touch our own file, also if another has taken its name."""
        while not stop.wait(self.stale_after / 10):
            os.utime(descriptor)

    def _is_dead(self, path: Path) -> bool:
        try:
            stamp = path.stat().st_mtime_ns
        except FileNotFoundError:
            return True
        owner = owner_of(path)
        if owner.get("host") == self.host and not is_alive(int(owner.get("pid", self.pid))):
            return True
        now = time.monotonic()
        before, since = self._seen.get(path, (stamp, now))
        self._seen[path] = (stamp, since if before == stamp else now)
        return before == stamp and now - since > self.stale_after

    def _clear(self, path: Path) -> None:
        """Remove a dead builder's claim and what it was writing."""
        token = owner_of(path).get("token")
        for left in self.root.glob(f"*.{token}.partial") if token else ():
            left.unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def owner_of(path: Path) -> dict[str, Any]:
    """Host, pid and token in a claim; nothing if it was claimed a moment ago, or released."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}


def is_alive(pid: int) -> bool:
    """Whether this machine runs a process with this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
