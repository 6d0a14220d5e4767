"""The seam into moto's RDS: DB instances and snapshots of our own in the place of moto's.

moto keeps subnet groups, parameter groups, option groups, event subscriptions and tags. Its instances, which are
available at once and serve nothing, are never made. All of this runs on the API thread.
"""

import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar

from moto.core.responses import ActionResult, EmptyResult, PaginatedResult
from moto.ec2.models import ec2_backends
from moto.rds import models, urls
from moto.rds.responses import RDSResponse

from emulation.clock import Clock
from emulation.core.api_thread import ApiThread
from emulation.errors import SunaboxError
from emulation.rds import events, parameter_groups, validation
from emulation.rds.engine import RdsEngine
from emulation.rds.failures import RdsError, invalid_combination, invalid_value
from emulation.rds.instances import Home, Instances
from emulation.rds.parameters import Chosen
from emulation.rds.record import InstanceRecord, SubnetGroup
from emulation.rds.snapshots import Snapshots


class RdsBackend(models.RDSBackend):
    api: ClassVar[ApiThread]
    engine: ClassVar[RdsEngine]
    clock: ClassVar[Clock]

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        home = Home(account_id, region_name, self.partition, self.api, self.clock, self.engine)
        # moto's own mappings hold our records, so that its tagging finds them.
        databases: Any = self.databases
        snapshots: Any = self.database_snapshots
        self.instances = Instances(home, databases, self, lambda: self.snapshots)
        self.snapshots = Snapshots(home, snapshots, self.instances)
        self._restore()

    @property
    def _url_module(self) -> Any:
        return urls

    def _restore(self) -> None:
        """What an earlier emulator left in the data folder."""
        store = self.engine.surroundings.store
        for name, group in store.parameter_groups(self.account_id, self.region_name).items():
            made = self._parameter_group(name, group["description"], group["family"], group["tags"])
            for parameter, values in group["parameters"].items():
                made.parameters[parameter].update(values)
            self.db_parameter_groups[name] = made
        for snapshot in store.snapshots(self.account_id, self.region_name):
            self.snapshots.records[snapshot.identifier] = snapshot
        servers = self.engine.surroundings.servers
        if servers is None:
            return
        for record in store.instances(self.account_id, self.region_name):
            group = record.facts.subnet_group
            with suppress(SunaboxError):  # the servers may be others now; where there are none, the start says so
                version = servers.version(record.facts.engine, record.facts.asked_version)
                record.facts = replace(record.facts, version=version)
            if record.secret is not None:  # Secrets Manager has forgotten it
                password, secrets = record.desired.settings.master_password, self.engine.surroundings.secrets
                record.secret = secrets.create(record.facts, password, "")
            self.instances.records[record.facts.identifier] = record
            if group.name not in self.subnet_groups and group.name != "default":
                self._restore_subnet_group(group)
            self.instances.adopt(record)

    def _restore_subnet_group(self, group: SubnetGroup) -> None:
        """Under its name, with the default VPC's subnets: the ones that it had are gone with EC2's records."""
        ec2 = ec2_backends[self.account_id][self.region_name]
        subnets = [subnet for subnet in ec2.describe_subnets() if subnet.default_for_az in (True, "true")]
        if subnets:
            self.create_subnet_group(group.name, group.description, subnets, [])

    # ---- groups: what `Instances` asks ----

    def subnet_group(self, name: str) -> SubnetGroup:
        if name not in self.subnet_groups:
            raise RdsError("DBSubnetGroupNotFoundFault", f"DB subnet group '{name}' does not exist.")
        group = self.subnet_groups[name]
        subnets = tuple((subnet.id, str(subnet.availability_zone)) for subnet in group._subnets)
        return SubnetGroup(group.name, group.description, group.vpc_id, subnets)

    def parameters(self, name: str, family: str) -> Mapping[str, Chosen]:
        group = self.found_parameter_group(name)
        if group.family != family:
            raise invalid_combination(
                f"The parameter group {name} with DBParameterGroupFamily {group.family} can't be used for this "
                f"instance. Please use a parameter group with DBParameterGroupFamily {family}"
            )
        return parameter_groups.chosen(group.parameters)

    def _parameter_group(
        self, name: str, description: str, family: str, tags: list[dict[str, str]]
    ) -> models.DBParameterGroup:
        kind: Any = models.DBParameterGroup  # moto leaves CloudFormation's part of it abstract
        made: models.DBParameterGroup = kind(self, name, description, family, tags)
        return made

    def found_parameter_group(self, name: str) -> models.DBParameterGroup:
        default = parameter_groups.family_of_default(name)
        if default and name not in self.db_parameter_groups:
            words = f"Default parameter group for {default}"
            self.db_parameter_groups[name] = self._parameter_group(name, words, default, [])
        if name not in self.db_parameter_groups:
            raise RdsError("DBParameterGroupNotFound", f"DBParameterGroup not found: {name}")
        return self.db_parameter_groups[name]

    def save_parameter_groups(self) -> None:
        groups = {
            group.name: {
                "description": group.description,
                "family": group.family,
                "tags": group.tags,
                "parameters": {name: dict(values) for name, values in group.parameters.items()},
            }
            for group in self.db_parameter_groups.values()
        }
        self.engine.surroundings.store.save_parameter_groups(self.account_id, self.region_name, groups)

    def used_by(self, *, subnet_group: str = "", parameter_group: str = "") -> InstanceRecord | None:
        for record in self.instances:
            if record.facts.subnet_group.name == subnet_group.lower():
                return record
            if record.desired.settings.parameter_group == parameter_group.lower():
                return record
        return None


