"""What ModifyDBInstance changes: at once, in the maintenance window, or only in what is shown. Pure.

Source: Modifying an Amazon RDS DB instance, available settings.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from emulation.rds import validation
from emulation.rds.failures import invalid_combination
from emulation.rds.observation import Settings
from emulation.rds.record import Facts

_SHOWN = (
    "MultiAZ", "AutoMinorVersionUpgrade", "StorageEncrypted", "KmsKeyId", "CopyTagsToSnapshot", "Iops",
    "MaxAllocatedStorage", "CACertificateIdentifier", "DBSystemId",
)  # fmt: skip
SHOWN_DEFAULTS = {
    "MultiAZ": False,
    "AutoMinorVersionUpgrade": True,
    "StorageEncrypted": False,
    "CopyTagsToSnapshot": False,
    "CACertificateIdentifier": "rds-ca-rsa2048-g1",
}


def shown(request: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Values that are only shown, with those of a request."""
    return {**before, **{name: request[name] for name in _SHOWN if request.get(name) is not None}}


def in_window(now: Settings, before: Settings, old: Settings, request: Mapping[str, Any], engine: str) -> Settings:
    """What the maintenance window brings: `now` with the class, storage and retention of `before` and the request.

    `before` is what waited already, `old` is what is wanted at present. Raises RdsError.
    """
    later = replace(
        now,
        instance_class=before.instance_class,
        allocated_storage=before.allocated_storage,
        storage_type=before.storage_type,
        backup_retention_days=before.backup_retention_days,
    )
    if request.get("DBInstanceClass"):
        later = replace(later, instance_class=validation.instance_class(request["DBInstanceClass"]))
    if request.get("StorageType") or request.get("AllocatedStorage"):
        kind = request.get("StorageType") or before.storage_type
        size = int(request.get("AllocatedStorage") or before.allocated_storage)
        validation.storage(engine, kind, size)
        if size < old.allocated_storage:
            raise invalid_combination(
                f"Invalid storage size for engine name {engine} and storage type {kind}: {size} is less than the "
                f"allocated {old.allocated_storage}. Storage cannot be reduced."
            )
        later = replace(later, storage_type=kind, allocated_storage=size)
    if request.get("BackupRetentionPeriod") is not None:
        days = validation.backup_retention(int(request["BackupRetentionPeriod"]))
        later = replace(later, backup_retention_days=days)
    return later


def changed_facts(facts: Facts, request: Mapping[str, Any]) -> Facts:
    """Raises RdsError."""
    given: dict[str, Any] = {}
    if request.get("DeletionProtection") is not None:
        given["deletion_protection"] = bool(request["DeletionProtection"])
    if request.get("PubliclyAccessible") is not None:
        given["publicly_accessible"] = bool(request["PubliclyAccessible"])
    if request.get("PreferredBackupWindow"):
        given["backup_window"] = validation.backup_window(request["PreferredBackupWindow"])
    if request.get("PreferredMaintenanceWindow"):
        given["maintenance_window"] = validation.maintenance_window(request["PreferredMaintenanceWindow"])
    return replace(facts, shown=shown(request, facts.shown), **given)
