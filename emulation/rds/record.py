"""The DB instance and the DB snapshot as the API knows them: what was asked for, and the last that was seen.

`desired`, `facts`, `secret` and `tags` are written on the API thread only, `seen` and `place` by the instance's loop
only; each is a frozen value that is replaced as a whole, so that either side may read the other's at any time.

Source: Amazon RDS API reference, DBInstance, DBSnapshot.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address
from typing import Any

from emulation.rds.observation import Desired, InstanceStatus, Observed, Settings
from emulation.rds.plan import awaits_reboot

_NO_ENDPOINT = (InstanceStatus.CREATING, InstanceStatus.FAILED)


@dataclass(frozen=True, slots=True)
class SubnetGroup:
    """A DB subnet group as it was when the instance was made. `subnets` are (id, Availability Zone)."""

    name: str
    description: str
    vpc_id: str
    subnets: tuple[tuple[str, str], ...]


KeptRule = tuple[str, str, int, int, str]
"""An ingress rule of a security group: (group, protocol, from port, to port, range or group)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instance is: its interface in the VPC, and the address of the host at which all reach it.

    `rules` are the ingress rules of its security groups: EC2's own records are gone at a restart of the emulator.
    """

    address: IPv4Address
    private_ip: IPv4Address
    vpc_id: str
    eni_id: str
    rules: tuple[KeptRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Secret:
    """The master user's secret in Secrets Manager. `status` is creating, active or rotating."""

    arn: str
    kms_key_id: str
    status: str = "active"


@dataclass(frozen=True)
class Facts:
    """What is known of an instance besides its settings. `shown` are values of the request that are only shown."""

    account: str
    region: str
    partition: str
    identifier: str
    resource_id: str
    engine: str
    asked_version: str
    version: str
    master_username: str
    database: str
    created_at: datetime
    availability_zone: str
    subnet_group: SubnetGroup
    backup_window: str
    maintenance_window: str
    deletion_protection: bool = False
    publicly_accessible: bool = False
    from_snapshot: str = ""
    shown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        return f"arn:{self.partition}:rds:{self.region}:{self.account}:db:{self.identifier}"

    @property
    def family(self) -> str:
        """The family of parameter groups: that of the version that was asked for."""
        return f"{self.engine}{self.asked_version.partition('.')[0]}"

    @property
    def host_name(self) -> str:
        """The name by which tasks reach the instance."""
        return f"{self.identifier}.{self.resource_id[-12:].lower()}.{self.region}.rds.amazonaws.com"


class Tagged:
    """What moto's tagging asks of its records."""

    tags: list[dict[str, str]]

    def get_tags(self) -> list[dict[str, str]]:
        return self.tags

    def add_tags(self, tags: list[dict[str, str]]) -> list[dict[str, str]]:
        new = {tag["Key"]: {"Key": tag["Key"], "Value": tag.get("Value", "")} for tag in tags}
        self.tags = [tag for tag in self.tags if tag["Key"] not in new] + list(new.values())
        return self.tags

    def remove_tags(self, keys: list[str]) -> None:
        self.tags = [tag for tag in self.tags if tag["Key"] not in keys]