class RdsResponse(RDSResponse):
    """Operations that moto answers differently, in moto's parsing and serialisation."""

    @property
    def backend(self) -> RdsBackend:
        found = models.rds_backends[self.current_account][self.region]
        assert isinstance(found, RdsBackend), "emulation.rds.api.install was called too late"
        return found

    def call_action(self) -> Any:
        try:
            return super().call_action()
        except RdsError as problem:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # moto warns of codes that RDS's model lacks: NotImplemented is ours
                status, headers, body = self.serialized(ActionResult(_Failure(problem.code, problem.message)))
            return status, headers, body

    @property
    def _request(self) -> dict[str, Any]:
        params: Any = self.params
        request: dict[str, Any] = params.original_dict() if hasattr(params, "original_dict") else dict(params)
        return request

    # ---- instances ----

    def create_db_instance(self) -> ActionResult:
        return ActionResult({"DBInstance": self.backend.instances.create(self._request).describe()})

    def describe_db_instances(self) -> ActionResult:
        instances = self.backend.instances
        name = self._request.get("DBInstanceIdentifier")
        chosen = [instances.found(name)] if name else sorted(instances, key=lambda one: one.facts.identifier)
        for wanted in self._request.get("Filters") or ():
            values = {value.lower() for value in wanted["Values"]}
            chosen = [one for one in chosen if values & _filtered(one, wanted["Name"])]
        return PaginatedResult({"DBInstances": [one.describe() for one in chosen]})

    def modify_db_instance(self) -> ActionResult:
        return ActionResult({"DBInstance": self.backend.instances.modify(self._request).describe()})

    def delete_db_instance(self) -> ActionResult:
        shown = self.backend.instances.delete(self._request).describe()
        return ActionResult({"DBInstance": {**shown, "DBInstanceStatus": "deleting"}})

    def stop_db_instance(self) -> ActionResult:
        backend, request = self.backend, self._request
        name = validation.required(request, "DBInstanceIdentifier")
        if request.get("DBSnapshotIdentifier"):
            backend.snapshots.create(request)
        shown = backend.instances.stop(name).describe()
        return ActionResult({"DBInstance": {**shown, "DBInstanceStatus": "stopping"}})

    def start_db_instance(self) -> ActionResult:
        name = validation.required(self._request, "DBInstanceIdentifier")
        shown = self.backend.instances.start(name).describe()
        return ActionResult({"DBInstance": {**shown, "DBInstanceStatus": "starting"}})

    def reboot_db_instance(self) -> ActionResult:
        shown = self.backend.instances.reboot(self._request).describe()
        return ActionResult({"DBInstance": {**shown, "DBInstanceStatus": "rebooting"}})

    def describe_db_log_files(self) -> ActionResult:
        self.backend.instances.found(self._request["DBInstanceIdentifier"])
        raise NotImplementedError("log files of instances")

    # ---- snapshots ----

    def create_db_snapshot(self) -> ActionResult:
        return ActionResult({"DBSnapshot": self.backend.snapshots.create(self._request).describe()})

    def describe_db_snapshots(self) -> ActionResult:
        listed = self.backend.snapshots.listed(self._request)
        return PaginatedResult({"DBSnapshots": [snapshot.describe() for snapshot in listed]})

    def delete_db_snapshot(self) -> ActionResult:
        name = validation.required(self._request, "DBSnapshotIdentifier")
        return ActionResult({"DBSnapshot": self.backend.snapshots.delete(name).describe()})

    def restore_db_instance_from_db_snapshot(self) -> ActionResult:
        return ActionResult({"DBInstance": self.backend.snapshots.restore(self._request).describe()})

    # ---- events and versions ----

    def describe_events(self) -> ActionResult:
        backend = self.backend
        prefix = f"arn:{backend.partition}:rds:{backend.region_name}:{backend.account_id}:"
        own = [event for event in list(backend.engine.events) if event.arn.startswith(prefix)]
        chosen = events.selected(own, self._request, backend.clock.now())
        return PaginatedResult({"Events": [event.describe() for event in chosen]})

    def describe_db_engine_versions(self) -> ActionResult:
        """Emulation: the versions that there are servers for, not all that AWS has."""
        request, servers = self._request, self.backend.engine.surroundings.servers
        versions = []
        if servers is not None and request.get("Engine") in (None, "postgres"):
            version = servers.version("postgres", "")
            family = f"postgres{version.partition('.')[0]}"
            row = {
                "Engine": "postgres",
                "EngineVersion": version,
                "MajorEngineVersion": version.partition(".")[0],
                "DBParameterGroupFamily": family,
                "DBEngineDescription": "PostgreSQL",
                "DBEngineVersionDescription": f"PostgreSQL {version}",
                "ValidUpgradeTarget": [],
                "Status": "available",
            }
            if request.get("EngineVersion") in (None, version, row["MajorEngineVersion"]) and request.get(
                "DBParameterGroupFamily"
            ) in (None, family):
                versions.append(row)
        return PaginatedResult({"DBEngineVersions": versions})

    # ---- subnet groups ----

    def create_db_subnet_group(self) -> ActionResult:
        request = self._request
        name = validation.required(request, "DBSubnetGroupName")
        if name.lower() == "default" or not all(c.isalnum() or c in " ._-" for c in name):
            raise invalid_value(f"Invalid DB subnet group name: {name}")
        if name in self.backend.subnet_groups:
            raise RdsError("DBSubnetGroupAlreadyExists", f"The DB subnet group '{name}' already exists.")
        self._check_subnets(request)
        return super().create_db_subnet_group()

    def modify_db_subnet_group(self) -> ActionResult:
        """moto would forget the group."""
        request, backend = self._request, self.backend
        name = validation.required(request, "DBSubnetGroupName")
        backend.subnet_group(name)
        self._check_subnets(request)
        group = backend.subnet_groups[name]
        answer = super().modify_db_subnet_group()
        backend.subnet_groups[name] = group
        return answer

    def delete_db_subnet_group(self) -> ActionResult:
        name = validation.required(self._request, "DBSubnetGroupName")
        self.backend.subnet_group(name)
        if user := self.backend.used_by(subnet_group=name):
            raise RdsError(
                "InvalidDBSubnetGroupStateFault",
                f"Cannot delete the subnet group '{name}' because at least one database instance: "
                f"{user.facts.identifier} is still using it.",
            )
        return super().delete_db_subnet_group()

    def _check_subnets(self, request: Mapping[str, Any]) -> None:
        ec2 = ec2_backends[self.current_account][self.region]
        found = {subnet.id: subnet for subnet in ec2.describe_subnets()}
        for subnet_id in request.get("SubnetIds") or ():
            if subnet_id not in found:
                raise RdsError("InvalidSubnet", f"Some input subnets in :[{subnet_id}] are invalid.")
        subnets = [found[subnet_id] for subnet_id in request.get("SubnetIds") or ()]
        if len({subnet.vpc_id for subnet in subnets}) > 1:
            raise RdsError("InvalidSubnet", "Subnets are not all in a common VPC.")
        validation.zones({str(subnet.availability_zone) for subnet in subnets})

    # ---- parameter groups ----

    def create_db_parameter_group(self) -> ActionResult:
        request = self._request
        name = validation.required(request, "DBParameterGroupName")
        if name.lower().startswith("default"):
            raise invalid_value(f"Invalid parameter group name: {name}")
        validation.identifier("DBParameterGroupName", name, 255)
        parameter_groups.check_family(validation.required(request, "DBParameterGroupFamily"))
        answer = super().create_db_parameter_group()
        self.backend.save_parameter_groups()
        return answer

    def describe_db_parameter_groups(self) -> ActionResult:
        if name := self._request.get("DBParameterGroupName"):
            self.backend.found_parameter_group(name)
        return super().describe_db_parameter_groups()

    def modify_db_parameter_group(self) -> ActionResult:
        name = self._own_parameter_group()
        parameter_groups.check_changes(self._request.get("Parameters") or (), self.backend.instances.known_parameters())
        answer = super().modify_db_parameter_group()
        self._parameters_changed(name)
        return answer

    def reset_db_parameter_group(self) -> ActionResult:
        name = self._own_parameter_group()
        group, request = self.backend.found_parameter_group(name), self._request
        if request.get("ResetAllParameters", True) and not request.get("Parameters"):
            group.parameters.clear()
        for parameter in request.get("Parameters") or ():
            group.parameters.pop(parameter["ParameterName"], None)
        self._parameters_changed(name)
        return ActionResult({"DBParameterGroupName": group.name})

    def describe_db_parameters(self) -> ActionResult:
        request = self._request
        group = self.backend.found_parameter_group(validation.required(request, "DBParameterGroupName"))
        known = self.backend.instances.known_parameters()
        rows = parameter_groups.describe(known, group.parameters, request.get("Source"))
        return PaginatedResult({"Parameters": rows})

    def delete_db_parameter_group(self) -> ActionResult:
        name = self._own_parameter_group()
        if self.backend.used_by(parameter_group=name):
            raise RdsError(
                "InvalidDBParameterGroupState",
                f"One or more database instances are still members of this parameter group {name}, "
                "so the group cannot be deleted",
            )
        super().delete_db_parameter_group()
        self.backend.save_parameter_groups()
        return EmptyResult()

    def _own_parameter_group(self) -> str:
        name: str = validation.required(self._request, "DBParameterGroupName")
        if name.lower().startswith("default."):
            raise RdsError("InvalidDBParameterGroupState", f"The default parameter group {name} cannot be modified.")
        self.backend.found_parameter_group(name)
        return name

    def _parameters_changed(self, name: str) -> None:
        self.backend.save_parameter_groups()
        self.backend.instances.parameters_changed(name)


