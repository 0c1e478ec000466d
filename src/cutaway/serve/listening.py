"""A socket that listens, before any model is opened: a port that is taken is known at once, and who comes early waits.

Read next: serve/run.py
"""

from __future__ import annotations

import errno
import os
import socket

from cutaway.base.errors import BadInput, CutawayError

BACKLOG = 2048  # connections that wait to be taken


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises BadInput for a port that is taken and a host that is none of this machine's."""
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, OverflowError, UnicodeError):
        raise BadInput(f"{host!r} is no address of this machine", source="--host") from None
    family, kind, protocol, _, address = places[0]
    bound = socket.socket(family, kind, protocol)
    try:
        if os.name == "nt":  # there SO_REUSEADDR would take a port from whoever has it
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)  # type: ignore[attr-defined]
        else:  # a server that was killed may be started again at once
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise _refused(error, host, port) from error
    bound.set_inheritable(False)
    return bound


def _refused(error: OSError, host: str, port: int) -> CutawayError:
    if error.errno == errno.EADDRINUSE:
        return BadInput(f"port {port} of {host} is taken; choose another with --port, or 0 for any", source="--port")
    if error.errno in (errno.EACCES, errno.EPERM):
        return BadInput(f"this user may not listen at port {port}; ports from 1024 on are free to all", source="--port")
    if error.errno == errno.EADDRNOTAVAIL:
        return BadInput(f"{host!r} is no address of this machine", source="--host")
    return CutawayError(f"cannot listen at {host}, port {port}: {error.strerror or error}")


def address(bound: socket.socket) -> str:
    """Where a browser finds it."""
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(str(host), str(host))
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
