"""The address plan of public addresses."""

import os
import signal
import socket
import subprocess
import sys
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path

import pytest

import emulation
from emulation.network.addresses import NoAddressLeft, PublicAddresses, lease_block, listened_on

from .fake_plumbing import ip


def plan(blocks: int = 252, taken: frozenset[IPv4Address] = frozenset()) -> PublicAddresses:
    numbers = count()
    return PublicAddresses(
        lease=lambda _: socket.socket(socket.AF_UNIX) if next(numbers) < blocks else None,
        foreign=lambda: taken,
        bindable=lambda *_: True,
    )


def test_addresses_are_the_lowest_free_ones_and_released_ones_come_last() -> None:
    """An address is not given to another task while a client may still mean the old one."""
    addresses = plan(blocks=1)
    first, second = addresses.allocate(), addresses.allocate()
    assert (str(first), str(second)) == ("127.0.4.1", "127.0.4.2")
    addresses.release(first)
    addresses.release(second)
    addresses.release(second)
    assert [str(addresses.allocate()) for _ in range(252)][::251] == ["127.0.4.3", "127.0.4.254"]
    assert (addresses.allocate(), addresses.allocate()) == (first, second)
    with pytest.raises(NoAddressLeft, match="Stop tasks"):
        addresses.allocate()
    addresses.close()


def test_no_reserved_address_is_ever_given() -> None:
    """127.0.0.x, 127.0.1.1 and 127.0.0.53 belong to the host; all 64,008 others are unique."""
    addresses = plan()
    given = {addresses.allocate() for _ in range(252 * 254)}
    assert len(given) == 252 * 254
    assert min(given) == ip("127.0.4.1") and max(given) == ip("127.0.255.254")
    addresses.close()


def test_addresses_that_other_programs_listen_on_are_passed_over() -> None:
    """Somebody's own server on 127.0.4.2 is left alone."""
    with socket.create_server(("127.0.254.253", 0)):
        assert ip("127.0.254.253") in listened_on()
    addresses = plan(taken=frozenset({ip("127.0.4.1"), ip("127.0.4.2")}))
    assert addresses.allocate() == ip("127.0.4.3")
    addresses.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="abstract sockets are Linux's")
def test_emulators_on_one_machine_share_the_addresses_and_a_killed_one_leaves_its_block_free() -> None:
    """A block is leased by one process at a time, also when that one ends by SIGKILL."""
    block = 251
    program = (
        "from emulation.network.addresses import lease_block; "
        f"lease = lease_block({block}); print(lease is not None, flush=True); input()"
    )
    repository = Path(emulation.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(repository)},
    ) as other:  # fmt: skip
        assert other.stdout is not None and other.stdout.readline() == "True\n"
        assert lease_block(block) is None
        other.send_signal(signal.SIGKILL)
    lease = lease_block(block)
    assert lease is not None
    lease.close()


def test_ports_that_the_user_may_not_use_move_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """Port 80 becomes 8080 for an ordinary user; 7777 stays."""
    addresses = PublicAddresses(bindable=lambda _, port: port == 0 or port >= 1024)
    assert [addresses.published_port(port) for port in (80, 80, 1023, 1024, 7777)] == [8080, 8080, 9023, 1024, 7777]
    assert caplog.text.count("may not listen on port 80:") == 1


def test_where_only_127_0_0_1_exists_that_is_known() -> None:
    """On macOS public addresses are labels; ports are allotted."""
    assert not PublicAddresses(bindable=lambda address, _: address == ip("127.0.0.1")).own_addresses
