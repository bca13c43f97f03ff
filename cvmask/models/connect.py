"""One HTTP request: an answer, a final refusal, or a trouble that may pass."""

from __future__ import annotations

import email.utils
import http.client
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Union

import cvmask
from cvmask.errors import ModelError

TIMEOUT_S = 30.0
_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
_NOTHING_PAST_THAT = 416

Answer = Union[http.client.HTTPResponse, urllib.error.HTTPError]


class Passing(Exception):
    """What another attempt may mend, and how long the server asks to wait, if it does."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def request(url: str, headers: Mapping[str, str]) -> Answer:
    """Send one GET, through ``HTTP_PROXY`` or ``HTTPS_PROXY`` where they are set.

    Returns
    -------
    An answer to be closed, of status 200, 206, or 416 (nothing past the range that was asked for).

    Raises
    ------
    Passing
        If the server is busy, or the connection broke or timed out.
    ModelError
        If another attempt would end the same way.
    """
    agent = {"User-Agent": f"cvmask/{cvmask.__version__}", "Accept-Encoding": "identity"}
    # A fresh opener each time: it reads the proxy variables as they are now.
    opener = urllib.request.build_opener()
    try:
        answer: Answer = opener.open(
            urllib.request.Request(url, headers={**agent, **headers}), timeout=TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        if error.code == _NOTHING_PAST_THAT and "Range" in headers:
            return error
        with error:
            raise _refusal(url, error) from error
    except urllib.error.URLError as error:
        raise _unreachable(url, error.reason) from error
    except (http.client.InvalidURL, ValueError) as error:
        raise ModelError(f"{url!r} is not an address that can be fetched: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error
    if answer.status not in (200, 206):
        answer.close()
        raise ModelError(f"{url}: the server answered {answer.status}, which holds no file")
    return answer


def read_some(answer: Answer, at_most: int) -> bytes:
    """Read what has come, without waiting for more; nothing at the end.

    Raises
    ------
    Passing
        If the connection broke or timed out.
    """
    try:
        return answer.read1(at_most)
    except (OSError, http.client.HTTPException) as error:
        raise Passing(_plain(error)) from error


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    status = " ".join(f"{error.code} {error.reason}".split())
    if error.code in _PASSING_STATUS:
        return Passing(f"the server answered {status}", _retry_after_s(error.headers.get("Retry-After")))
    if error.code == 407:
        return ModelError(
            f"{url}: the proxy wants a login ({status}), as in HTTP_PROXY=http://user:password@host:port"
        )
    return ModelError(
        f"{url} cannot be had: the server answered {status}; check CVMASK_MIRROR if it is set, "
        "or set it to a server that has the file"
    )


def _unreachable(url: str, reason: object) -> Exception:
    # Neither mends itself in seconds, so the user hears of it at once.
    if isinstance(reason, socket.gaierror):
        return ModelError(
            f"{url} cannot be reached: its host, or the proxy's, is not found; check the network, "
            "set HTTP_PROXY and HTTPS_PROXY behind a proxy, or CVMASK_MIRROR to another server"
        )
    if isinstance(reason, ssl.SSLCertVerificationError):
        return ModelError(
            f"{url}: the server's certificate is not trusted ({reason.verify_message}); "
            "if a proxy or mirror of your own signed it, set SSL_CERT_FILE to its certificate"
        )
    refusal = re.match(r"Tunnel connection failed: (4\d\d.*)", str(reason))
    if refusal:
        return _tunnel_refusal(url, refusal[1])
    return Passing(f"{url} cannot be reached ({_plain(reason)})")


def _tunnel_refusal(url: str, status: str) -> ModelError:
    """What a proxy that opens no tunnel means; urllib gives no more than the status."""
    if status.startswith("407"):
        return ModelError(
            f"{url}: the proxy wants a login ({status}), as in HTTPS_PROXY=http://user:password@host:port"
        )
    return ModelError(
        f"{url}: the proxy refuses it ({status}); if the host can be reached without, name it in NO_PROXY"
    )


def _plain(reason: object) -> str:
    if isinstance(reason, socket.timeout):
        return f"nothing came for {TIMEOUT_S:g} s"
    if isinstance(reason, http.client.IncompleteRead):
        return "the connection broke off"
    text = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
    return " ".join(text.split()) or type(reason).__name__


def _retry_after_s(value: str | None) -> float | None:
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
