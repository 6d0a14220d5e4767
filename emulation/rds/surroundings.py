"""What RDS needs of the other parts, as small protocols that `cloud.py` wires."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from emulation.core.bus import Bus
from emulation.rds.certificates import Authority
from emulation.rds.record import Facts, InstanceRecord, KeptRule, Place, Secret, SnapshotRecord, SubnetGroup
from emulation.rds.servers import DatabaseServers
from emulation.rds.store import Store


class Interfaces(Protocol):
    """Addresses of instances (EC2, network)."""

    async def attach(self, facts: Facts, security_groups: Sequence[str], before: Place | None) -> Place:
        """An interface in the instance's VPC, and an address of the host. `before` is where it was, if it was.

        Where its VPC is gone (the emulator was restarted), it is the default VPC of the account.
        """
        ...

    async def publish(
        self,
        facts: Facts,
        place: Place,
        security_groups: Sequence[str],
        port: int,
        upstream: tuple[str, int],
        admit: Callable[[bool], None],
    ) -> None:
        """Opens the instance to whom its security groups permit; `admit` is told whether that is the host, too, at
        once and whenever it changes. Replaces what was published before."""
        ...

    async def withdraw(self, place: Place) -> None: ...

    async def release(self, facts: Facts, place: Place) -> None: ...

    def rules(self, security_groups: Sequence[str]) -> tuple[KeptRule, ...]:
        """The ingress rules as `Place` keeps them."""
        ...


class Networks(Protocol):
    """What RDS asks of EC2 before it answers, on the API thread."""

    def default_subnet_group(self, account: str, region: str) -> SubnetGroup | None:
        """The subnets of the default VPC, None where there is none."""
        ...

    def security_groups(
        self, account: str, region: str, group: SubnetGroup, group_ids: Sequence[str]
    ) -> tuple[str, ...]:
        """The groups, or the VPC's default one where none is given. Raises RdsError."""
        ...


class MasterSecrets(Protocol):
    """Secrets Manager, on the API thread."""

    def create(self, facts: Facts, password: str, kms_key_id: str) -> Secret: ...

    def put(self, facts: Facts, secret: Secret, password: str) -> None: ...

    def delete(self, facts: Facts, secret: Secret) -> None: ...


class Shelf(Protocol):
    """Where snapshots and instances are kept, on the API thread."""

    def snapshot(self, record: InstanceRecord, identifier: str) -> SnapshotRecord | None:
        """The record of a snapshot that was asked for; a new automated one for ''. None where it was deleted."""
        ...

    def snapshot_taken(self, record: InstanceRecord, snapshot: SnapshotRecord, done: bool) -> None: ...

    def forget(self, record: InstanceRecord) -> None:
        """The instance is gone."""
        ...


@dataclass(frozen=True)
class Surroundings:
    """`servers` None means that this runtime has none."""

    servers: DatabaseServers | None
    interfaces: Interfaces
    networks: Networks
    secrets: MasterSecrets
    store: Store
    authority: Authority
    bus: Bus
