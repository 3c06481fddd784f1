import os
import socket

import pytest

from app.embedded import StartError
from app.embedded.address import require_free


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_free_port_passes() -> None:
    require_free("127.0.0.1", free_port())


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_taken_port_is_named_with_the_process_that_has_it_and_the_option(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        expected = rf"Port {port} is taken by process {os.getpid()} \(.+\): stop that program, or .*--port"
        with pytest.raises(StartError, match=expected):
            require_free(host, port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(StartError, match=r"192\.0\.2\.1 is not an address of this machine.*--host"):
        require_free("192.0.2.1", free_port())


def test_a_host_that_cannot_be_resolved_is_refused() -> None:
    with pytest.raises(StartError, match=r"'no such host' cannot be resolved .*--host"):
        require_free("no such host", free_port())
