"""A network of its own for a program: namespaces joined by a bridge, of which each can be cut off. Linux, as root.

Nothing of it is seen from outside, and it goes with its last process. The addresses are of the range that
is set aside for documentation.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

_INSIDE = "CVMASK_OWN_NETWORK"
_HOST = "198.51.100.{}"


def enter() -> None:
    """Begin this program anew in a network namespace of its own, unless it is there already."""
    if os.environ.get(_INSIDE) != "1":
        os.environ[_INSIDE] = "1"
        try:
            subprocess.run(["unshare", "--net", "--", "ip", "link"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"no network of its own can be made here, for which it takes Linux, iproute2 and root: {error}")
        os.execvp("unshare", ["unshare", "--net", "--", sys.executable, *sys.argv])
    _ip("link set lo up")
    _ip("link add hub type bridge")
    _ip(f"addr add {address(0)}/24 dev hub")
    _ip("link set hub up")


def address(number: int) -> str:
    """Address of a machine of this network; 0 is where this program is."""
    return _HOST.format(number + 1)


def start(number: int, command: Sequence[str], log: int) -> subprocess.Popen[bytes]:
    """Start a command on a machine of its own, from 1 up."""
    wait = ["sh", "-c", 'read go; exec "$@"', "sh"]
    process = subprocess.Popen(
        ["unshare", "--net", "--", *wait, *command], stdin=subprocess.PIPE, stdout=log, stderr=log
    )
    assert process.stdin is not None
    while os.readlink(f"/proc/{process.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        assert process.poll() is None, "unshare ended"
    _ip(f"link add cable{number} type veth peer name eth0 netns {process.pid}")
    _ip(f"link set cable{number} master hub up")
    for words in ("link set lo up", f"addr add {address(number)}/24 dev eth0", "link set eth0 up"):
        subprocess.run(["nsenter", "-t", str(process.pid), "-n", "ip", *words.split()], check=True)
    process.stdin.write(b"go\n")
    process.stdin.close()
    return process


def cut_off(number: int) -> None:
    """Pull the cable of a machine: whatever runs there runs on, and nobody hears of it."""
    _ip(f"link set cable{number} down")


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)
