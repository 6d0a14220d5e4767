"""Values of the network: what lives on the host and is reached from tasks, and connections that were denied."""

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address

from emulation.network.security import Party


@dataclass(frozen=True, slots=True)
class Destination:
    """Something that is served on the host and seen by tasks at ip:port.

    Examples: the AWS endpoint (169.254.170.2:4566), task metadata (169.254.170.2:80), a database (10.0.2.9:5432, served
    at 127.0.3.7:5432). `vpc_id` None means every VPC. `names` resolve to `ip` in the tasks of that VPC. With
    `security_groups` it is subject to their ingress rules; without, only to the egress rules of who connects.
    Link-local addresses are always permitted. `private_ip` is what rules know it by where `ip` is an address of the
    host (127.0.0.0/8), which inside tasks is a mere label. `upstream` may be a Unix socket: its absolute path, and 0.
    With `proxied` it is told who connects, in a PROXY protocol header (version 1) before all else.
    """

    ip: IPv4Address
    port: int
    upstream: tuple[str, int]
    vpc_id: str | None = None
    names: tuple[str, ...] = ()
    eni_id: str = ""
    security_groups: tuple[str, ...] = ()
    private_ip: IPv4Address | None = None
    proxied: bool = False

    def party(self, vpc_id: str) -> Party:
        """The destination as an interface of that VPC sees it."""
        name = self.eni_id or (self.names or ("",))[0]
        return Party(self.private_ip or self.ip, vpc_id, self.security_groups or None, name)


@dataclass(frozen=True, slots=True)
class Denial:
    """A connection that got no answer, and why. `when` is UTC; the last of several tries that were counted as one."""

    when: datetime
    source: str
    destination: IPv4Address
    port: int
    reason: str

    def __str__(self) -> str:
        return f"{self.source} → {self.destination}:{self.port} got no answer: {self.reason}"
