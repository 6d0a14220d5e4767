"""What the RDS API does with DB instances, apart from moto. All of it runs on the API thread."""

import logging
import secrets
import string
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from emulation.clock import Clock
from emulation.core.api_thread import ApiThread
from emulation.errors import SunaboxError
from emulation.rds import validation
from emulation.rds.engine import RdsEngine
from emulation.rds.failures import RdsError, invalid_combination, invalid_state, invalid_value, not_emulated
from emulation.rds.modification import SHOWN_DEFAULTS, changed_facts, in_window, shown
from emulation.rds.observation import Deletion, Desired, InstanceStatus, Observed, Settings
from emulation.rds.parameters import Chosen, Parameter, for_server
from emulation.rds.record import Facts, InstanceRecord, SnapshotRecord, SubnetGroup
from emulation.rds.servers import DatabaseServers

log = logging.getLogger(__name__)

_S = InstanceStatus
_LETTERS = string.ascii_letters + string.digits + "!#$%&*()-_=+[]{}<>:?"
_PORT = 5432
_DELETABLE = (_S.AVAILABLE, _S.STOPPED, _S.CREATING, _S.BACKING_UP, _S.FAILED, _S.INCOMPATIBLE_PARAMETERS)


class Groups(Protocol):
    """Subnet groups and parameter groups, which moto keeps."""

    def subnet_group(self, name: str) -> SubnetGroup:
        """Raises RdsError."""
        ...

    def parameters(self, name: str, family: str) -> Mapping[str, Chosen]:
        """What is set in a parameter group. Raises RdsError where it is not there or of another family."""
        ...


@dataclass(frozen=True)
class Home:
    """The account and region, and what instances of it are made with."""

    account: str
    region: str
    partition: str
    api: ApiThread
    clock: Clock
    engine: RdsEngine