class _Failure(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def _filtered(record: InstanceRecord, name: str) -> set[str]:
    facts = record.facts
    known = {
        "db-instance-id": {facts.identifier, facts.arn.lower()},
        "dbi-resource-id": {facts.resource_id.lower()},
        "engine": {facts.engine},
        "db-cluster-id": set[str](),
        "domain": set[str](),
    }
    if name not in known:
        raise invalid_value(f"Unrecognized filter name: {name}")
    return known[name]


def rotate(account: str, region: str, secret_arn: str) -> None:
    """Gives the instance whose master user's secret it is another password. Raises SunaboxError."""
    backend = models.rds_backends[account][region]
    assert isinstance(backend, RdsBackend), "emulation.rds.api.install was called too late"
    for record in backend.instances:
        if record.secret is not None and record.secret.arn == secret_arn:
            request = {"RotateMasterUserPassword": True, "ApplyImmediately": True}
            try:
                backend.instances.modify({"DBInstanceIdentifier": record.facts.identifier, **request})
            except RdsError as problem:
                raise SunaboxError(problem.message) from problem
            return
    raise SunaboxError("The DB instance of this secret is gone.")


def restore(account: str, region: str) -> None:
    """Takes up again what an earlier emulator left in the data folder. SunaboxError where nothing can be served."""
    try:
        _ = models.rds_backends[account][region]
    except KeyError as problem:
        raise SunaboxError(f"There is no region {region}.") from problem


def install(api: ApiThread, clock: Clock, engine: RdsEngine) -> None:
    """Puts all this in moto's place, for the backends that are made from now on."""
    RdsBackend.api, RdsBackend.clock, RdsBackend.engine = api, clock, engine
    models.rds_backends.backend = RdsBackend
    urls.url_paths["{0}/$"] = RdsResponse.dispatch
