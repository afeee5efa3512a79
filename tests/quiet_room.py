"""A program that runs a command where no packet can leave, and says which packets wanted to.

    unshare --map-root-user --net python quiet_room.py REPORT.json COMMAND …

It has to be alone in its network namespace. Packets to any address are led back into the namespace's own loopback device,
where nobody answers and every one is seen: questions for names too, by whatever resolver. The report lists "address:port"
of each packet that is for another machine or asks for a name. The status is that of the command.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

SIOCADDRT, SIOCSIFFLAGS = 0x890B, 0x8914  # of <linux/sockios.h>
UP_AND_RUNNING, ROUTE_IS_UP = 0x41, 0x1
IPV4, DNS = 0x0800, 53


def lead_back() -> None:
    """Bring the loopback device up, and make it the way to every IPv4 address."""
    device = ctypes.create_string_buffer(b"lo")
    nowhere = struct.pack("H14x", socket.AF_INET)  # 0.0.0.0: as target and as mask, it stands for every address
    route = struct.pack(
        "L16s16s16sHhLPhPLLH", 0, *[nowhere] * 3, ROUTE_IS_UP, 0, 0, 0, 0, ctypes.addressof(device), 0, 0, 0
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", UP_AND_RUNNING))
        fcntl.ioctl(control, SIOCADDRT, route)


def target(packet: bytes) -> str | None:
    """Where an IPv4 packet wants to go, if that is another machine or a server of names."""
    address = packet[16:20]
    after = 4 * (packet[0] & 15)  # the header of IP
    has_port = packet[9] in (socket.IPPROTO_TCP, socket.IPPROTO_UDP)
    port = int.from_bytes(packet[after + 2 : after + 4], "big") if has_port else 0
    return f"{socket.inet_ntoa(address)}:{port}" if address[0] != 127 or port == DNS else None


def main() -> int:
    report, *command = sys.argv[1:]
    seen: set[str] = set()
    lead_back()
    ear = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(IPV4))

    def listen() -> None:
        while packet := ear.recv(1 << 16):
            if found := target(packet):
                seen.add(found)

    threading.Thread(target=listen, daemon=True).start()
    status = subprocess.run(command, check=False).returncode
    Path(report).write_text(json.dumps(sorted(seen)))
    return status


if __name__ == "__main__":
    sys.exit(main())
