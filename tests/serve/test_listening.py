"""A port that is taken, a port that is not for all, a host that is none."""

from __future__ import annotations

import os
import socket

import pytest

from cutaway.base.errors import BadInput, CutawayError
from cutaway.serve.listening import address, listen


def test_a_taken_port_is_told_at_once():
    with listen("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        with pytest.raises(BadInput, match=f"--port: port {port} of 127.0.0.1 is taken"):
            listen("127.0.0.1", port)
        with socket.create_connection(("127.0.0.1", port)):  # who comes early waits
            assert address(bound) == f"http://127.0.0.1:{port}"
    with listen("127.0.0.1", port) as bound:
        assert bound.getsockname()[1] == port


def test_all_addresses_are_reached_here():
    with listen("0.0.0.0", 0) as bound:
        assert address(bound) == f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_six_is_written_in_brackets():
    try:
        with listen("::1", 0) as bound:
            assert address(bound) == f"http://[::1]:{bound.getsockname()[1]}"
    except CutawayError:
        pytest.skip("this machine has no IPv6")


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a" * 300, "\ud800"])
def test_a_host_that_is_none_of_ours_is_told(host):
    with pytest.raises(BadInput, match="--host"):
        listen(host, 0)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may listen anywhere")
def test_a_port_for_the_system_alone_is_told():
    with pytest.raises(CutawayError, match="--port"):
        listen("127.0.0.1", 1)
