import socket

from mta.machine.ports import first_free


def test_a_port_that_is_taken_is_passed_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert first_free(port) != port
        assert first_free(port, 1) == port
    assert first_free(port) == port