class InstanceRecord(Tagged):
    """A DB instance in moto's place."""

    def __init__(self, facts: Facts, desired: Desired, seen: Observed, tags: list[dict[str, str]]) -> None:
        self.facts, self.desired, self.seen, self.tags = facts, desired, seen, tags
        self.place: Place | None = None
        self.secret: Secret | None = None

    @property
    def arn(self) -> str:
        return self.facts.arn

    @property
    def db_instance_identifier(self) -> str:
        return self.facts.identifier

    @property
    def status(self) -> InstanceStatus:
        return self.seen.status

    def describe(self) -> dict[str, Any]:
        """The instance in the API's JSON, with naive datetimes, as moto serialises them."""
        facts, seen = self.facts, self.seen
        now = seen.applied or self.desired.settings
        shown: dict[str, Any] = {
            "DBInstanceIdentifier": facts.identifier,
            "DBInstanceArn": facts.arn,
            "DbiResourceId": facts.resource_id,
            "DBInstanceStatus": str(self.status),
            "DBInstanceClass": now.instance_class,
            "Engine": facts.engine,
            "EngineVersion": facts.version,
            "MasterUsername": facts.master_username,
            "AllocatedStorage": now.allocated_storage,
            "StorageType": now.storage_type,
            "BackupRetentionPeriod": now.backup_retention_days,
            "InstanceCreateTime": _naive(facts.created_at),
            "PreferredBackupWindow": facts.backup_window,
            "PreferredMaintenanceWindow": facts.maintenance_window,
            "AvailabilityZone": facts.availability_zone,
            "PubliclyAccessible": facts.publicly_accessible,
            "DeletionProtection": facts.deletion_protection,
            "DbInstancePort": 0,
            "DBSecurityGroups": [],
            "VpcSecurityGroups": [
                {"VpcSecurityGroupId": group, "Status": "active"} for group in self.desired.settings.security_groups
            ],
            "DBParameterGroups": [
                {
                    "DBParameterGroupName": self.desired.settings.parameter_group,
                    "ParameterApplyStatus": self.parameter_apply_status,
                }
            ],
            "DBSubnetGroup": subnet_group(facts.subnet_group),
            "PendingModifiedValues": pending(self.desired),
            "OptionGroupMemberships": [
                {"OptionGroupName": f"default:{facts.family.replace('postgres', 'postgres-')}", "Status": "in-sync"}
            ],
            "LicenseModel": "postgresql-license",
            "ReadReplicaDBInstanceIdentifiers": [],
            "MonitoringInterval": 0,
            "IAMDatabaseAuthenticationEnabled": False,
            "PerformanceInsightsEnabled": False,
            "DomainMemberships": [],
            "AssociatedRoles": [],
            "TagList": self.tags,
            "CustomerOwnedIpEnabled": False,
            "BackupTarget": "region",
            "NetworkType": "IPV4",
            "DedicatedLogVolume": False,
            "StorageThroughput": 0,
            **facts.shown,
        }
        if facts.database:
            shown["DBName"] = facts.database
        if self.place is not None and self.status not in _NO_ENDPOINT:
            # Emulation: an address of the host, where a name would not resolve; inside tasks both lead there.
            shown["Endpoint"] = {
                "Address": str(self.place.address),
                "Port": now.port,
                "HostedZoneId": "Z2R2ITUGPM61AM",
            }
        if self.secret is not None:
            shown["MasterUserSecret"] = {
                "SecretArn": self.secret.arn,
                "SecretStatus": self.secret.status,
                "KmsKeyId": self.secret.kms_key_id,
            }
        return shown

    @property
    def parameter_apply_status(self) -> str:
        settings, applied = self.desired.settings, self.seen.applied
        if awaits_reboot(settings, applied):
            return "pending-reboot"
        return "applying" if applied is not None and settings.parameters != applied.parameters else "in-sync"


class SnapshotRecord(Tagged):
    """A DB snapshot in moto's place. `folder` holds the data once it is available."""

    def __init__(self, identifier: str, folder_name: str, kind: str, of: Facts, settings: Settings, at: datetime,
                 tags: list[dict[str, str]]) -> None:  # fmt: skip
        self.identifier, self.folder_name, self.kind = identifier, folder_name, kind
        self.of, self.settings, self.at, self.tags = of, settings, at, tags
        self.status = "creating"

    @property
    def arn(self) -> str:
        of = self.of
        return f"arn:{of.partition}:rds:{of.region}:{of.account}:snapshot:{self.identifier}"

    @property
    def db_snapshot_identifier(self) -> str:
        return self.identifier

    def describe(self) -> dict[str, Any]:
        of, settings = self.of, self.settings
        done = self.status == "available"
        return {
            "DBSnapshotIdentifier": self.identifier,
            "DBSnapshotArn": self.arn,
            "DBInstanceIdentifier": of.identifier,
            "DbiResourceId": of.resource_id,
            "SnapshotCreateTime": _naive(self.at),
            "OriginalSnapshotCreateTime": _naive(self.at),
            "InstanceCreateTime": _naive(of.created_at),
            "Engine": of.engine,
            "EngineVersion": of.version,
            "LicenseModel": "postgresql-license",
            "Status": self.status,
            "SnapshotType": self.kind,
            "PercentProgress": 100 if done else 0,
            "AllocatedStorage": settings.allocated_storage,
            "StorageType": settings.storage_type,
            "Port": settings.port,
            "AvailabilityZone": of.availability_zone,
            "VpcId": of.subnet_group.vpc_id,
            "MasterUsername": of.master_username,
            "Encrypted": bool(of.shown.get("StorageEncrypted")),
            "IAMDatabaseAuthenticationEnabled": False,
            "TagList": self.tags,
            "SnapshotTarget": "region",
        }


def subnet_group(group: SubnetGroup) -> dict[str, Any]:
    return {
        "DBSubnetGroupName": group.name,
        "DBSubnetGroupDescription": group.description,
        "VpcId": group.vpc_id,
        "SubnetGroupStatus": "Complete",
        "Subnets": [
            {"SubnetIdentifier": subnet, "SubnetAvailabilityZone": {"Name": zone}, "SubnetStatus": "Active"}
            for subnet, zone in group.subnets
        ],
    }


def pending(desired: Desired) -> dict[str, Any]:
    """PendingModifiedValues: what waits for the maintenance window."""
    if desired.later is None:
        return {}
    names = {
        "DBInstanceClass": "instance_class",
        "AllocatedStorage": "allocated_storage",
        "StorageType": "storage_type",
        "BackupRetentionPeriod": "backup_retention_days",
    }
    return {
        name: getattr(desired.later, attribute)
        for name, attribute in names.items()
        if getattr(desired.later, attribute) != getattr(desired.settings, attribute)
    }


def _naive(when: datetime) -> datetime:
    return when.replace(tzinfo=None)
