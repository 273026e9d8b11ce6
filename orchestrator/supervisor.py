"""What systemd is told of a service of `Type=notify`: that it is ready, that it lives, what it does, that it goes.

One datagram to the socket that $NOTIFY_SOCKET names; without the variable nothing. It is taken out of the environment
at once: what we start is not to speak for us.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_LONG = 7 * 86400 * 10**6  # microseconds
_LONGEST = 200  # of what it is doing, for `systemctl status`


class Supervisor:
    """Who may be waiting for news of us."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address, self._patience, _ = [environ.pop(name, "") for name in _VARIABLES]
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._is_ready = self._is_resting = False

    @property
    def is_there(self) -> bool:
        """Is there one? It ends with us whatever we have started."""
        return bool(self._address)

    def alive(self, doing: str) -> None:
        """From the loop as it goes round: one that hangs says nothing, and is ended. It is ready once it goes round."""
        told = [] if self._is_ready else ["READY=1"]
        told += [f"WATCHDOG_USEC={self._patience}"] if self._is_resting else []
        self._say("\n".join([*told, "WATCHDOG=1"]), doing)
        self._is_ready, self._is_resting = True, False

    def rests(self) -> None:
        """No loop goes round just now, and that is right: until the next one nobody waits for a sign of life."""
        if self._is_ready and self._patience and not self._is_resting:
            self._say(f"WATCHDOG_USEC={_LONG}", "between two runs")
            self._is_resting = True

    def leaving(self) -> None:
        """Also where there was nothing to do: a service that ends before it is ready has failed."""
        self._say("STOPPING=1" if self._is_ready else "READY=1\nSTOPPING=1", "ending")
        self._is_ready = True

    def _say(self, what: str, doing: str) -> None:
        if not self._address:
            return
        import socket  # only who is supervised needs it

        text = f"{what}\nSTATUS={' '.join(doing.split())[:_LONGEST]}"
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaker:
                speaker.setblocking(False)  # whoever does not read holds nobody up
                speaker.sendto(text.encode("utf-8", "replace"), self._address)
        except OSError:
            pass  # nobody listens any more


SUPERVISOR = Supervisor(os.environ)
