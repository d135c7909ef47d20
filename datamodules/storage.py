"""File systems behind URLs, by fsspec, and patience with their connections."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from phd.errors import UserError

ATTEMPTS = 5
FIRST_PAUSE = 0.5  # seconds, doubled after each attempt
CONNECT_SECONDS, SILENT_SECONDS = 20, 60
# Answers of an overloaded server or gateway; the same request succeeds later.
TEMPORARY = {429, 502, 503, 504}
# What fsspec needs for a protocol beyond what is installed with phd.
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
# Errors of their own that the libraries below fsspec let through, where they are loaded.
LIBRARY_ERRORS = {
    "aiohttp": "ClientError",
    "botocore.exceptions": "BotoCoreError",
    "gcsfs.retry": "HttpError",
    "google.auth.exceptions": "GoogleAuthError",
}


def file_system(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """A file system of our own for a URL, and the path of the URL in it.

    Raises:
        UserError: The protocol is not known or its package is not installed.
    """
    protocol, where = url.partition("://")[0], url.partition("?")[0]
    options: dict[str, Any] = {"skip_instance_cache": True}
    try:
        if protocol in ("http", "https"):
            import aiohttp

            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS)
            # Byte ranges are of the file itself, not of a compressed form of it.
            options["client_kwargs"] = {"timeout": timeout, "headers": {"Accept-Encoding": "identity"}}
        return url_to_fs(url, **options)
    except ImportError as error:
        package = PACKAGES.get(protocol)
        what = f"`pip install {package}`" if package else str(error)
        raise UserError(f"{where}: reading {protocol}:// needs another package: {what}") from error
    except ValueError as error:
        raise UserError(f"{where}: {error}; give a path, or a URL of https, s3 or gs") from error


def errors() -> tuple[type[BaseException], ...]:
    """What reading from remote storage may raise."""
    loaded = [(sys.modules[name], kind) for name, kind in LIBRARY_ERRORS.items() if name in sys.modules]
    return (OSError, *(getattr(module, kind) for module, kind in loaded))


def passes(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later: the connection failed, or the server is overloaded."""
    kinds: tuple[type[BaseException], ...] = (ConnectionError, TimeoutError)
    if aiohttp := sys.modules.get("aiohttp"):
        kinds = (*kinds, aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)
    return isinstance(error, kinds) or getattr(error, "status", None) in TEMPORARY


def wait_or_raise(raised: BaseException, attempt: int, where: str) -> None:
    """After a failed request: sleep where another attempt makes sense.

    Raises:
        FileNotFoundError: The storage says so.
        UserError: It failed ATTEMPTS times, or in a way that waiting does not mend; `where` is named.
    """
    error = raised
    # fsspec reports a server that it cannot ask for a size as a file that is not there.
    if isinstance(raised, FileNotFoundError) and isinstance(raised.__cause__, errors()):
        error = raised.__cause__
    if isinstance(error, FileNotFoundError) or getattr(error, "status", None) == 404:
        raise FileNotFoundError(where) from error
    if not passes(error) or attempt == ATTEMPTS:
        tries = f" ({attempt} tries)" if attempt > 1 else ""
        raise UserError(f"{where}: {describe(error)}{tries}; check the address and the access") from error
    time.sleep(FIRST_PAUSE * 2 ** (attempt - 1))


def patiently(request: Callable[[], Any], where: str) -> Any:
    """The answer to a request, which is made again after a pause while the connection fails.

    Raises:
        FileNotFoundError, UserError: As `wait_or_raise`.
    """
    attempt = 1
    while True:
        try:
            return request()
        except errors() as error:
            wait_or_raise(error, attempt, where)
        attempt += 1


def describe(error: BaseException) -> str:
    """An error of a request in one line."""
    # The text of a failed status has the whole URL, whose query may be a secret.
    status = getattr(error, "status", None)
    text = f"the server answered {status} {getattr(error, 'message', '')}" if status else str(error)
    return " ".join(text.split()) or type(error).__name__
