"""Whether anybody listens at an address: known within seconds, before any retry."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

from bisect_ai.errors import TargetFailure

_SECONDS = 3.0
_AGAIN_SECONDS = 0.5


def unreachable(url: str) -> str | None:
    """Why nobody answers at an address, within some seconds; None: somebody does, or it takes longer to say."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=_SECONDS):
            return None
    except TimeoutError:
        return None
    except (OSError, UnicodeError) as failure:
        why = "connection refused" if isinstance(failure, ConnectionRefusedError) else str(failure) or type(failure).__name__
        return f"{why} at {parts.scheme}://{parts.netloc}: nobody can be asked there; start the service, or mend the address"


class Doorbell:
    """Asks each address once, before the first request to it, whether anybody listens."""

    def __init__(self) -> None:
        self._open: set[str] = set()

    async def ring(self, url: str) -> None:
        """Returns when somebody does, or did once. Raises `TargetFailure`: nobody does, now and half a second later."""
        if url in self._open:
            return
        for pause in (_AGAIN_SECONDS, 0.0):
            why = await asyncio.to_thread(unreachable, url)
            if why is None:
                self._open.add(url)
                return
            await asyncio.sleep(pause)
        raise TargetFailure(why)