class Instances:
    """`records` is moto's own mapping, by identifier."""

    def __init__(
        self, home: Home, records: MutableMapping[str, InstanceRecord], groups: Groups, shelf: Callable[[], Any]
    ) -> None:
        self._home, self.records, self._groups, self._shelf = home, records, groups, shelf

    def __iter__(self) -> Iterator[InstanceRecord]:
        return iter(list(self.records.values()))

    def found(self, name: str) -> InstanceRecord:
        identifier = name.rpartition(":")[2] if name.startswith("arn:") else name
        if identifier not in self.records:
            raise RdsError("DBInstanceNotFound", f"DBInstance {identifier} not found.")
        return self.records[identifier]

    def known_parameters(self) -> Mapping[str, Parameter]:
        servers = self._home.engine.surroundings.servers
        try:
            return servers.parameters("postgres", "") if servers is not None else {}
        except SunaboxError as problem:
            log.info("Parameters of PostgreSQL are not known: %s", problem)
            return {}

    # ---- life ----

    def create(self, request: Mapping[str, Any]) -> InstanceRecord:
        engine = validation.engine(validation.required(request, "Engine"))
        username = validation.master_username(validation.required(request, "MasterUsername"))
        managed = bool(request.get("ManageMasterUserPassword"))
        if managed and request.get("MasterUserPassword"):
            raise invalid_combination("You can't specify MasterUserPassword when ManageMasterUserPassword is enabled.")
        given = "" if managed else validation.required(request, "MasterUserPassword")
        password = _generated_password() if managed else validation.master_password(given)
        validation.required(request, "AllocatedStorage")
        database = validation.database(request["DBName"]) if request.get("DBName") else ""
        return self._make(request, engine, username, password, database, managed=managed, snapshot=None)

    def restore(self, request: Mapping[str, Any], snapshot: SnapshotRecord) -> InstanceRecord:
        """RestoreDBInstanceFromDBSnapshot: what is not given is as it was."""
        of, settings = snapshot.of, snapshot.settings
        as_it_was = {
            "DBInstanceClass": settings.instance_class,
            "AllocatedStorage": settings.allocated_storage,
            "StorageType": settings.storage_type,
            "BackupRetentionPeriod": settings.backup_retention_days,
            "EngineVersion": of.asked_version,
            "PreferredBackupWindow": of.backup_window,
            "PreferredMaintenanceWindow": of.maintenance_window,
            "PubliclyAccessible": of.publicly_accessible,
            **of.shown,
        }
        given = {name: value for name, value in request.items() if value is not None}
        if given.get("Engine") not in (None, of.engine):
            raise invalid_combination(f"A snapshot of {of.engine} cannot be restored as {given['Engine']}.")
        if given.get("AllocatedStorage", settings.allocated_storage) < settings.allocated_storage:
            raise invalid_value("The allocated storage size can't be less than the source snapshot or backup size.")
        managed = bool(request.get("ManageMasterUserPassword"))
        password = _generated_password() if managed else settings.master_password
        merged = {**as_it_was, **given}
        return self._make(
            merged, of.engine, of.master_username, password, of.database, managed=managed, snapshot=snapshot
        )

    def _make(
        self,
        request: Mapping[str, Any],
        engine: str,
        username: str,
        password: str,
        database: str,
        *,
        managed: bool,
        snapshot: SnapshotRecord | None,
    ) -> InstanceRecord:
        home = self._home
        servers = self._servers()
        identifier = validation.identifier("DBInstanceIdentifier", validation.required(request, "DBInstanceIdentifier"))
        if identifier in self.records:
            raise RdsError("DBInstanceAlreadyExists", "DB instance already exists")
        validation.unsupported(request)
        instance_class = validation.instance_class(validation.required(request, "DBInstanceClass"))
        storage_type = request.get("StorageType") or ("io1" if request.get("Iops") else "gp2")
        storage = int(request["AllocatedStorage"])
        validation.storage(engine, storage_type, storage, request.get("MaxAllocatedStorage"))
        try:
            default = servers.version(engine, "")
            asked = validation.version(engine, request.get("EngineVersion"), default)
            version = servers.version(engine, asked)
        except SunaboxError as problem:
            raise not_emulated(f"this: {problem}") from problem
        if version != asked and not version.startswith(f"{asked}."):
            # Emulation: EngineVersion shows the version of the server that is really there.
            log.warning("DB instance %s: PostgreSQL %s was asked for; the server is %s", identifier, asked, version)
        group = self._subnet_group(request.get("DBSubnetGroupName"))
        zone = request.get("AvailabilityZone") or group.subnets[0][1]
        if zone not in {zone for _, zone in group.subnets}:
            raise RdsError("InvalidVPCNetworkStateFault", f"The DB subnet group {group.name} has no subnet in {zone}.")
        facts = Facts(
            account=home.account,
            region=home.region,
            partition=home.partition,
            identifier=identifier,
            resource_id="db-" + "".join(secrets.choice(string.ascii_uppercase + "234567") for _ in range(26)),
            engine=engine,
            asked_version=asked,
            version=version,
            master_username=username,
            database=database,
            created_at=home.clock.now(),
            availability_zone=zone,
            subnet_group=group,
            backup_window=validation.backup_window(request.get("PreferredBackupWindow") or "03:14-03:44"),
            maintenance_window=validation.maintenance_window(
                request.get("PreferredMaintenanceWindow") or "sun:06:38-sun:07:08"
            ),
            deletion_protection=bool(request.get("DeletionProtection")),
            publicly_accessible=bool(request.get("PubliclyAccessible", False)),
            from_snapshot=snapshot.identifier if snapshot else "",
            shown=shown(request, SHOWN_DEFAULTS),
        )
        name = request.get("DBParameterGroupName") or f"default.{facts.family}"
        dynamic, static = for_server(
            self._groups.parameters(name, facts.family), self.known_parameters(), instance_class
        )
        settings = Settings(
            master_password=password,
            port=validation.port(int(request.get("Port") or _PORT)),
            parameter_group=name.lower(),
            parameters=dynamic,
            static_parameters=static,
            security_groups=self._security_groups(group, request.get("VpcSecurityGroupIds") or ()),
            instance_class=instance_class,
            allocated_storage=storage,
            storage_type=storage_type,
            backup_retention_days=validation.backup_retention(int(request.get("BackupRetentionPeriod", 1))),
        )
        tags = [{"Key": tag["Key"], "Value": tag.get("Value", "")} for tag in request.get("Tags") or ()]
        record = InstanceRecord(facts, Desired(settings), Observed(InstanceStatus.CREATING), tags)
        if managed:
            record.secret = home.engine.surroundings.secrets.create(
                facts, password, request.get("MasterUserSecretKmsKeyId") or ""
            )
        self.records[identifier] = record
        self.adopt(record)
        return record

    def adopt(self, record: InstanceRecord) -> None:
        self._home.api.post(self._home.engine.adopt, record, self._shelf())

    def delete(self, request: Mapping[str, Any]) -> InstanceRecord:
        record = self.found(validation.required(request, "DBInstanceIdentifier"))
        name = record.facts.identifier
        if record.status is _S.DELETING or record.desired.deletion:
            raise invalid_state(f"Instance {name} is already being deleted.")
        final = validation.deletion(request)
        if record.facts.deletion_protection:
            raise invalid_combination(
                "Cannot delete protected DB Instance, please disable deletion protection and try again."
            )
        if record.status not in _DELETABLE:
            raise invalid_state(f"Instance {name} is currently {record.status}: it cannot be deleted now.")
        if final and record.status in (_S.CREATING, _S.FAILED):
            words = f"the database instance {name} is not currently in the available state."
            raise invalid_state(f"Cannot create a snapshot because {words}")
        if final:
            self._shelf().reserve(record, final, "manual")
        self._want(record, deletion=Deletion(final), snapshots=(final,) if final else ())
        record.facts = replace(record.facts, deletion_protection=False)
        return record

    def stop(self, name: str) -> InstanceRecord:
        record = self.found(name)
        if record.status is not _S.AVAILABLE or not record.desired.running or record.desired.deletion:
            raise invalid_state(f"Instance {record.facts.identifier} is not in available state.")
        return self._want(record, running=False)

    def start(self, name: str) -> InstanceRecord:
        record = self.found(name)
        if record.status is not _S.STOPPED or record.desired.running or record.desired.deletion:
            raise invalid_state(f"Instance {record.facts.identifier} is not stopped, it cannot be started.")
        return self._want(record, running=True)

    def reboot(self, request: Mapping[str, Any]) -> InstanceRecord:
        record = self.found(validation.required(request, "DBInstanceIdentifier"))
        if request.get("ForceFailover"):
            raise invalid_combination("Cannot force failover for a non-Multi-AZ DB instance.")
        self._must_be(record, _S.AVAILABLE, _S.INCOMPATIBLE_PARAMETERS)
        return self._want(record, reboots=record.desired.reboots + 1)

    # ---- modification ----

    def modify(self, request: Mapping[str, Any]) -> InstanceRecord:
        """Source: Modifying an Amazon RDS DB instance, available settings (which act at once, which in the window)."""
        record = self.found(validation.required(request, "DBInstanceIdentifier"))
        validation.unsupported(request)
        self._must_be(record, _S.AVAILABLE, _S.STOPPED, _S.BACKING_UP, _S.INCOMPATIBLE_PARAMETERS)
        if request.get("EngineVersion") not in (None, record.facts.version, record.facts.asked_version):
            raise not_emulated("upgrades of the engine's version: there is one version of the server")
        now, later = self._changed(record, request)
        password = self._password(record, request)
        if password:
            now = replace(now, master_password=password)
            later = replace(later, master_password=password)
        facts = changed_facts(record.facts, request)
        if request.get("ApplyImmediately"):
            now, waiting, window = later, None, None
        else:
            waiting = later if later != now else None
            window = validation.next_window(facts.maintenance_window, self._home.clock.now()) if waiting else None
        record.facts = facts
        return self._want(record, settings=now, later=waiting, window=window)

    def _changed(self, record: InstanceRecord, request: Mapping[str, Any]) -> tuple[Settings, Settings]:
        """(with what acts at once, with everything)."""
        old = record.desired.settings
        now = old
        if request.get("VpcSecurityGroupIds"):
            groups = self._security_groups(record.facts.subnet_group, request["VpcSecurityGroupIds"])
            now = replace(now, security_groups=groups)
        if request.get("DBPortNumber"):
            now = replace(now, port=validation.port(int(request["DBPortNumber"])))
        if name := request.get("DBParameterGroupName"):
            dynamic, static = for_server(
                self._groups.parameters(name, record.facts.family), self.known_parameters(), old.instance_class
            )
            now = replace(now, parameter_group=name.lower(), parameters=dynamic, static_parameters=static)
        later = in_window(now, record.desired.later or old, old, request, record.facts.engine)
        days = later.backup_retention_days
        if days and old.backup_retention_days:
            now = replace(now, backup_retention_days=days)
        return now, later

    def _password(self, record: InstanceRecord, request: Mapping[str, Any]) -> str:
        """The new master password, '' where it stays; the secret follows it."""
        secrets_manager = self._home.engine.surroundings.secrets
        managed, given = request.get("ManageMasterUserPassword"), request.get("MasterUserPassword")
        rotate = request.get("RotateMasterUserPassword")
        if given and (managed or (record.secret is not None and managed is not False)):
            raise invalid_combination("You can't specify MasterUserPassword when ManageMasterUserPassword is enabled.")
        if rotate and not request.get("ApplyImmediately"):
            raise invalid_combination("You must specify apply immediately when rotating the master user password.")
        if rotate and record.secret is None:
            raise invalid_combination(
                "You can't rotate the master user password: ManageMasterUserPassword is not enabled."
            )
        if managed is False and record.secret is not None:
            if not given:
                raise invalid_combination(
                    "You must specify MasterUserPassword when ManageMasterUserPassword is disabled."
                )
            secrets_manager.delete(record.facts, record.secret)
            record.secret = None
        if given:
            return validation.master_password(given)
        if managed and record.secret is None:
            password = _generated_password()
            record.secret = secrets_manager.create(
                record.facts, password, request.get("MasterUserSecretKmsKeyId") or ""
            )
            return password
        if rotate and record.secret is not None:
            password = _generated_password()
            secrets_manager.put(record.facts, record.secret, password)
            record.secret = replace(record.secret, status="rotating")
            return password
        return ""

    def parameters_changed(self, group: str) -> None:
        """A parameter group has other values: the instances that have it learn of it."""
        for record in self:
            settings = record.desired.settings
            if settings.parameter_group == group.lower() and not record.desired.deletion:
                self._want(record, settings=self._with_parameters(record, settings))
                if record.desired.later is not None:
                    self._want(record, later=self._with_parameters(record, record.desired.later))

    def _with_parameters(self, record: InstanceRecord, settings: Settings) -> Settings:
        chosen = self._groups.parameters(settings.parameter_group, record.facts.family)
        dynamic, static = for_server(chosen, self.known_parameters(), settings.instance_class)
        return replace(settings, parameters=dynamic, static_parameters=static)

    # ---- parts ----

    def _want(self, record: InstanceRecord, **changes: Any) -> InstanceRecord:
        record.desired = replace(record.desired, **changes)
        self.poke(record)
        return record

    def poke(self, record: InstanceRecord) -> None:
        self._home.api.post(self._home.engine.poke, record.facts.resource_id)

    def want_snapshot(self, record: InstanceRecord, identifier: str) -> None:
        self._want(record, snapshots=(*record.desired.snapshots, identifier))

    def _must_be(self, record: InstanceRecord, *states: InstanceStatus) -> None:
        if record.status not in states or record.desired.deletion:
            raise invalid_state(
                f"Database instance {record.facts.identifier} is not in available state. It is {record.status}."
            )

    def _servers(self) -> DatabaseServers:
        servers = self._home.engine.surroundings.servers
        if servers is None:
            raise not_emulated("database servers on this runtime. Start Sunabox with --runtime process")
        return servers

    def _subnet_group(self, name: str | None) -> SubnetGroup:
        if name:
            return self._groups.subnet_group(name)
        home = self._home
        group = home.engine.surroundings.networks.default_subnet_group(home.account, home.region)
        if group is None:
            raise RdsError("InvalidVPCNetworkStateFault", "No default VPC for this user: give DBSubnetGroupName.")
        return group

    def _security_groups(self, group: SubnetGroup, ids: Sequence[str]) -> tuple[str, ...]:
        home = self._home
        return home.engine.surroundings.networks.security_groups(home.account, home.region, group, ids)


def _generated_password() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(28))
