"""A webhook: one POST, and what its answer means: yes, not now, or never."""

from __future__ import annotations

import base64
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from threading import Thread
from typing import Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

from orchestrator import clock
from orchestrator.core.names import readable
from orchestrator.core.target import fault_of_address, host_only

TIMEOUT = 10.0  # seconds that a connection, or a part of an answer, may take
WHOLE = 30.0  # and all of it
_REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}
_AGAIN = (408, 425, 429)  # and whatever is the server's fault
_MOST_WAIT = 3600.0


class NotNow(Exception):
    """It may be heard later; `after`: the target asks for so many seconds of rest."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Never(Exception):
    """The target does not want this, and never will."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


def post(url: str, data: bytes, headers: Mapping[str, str]) -> str:
    """What was answered, in a word or two; NotNow or Never where it was not taken. No address is in any of these."""
    return within(WHOLE, lambda: _post(url, data, headers))


def within(seconds: float, call: Callable[[], str]) -> str:
    """Whoever answers a byte at a time, for ever, is left alone with it."""
    said: list[str] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            said.append(call())
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not said:
        raise NotNow(f"no whole answer within {seconds:.0f}s")
    return said[0]


def _post(url: str, data: bytes, headers: Mapping[str, str]) -> str:
    for _ in range(_REDIRECTS + 1):
        request = _request(url, data, headers)
        try:
            with _opener().open(request, timeout=TIMEOUT) as answer:
                return f"HTTP {answer.status}"
        except urllib.error.HTTPError as error:
            with error:
                onwards = _redirected(url, error)
                if not onwards:
                    raise _judged(url, error) from None
            url = onwards
        except urllib.error.URLError as error:
            raise NotNow(f"{host_only(url)}: {_scrubbed(url, _reason(error.reason))}") from None
        except (OSError, http.client.HTTPException) as error:
            raise NotNow(f"{host_only(url)}: {_scrubbed(url, _reason(error))}") from None
        except ValueError:
            raise Never(f"{host_only(url)}: this is no address that can be called") from None
    raise Never(f"{host_only(url)}: it redirects again and again")


def _opener() -> urllib.request.OpenerDirector:
    """Certificates are checked, and proxies of the environment used, as is the default; nothing is followed."""
    return urllib.request.build_opener(_NoRedirect)


def _request(url: str, data: bytes, headers: Mapping[str, str]) -> urllib.request.Request:
    """A user and a password in the address go where HTTP wants them."""
    if fault := fault_of_address(url):  # of a secret nobody could know before
        raise Never(f"{host_only(url)}: this is no address that can be called: {fault}")
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        bare = urlunsplit((parts.scheme, f"{host}:{parts.port}" if parts.port else host, *parts[2:4], ""))
        request = urllib.request.Request(bare, data=data, headers=dict(headers), method="POST")
    except ValueError:
        raise Never(f"{host_only(url)}: this is no address that can be called") from None
    if parts.username is not None:
        word = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(word.encode()).decode())
    return request


def _redirected(url: str, error: urllib.error.HTTPError) -> str:
    """Where to go on; only on the same host, and never from https to http: what is sent is for whom it is sent to."""
    target = error.headers.get("Location")
    if error.code not in (301, 302, 307, 308) or not target:
        return ""
    try:
        here, there = urlsplit(url), urlsplit(urljoin(url, target))
        ports = here.port or _PORTS[here.scheme], there.port or _PORTS.get(there.scheme)
    except ValueError:
        raise Never(f"{host_only(url)}: it redirects to what is no address") from None
    if there.hostname != here.hostname or there.scheme not in ("https", here.scheme):
        raise Never(f"{host_only(url)}: it redirects to {there.scheme}://{there.hostname}: give that address")
    if ports[0] != ports[1] and (here.scheme == there.scheme or ports != (80, 443)):
        raise Never(f"{host_only(url)}: it redirects to another port: give that address")
    return urlunsplit(SplitResult(there.scheme, _with_user(here, there), *there[2:]))


def _with_user(here: SplitResult, there: SplitResult) -> str:
    user = here.netloc.rpartition("@")[0]
    return f"{user}@{there.netloc}" if user else there.netloc


def _judged(url: str, error: urllib.error.HTTPError) -> Exception:
    try:
        body = error.read(300).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        body = ""
    told = f"{host_only(url)}: HTTP {error.code} {_scrubbed(url, f'{error.reason} {body}'.strip())}".strip()
    if error.code in _AGAIN or error.code >= 500:
        return NotNow(told, rest(error.headers.get("Retry-After"), clock.now()))
    return Never(told)


def rest(header: str | None, now: float) -> float:
    """Seconds, or a date; what cannot be read asks for nothing."""
    if header is None:
        return 0.0
    try:
        if header.strip().isdecimal():
            return min(_MOST_WAIT, float(header))
        date = parsedate_to_datetime(header)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return min(_MOST_WAIT, max(0.0, date.timestamp() - now))
    except (ValueError, OverflowError):
        return 0.0


def _reason(error: object) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error) or type(error).__name__


def _scrubbed(url: str, text: str) -> str:
    """Whoever answers with what was sent, or fails over it, must not bring the address into a log."""
    parts = urlsplit(url)
    secrets = [url, parts.netloc.rpartition("@")[0], parts.path, parts.query, *re.split(r"[/&=?:@]", url)]
    for secret in sorted({one for one in secrets if len(one) >= 6 and one != parts.hostname}, key=len, reverse=True):
        text = text.replace(secret, "...").replace(unquote(secret), "...")
    return readable(text, 200)
