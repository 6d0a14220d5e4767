"""The address plan: public addresses are loopback addresses of the host, each with its standard ports.

Linux answers on all of 127.0.0.0/8. Sunabox takes 127.0.4.0 to 127.0.255.255 for public addresses, in blocks of 256,
each leased by one emulator of the machine. Where only 127.0.0.1 exists (macOS), the addresses are mere labels and the
ports are allotted on 127.0.0.1.
"""

import errno
import logging
import socket
import sys
from collections import deque
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from emulation.errors import SunaboxError

log = logging.getLogger(__name__)

FIRST_BLOCK, LAST_BLOCK = 4, 255
LOOPBACK = IPv4Address("127.0.0.1")
MOVED = 8000

Lease = Callable[[int], socket.socket | None]


class NoAddressLeft(SunaboxError):
    """All public addresses of the machine are in use."""


def lease_block(block: int) -> socket.socket | None:
    """Leases 127.0.`block`.0/24 for as long as the returned socket lives; None when another emulator has it.

    An abstract Unix socket is exclusive in exactly the scope of the loopback addresses (the network namespace), whoever
    its user is, and the kernel drops it with its process, also after SIGKILL.
    """
    lease = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if not sys.platform.startswith("linux"):
        return lease
    try:
        lease.bind(f"\0sunabox/addresses/127.0.{block}.0/24")
    except OSError:
        lease.close()
        return None
    return lease


def listened_on(table: Path = Path("/proc/net/tcp")) -> frozenset[IPv4Address]:
    """The addresses of 127.0.0.0/8 that programs of this machine listen on; empty where the kernel does not tell."""
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return frozenset()
    rows = (line.split() for line in lines)
    listening = (row[1].partition(":")[0] for row in rows if len(row) > 3 and row[3] == "0A")
    order = sys.byteorder
    addresses = (IPv4Address(int.from_bytes(bytes.fromhex(text), "big").to_bytes(4, order)) for text in listening)
    return frozenset(address for address in addresses if address.is_loopback)


def may_bind(address: IPv4Address, port: int = 0) -> bool:
    """Whether the address exists and this process may listen there (a port that is taken counts as allowed)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((str(address), port))
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EPERM, errno.EADDRNOTAVAIL)
    return True


class PublicAddresses:
    """Allocates public addresses: the lowest that was never used, and released ones again only when those run out."""

    def __init__(
        self,
        lease: Lease = lease_block,
        foreign: Callable[[], frozenset[IPv4Address]] = listened_on,
        bindable: Callable[[IPv4Address, int], bool] = may_bind,
    ) -> None:
        self._lease, self._foreign, self._bindable = lease, foreign, bindable
        self._leases: list[socket.socket] = []
        self._blocks = iter(range(FIRST_BLOCK, LAST_BLOCK + 1))
        self._leased: set[int] = set()
        self._fresh: deque[IPv4Address] = deque()
        self._used: set[IPv4Address] = set()
        self._released: deque[IPv4Address] = deque()
        self._moved: dict[int, int] = {}
        self.own_addresses = bindable(IPv4Address("127.0.4.1"), 0)
        """Whether each public address has ports of its own (Linux). If not, ports are allotted on 127.0.0.1."""

    def allocate(self, wish: IPv4Address | None = None) -> IPv4Address:
        """`wish` if it is free: an address that is to stay what it was, over a restart. Raises NoAddressLeft."""
        address = self._granted(wish) if wish is not None else None
        if address is None and self._fresh:
            address = self._fresh.popleft()
        if address is None and self._released:
            address = self._released.popleft()
        if address is None:
            self._lease_next_block()
            address = self._fresh.popleft()
        self._used.add(address)
        return address

    def _granted(self, wish: IPv4Address) -> IPv4Address | None:
        block = wish.packed[2]
        if wish not in IPv4Network(f"127.0.{block}.0/24") or not FIRST_BLOCK <= block <= LAST_BLOCK:
            return None
        if block not in self._leased:
            self._lease_block(block)
        for free in (self._fresh, self._released):
            if wish in free:
                free.remove(wish)
                return wish
        return None

    def release(self, address: IPv4Address) -> None:
        """Harmless for an address that is not allocated."""
        if address in self._used:
            self._used.remove(address)
            self._released.append(address)

    def published_port(self, port: int) -> int:
        """The port of the host on which a public address serves `port`: itself, or 8000 + port below 1024 where this
        user may not listen there."""
        if port >= 1024:
            return port
        if port not in self._moved:
            allowed = self._bindable(IPv4Address("127.0.4.1") if self.own_addresses else LOOPBACK, port)
            self._moved[port] = port if allowed else MOVED + port
            if not allowed:
                log.warning(
                    "This user may not listen on port %d: public addresses serve it on port %d. "
                    "To have it on its own port, run Sunabox as root or set net.ipv4.ip_unprivileged_port_start=%d.",
                    port, MOVED + port, port,
                )  # fmt: skip
        return self._moved[port]

    def close(self) -> None:
        for lease in self._leases:
            lease.close()
        self._leases.clear()

    def _lease_next_block(self) -> None:
        for block in self._blocks:
            if block not in self._leased and self._lease_block(block):
                return
        raise NoAddressLeft(
            f"All public addresses from 127.0.{FIRST_BLOCK}.1 on are in use. "
            "Stop tasks or load balancers, or other emulators on this machine (sunabox down)."
        )

    def _lease_block(self, block: int) -> bool:
        """Whether there are fresh addresses of this block now."""
        lease = self._lease(block)
        if lease is None:
            return False
        self._leases.append(lease)
        self._leased.add(block)
        taken = self._foreign()
        hosts = IPv4Network(f"127.0.{block}.0/24").hosts()
        free = [address for address in hosts if address not in taken]
        self._fresh.extend(free)
        return bool(free)
