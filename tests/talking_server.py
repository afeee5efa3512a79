"""A server that says what a test wants: as the head of a cluster would, or as something else."""

from __future__ import annotations

import contextlib
import socket
import threading

SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # the first frame of a server of HTTP/2


@contextlib.contextmanager
def server_that_says(answers):
    """A server that gives each connection the next answer, and those after them none; the address of it."""
    taken = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                taken.append(server.accept()[0])
                if len(taken) <= len(answers):
                    taken[-1].sendall(answers[len(taken) - 1])

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for line in taken:
                line.close()
