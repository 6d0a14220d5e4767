"""The API of RDS with real servers behind it: what it refuses, and what becomes of what it accepts."""

import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psycopg
import pytest
from botocore.exceptions import ClientError

from emulation.cloud import CloudOptions
from emulation.testing.account import AwsAccount, new_account_id
from emulation.testing.cloud_thread import CloudThread
from emulation.testing.eventually import eventually
from emulation.testing.handles import CloudHandle

PASSWORD = "it's-a'secret"
REQUEST = {
    "DBInstanceIdentifier": "db",
    "DBInstanceClass": "db.t3.micro",
    "Engine": "postgres",
    "MasterUsername": "master",
    "MasterUserPassword": PASSWORD,
    "AllocatedStorage": 20,
}


@pytest.fixture(scope="module")
def thread() -> Iterator[CloudThread]:
    cloud = CloudThread(CloudOptions(port=0, runtime="process", virtual_clock=True))
    cloud.start()
    yield cloud
    cloud.stop()


@pytest.fixture
def account(thread: CloudThread) -> AwsAccount:
    return AwsAccount(thread.endpoint_url, new_account_id())


@pytest.fixture
def rds(account: AwsAccount) -> Iterator[Any]:
    client = account.client("rds")
    yield client
    for instance in client.describe_db_instances()["DBInstances"]:
        client.modify_db_instance(DBInstanceIdentifier=instance["DBInstanceIdentifier"], DeletionProtection=False)
        client.delete_db_instance(DBInstanceIdentifier=instance["DBInstanceIdentifier"], SkipFinalSnapshot=True)


def open_group(account: AwsAccount) -> str:
    ec2 = account.client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group: str = ec2.create_security_group(GroupName="db", Description="db", VpcId=vpc)["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=group, IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    )
    return group


def create(account: AwsAccount, **more: Any) -> dict[str, Any]:
    rds = account.client("rds")
    rds.create_db_instance(**{**REQUEST, "VpcSecurityGroupIds": [open_group(account)], **more})
    return wait(rds)


def wait(rds: Any, name: str = "db", status: str = "available") -> dict[str, Any]:
    def described() -> dict[str, Any]:
        (instance,) = rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"]
        return instance if instance["DBInstanceStatus"] == status else {}

    return eventually(described, within=20)


def ask(instance: dict[str, Any], statement: str, password: str = PASSWORD) -> Any:
    endpoint = instance["Endpoint"]
    with psycopg.connect(
        host=endpoint["Address"],
        port=endpoint["Port"],
        user=instance["MasterUsername"],
        password=password,
        dbname="postgres",
        connect_timeout=5,
    ) as connection:
        row = connection.execute(statement.encode()).fetchone()
        assert row
        return row[0]


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"DBInstanceIdentifier": "1st"}, "InvalidParameterValue", "is not a valid identifier. Identifiers must begin"),
        ({"DBInstanceIdentifier": "a--b"}, "InvalidParameterValue", "two consecutive hyphens"),
        ({"Engine": "postgrex"}, "InvalidParameterValue", "Invalid DB engine: postgrex"),
        ({"Engine": "mysql"}, "NotImplemented", "mysql"),
        ({"EngineVersion": "9.1"}, "InvalidParameterCombination", "Cannot find version 9.1 for postgres"),
        ({"MasterUserPassword": "with a blank"}, "InvalidParameterValue", "Only printable ASCII characters besides"),
        ({"MasterUserPassword": 'quote"d-word'}, "InvalidParameterValue", "Only printable ASCII characters besides"),
        ({"MasterUserPassword": "short"}, "InvalidParameterValue", "it is shorter than 8 characters"),
        ({"MasterUsername": "rdsadmin"}, "InvalidParameterValue", "rdsadmin cannot be used as it is a reserved word"),
        ({"AllocatedStorage": 4}, "InvalidParameterValue", "Invalid storage size for engine name postgres and"),
        ({"DBInstanceClass": "t3.micro"}, "InvalidParameterValue", "Invalid DB Instance class: t3.micro"),
        ({"DBSubnetGroupName": "none"}, "DBSubnetGroupNotFoundFault", "DB subnet group 'none' does not exist."),
        ({"DBParameterGroupName": "none"}, "DBParameterGroupNotFound", "DBParameterGroup not found: none"),
        ({"VpcSecurityGroupIds": ["sg-1"]}, "InvalidParameterValue", "Invalid security group , groupId= sg-1"),
        ({"Port": 80}, "InvalidParameterValue", "80"),
        ({"BackupRetentionPeriod": 36}, "InvalidParameterValue", "36"),
        ({"EnableIAMDatabaseAuthentication": True}, "NotImplemented", "IAM database authentication"),
    ],
)
def test_what_aws_refuses_is_refused_in_its_words(rds: Any, changes: dict[str, Any], code: str, words: str) -> None:
    """Nothing begins, and nothing is left of it."""
    with pytest.raises(ClientError) as refusal:
        rds.create_db_instance(**{**REQUEST, **changes})
    assert refusal.value.response["Error"]["Code"] == code
    assert words in refusal.value.response["Error"]["Message"]
    assert rds.describe_db_instances()["DBInstances"] == []


def test_parameters_reach_the_server_at_once_or_after_a_reboot(account: AwsAccount, rds: Any) -> None:
    """A dynamic parameter acts at once, a static one is pending-reboot until then; a bad value is refused."""
    rds.create_db_parameter_group(DBParameterGroupName="mine", DBParameterGroupFamily="postgres16", Description="m")
    instance = create(account, DBParameterGroupName="mine", EngineVersion="16.4")
    assert instance["EngineVersion"] == ask(instance, "show server_version")

    def set_parameter(name: str, value: str, method: str = "immediate") -> None:
        rds.modify_db_parameter_group(
            DBParameterGroupName="mine",
            Parameters=[{"ParameterName": name, "ParameterValue": value, "ApplyMethod": method}],
        )

    set_parameter("log_min_duration_statement", "1234")
    eventually(lambda: ask(instance, "show log_min_duration_statement") == "1234ms")
    set_parameter("max_connections", "LEAST({DBInstanceClassMemory/9531392},17)", "pending-reboot")
    status = wait(rds)["DBParameterGroups"]
    assert status == [{"DBParameterGroupName": "mine", "ParameterApplyStatus": "pending-reboot"}]
    assert ask(instance, "show max_connections") == "100"
    rds.reboot_db_instance(DBInstanceIdentifier="db")
    eventually(lambda: wait(rds)["DBParameterGroups"][0]["ParameterApplyStatus"] == "in-sync", within=20)
    assert ask(instance, "show max_connections") == "17"

    for name, value, method, words in (
        (
            "work_mem",
            "much",
            "immediate",
            "Invalid parameter value: much for: work_mem allowed values are: 64-2147483647",
        ),
        ("max_connections", "9", "immediate", "cannot use immediate apply method for static parameter"),
        ("no_such", "9", "immediate", "Could not find parameter with name: no_such"),
        ("listen_addresses", "*", "pending-reboot", "cannot be modified"),
    ):
        with pytest.raises(ClientError) as refusal:
            set_parameter(name, value, method)
        assert words in refusal.value.response["Error"]["Message"]


def test_with_force_ssl_every_connection_is_encrypted_and_verified(
    thread: CloudThread, account: AwsAccount, rds: Any, tmp_path: Path
) -> None:
    """sslmode=verify-full holds by address and by name; without TLS a client is refused in PostgreSQL's words."""
    rds.create_db_parameter_group(DBParameterGroupName="tls", DBParameterGroupFamily="postgres16", Description="t")
    parameter = {"ParameterName": "rds.force_ssl", "ParameterValue": "1", "ApplyMethod": "immediate"}
    rds.modify_db_parameter_group(DBParameterGroupName="tls", Parameters=[parameter])
    instance = create(account, DBParameterGroupName="tls", EngineVersion="16.4")
    bundle = tmp_path / "rds-ca.pem"
    with urlopen(f"{thread.endpoint_url}/_sunabox/rds-ca.pem") as answer:
        bundle.write_bytes(answer.read())
    address, secret = instance["Endpoint"]["Address"], instance["DbiResourceId"][-12:].lower()
    login = {"hostaddr": address, "user": "master", "password": PASSWORD, "dbname": "postgres"}
    verified = {**login, "sslmode": "verify-full", "sslrootcert": str(bundle)}
    for host in (address, f"db.{secret}.us-east-1.rds.amazonaws.com"):
        with psycopg.connect(host=host, **verified) as connection:
            assert connection.pgconn.ssl_in_use
            row = connection.execute("select length(repeat('x', 3000000))").fetchone()
            assert row == (3_000_000,)
    with pytest.raises(psycopg.OperationalError, match="no-such-name"):
        psycopg.connect(host="no-such-name", **verified)
    with pytest.raises(psycopg.OperationalError, match="no pg_hba.conf entry .* no encryption"):
        psycopg.connect(**login, sslmode="disable")


def test_parameters_that_do_not_fit_each_other_stop_the_server_until_they_are_mended(
    account: AwsAccount, rds: Any
) -> None:
    """What each alone is allowed can be too much together: incompatible-parameters, as on AWS, and the way back."""
    rds.create_db_parameter_group(DBParameterGroupName="mine", DBParameterGroupFamily="postgres16", Description="m")
    create(account, DBParameterGroupName="mine", EngineVersion="16")

    def connections(value: str) -> None:
        parameter = {"ParameterName": "max_connections", "ParameterValue": value, "ApplyMethod": "pending-reboot"}
        rds.modify_db_parameter_group(DBParameterGroupName="mine", Parameters=[parameter])
        rds.reboot_db_instance(DBInstanceIdentifier="db")

    connections("2")  # superuser_reserved_connections alone are 3
    wait(rds, status="incompatible-parameters")
    connections("20")
    assert ask(wait(rds), "show max_connections") == "20"
    messages = [event["Message"] for event in rds.describe_events()["Events"]]
    assert any(message.startswith("Database instance put into incompatible-parameters.") for message in messages)


def test_modifications_wait_for_the_maintenance_window(thread: CloudThread, account: AwsAccount, rds: Any) -> None:
    """Without ApplyImmediately a new size is pending until the window opens; the password is changed at once."""
    clock = CloudHandle(thread.endpoint_url).clock
    instance = create(account)
    opens = clock.now() + timedelta(days=2)
    window = f"{opens:%a:%H:%M}-{opens + timedelta(minutes=30):%a:%H:%M}".lower()
    rds.modify_db_instance(
        DBInstanceIdentifier="db",
        PreferredMaintenanceWindow=window,
        AllocatedStorage=40,
        MasterUserPassword="another-secret",
    )
    assert eventually(lambda: asked(instance, "select 1", "another-secret")) == 1
    pending = wait(rds)
    assert (pending["AllocatedStorage"], pending["PendingModifiedValues"]) == (20, {"AllocatedStorage": 40})
    clock.advance(timedelta(days=2, minutes=1))
    eventually(lambda: wait(rds)["AllocatedStorage"] == 40)
    assert wait(rds)["PendingModifiedValues"] == {}
    with pytest.raises(ClientError, match="cannot be reduced"):
        rds.modify_db_instance(DBInstanceIdentifier="db", AllocatedStorage=20, ApplyImmediately=True)


def test_an_instance_is_deleted_on_aws_terms_and_leaves_nothing(account: AwsAccount, rds: Any) -> None:
    """Protection, the rules of the final snapshot, and then: no endpoint, no interface, no automated backup."""
    instance = create(account, DeletionProtection=True)
    for arguments, words in (
        ({}, "FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified."),
        ({"SkipFinalSnapshot": True}, "Cannot delete protected DB Instance"),
    ):
        with pytest.raises(ClientError, match=words):
            rds.delete_db_instance(DBInstanceIdentifier="db", **arguments)
    rds.modify_db_instance(DBInstanceIdentifier="db", DeletionProtection=False)
    assert len(rds.describe_db_snapshots()["DBSnapshots"]) == 1
    rds.delete_db_instance(DBInstanceIdentifier="db", SkipFinalSnapshot=True)
    with pytest.raises(ClientError, match="already being deleted"):
        rds.delete_db_instance(DBInstanceIdentifier="db", SkipFinalSnapshot=True)
    rds.get_waiter("db_instance_deleted").wait(DBInstanceIdentifier="db", WaiterConfig={"Delay": 0.05})
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((instance["Endpoint"]["Address"], 5432), timeout=5)
    assert account.client("ec2").describe_network_interfaces()["NetworkInterfaces"] == []
    assert rds.describe_db_snapshots()["DBSnapshots"] == []


def test_a_subnet_group_covers_two_zones_and_is_kept_while_it_is_used(account: AwsAccount, rds: Any) -> None:
    """One zone is refused, a group in use stays, and the instance's interface is in the group's subnet."""
    ec2 = account.client("ec2")
    subnets = ec2.describe_subnets()["Subnets"][:2]
    group = {"DBSubnetGroupName": "Two", "DBSubnetGroupDescription": "two"}
    with pytest.raises(ClientError, match="Add subnets to cover at least 2 AZs"):
        rds.create_db_subnet_group(**group, SubnetIds=[subnets[0]["SubnetId"]])
    rds.create_db_subnet_group(**group, SubnetIds=[subnet["SubnetId"] for subnet in subnets])
    create(account, DBSubnetGroupName="two", AvailabilityZone=subnets[1]["AvailabilityZone"])
    (interface,) = ec2.describe_network_interfaces()["NetworkInterfaces"]
    assert (interface["SubnetId"], interface["Description"]) == (subnets[1]["SubnetId"], "RDSNetworkInterface")
    with pytest.raises(ClientError, match="is still using it"):
        rds.delete_db_subnet_group(DBSubnetGroupName="two")


def test_data_and_endpoint_outlive_a_restart_of_the_emulator(tmp_path: Path) -> None:
    """With a data folder, an instance serves again at its address, with its data, groups, tags and snapshots, before
    anybody asks the API for it."""
    folder, account_id = tmp_path / "data", new_account_id()

    def run() -> tuple[CloudThread, AwsAccount]:
        cloud = CloudThread(CloudOptions(port=0, runtime="process", data_dir=folder))
        cloud.start()
        return cloud, AwsAccount(cloud.endpoint_url, account_id)

    cloud, account = run()
    try:
        rds = account.client("rds")
        rds.create_db_parameter_group(DBParameterGroupName="m", DBParameterGroupFamily="postgres16", Description="m")
        instance = create(account, DBParameterGroupName="m", EngineVersion="16.4", Tags=[{"Key": "a", "Value": "b"}])
        managed = {**REQUEST, "DBInstanceIdentifier": "managed", "ManageMasterUserPassword": True}
        del managed["MasterUserPassword"]
        rds.create_db_instance(**managed)
        wait(rds, "managed")
        rds.stop_db_instance(DBInstanceIdentifier="managed")
        wait(rds, "managed", "stopped")
        with psycopg.connect(
            host=instance["Endpoint"]["Address"], user="master", password=PASSWORD, dbname="postgres"
        ) as connection:
            connection.execute("create table t as select 7 as n")
    finally:
        cloud.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((instance["Endpoint"]["Address"], 5432), timeout=5)

    cloud, account = run()
    try:
        assert eventually(lambda: asked(instance, "select n from t"), within=20) == 7
        rds = account.client("rds")
        again = wait(rds)
        for name in ("Endpoint", "DBInstanceArn", "DbiResourceId", "DBParameterGroups", "TagList", "VpcSecurityGroups"):
            assert again[name] == instance[name]
        assert [snapshot["Status"] for snapshot in rds.describe_db_snapshots()["DBSnapshots"]] == ["available"] * 2
        secret = wait(rds, "managed", "stopped")["MasterUserSecret"]["SecretArn"]
        assert account.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"]
        for name in ("db", "managed"):
            rds.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
            rds.get_waiter("db_instance_deleted").wait(DBInstanceIdentifier=name, WaiterConfig={"Delay": 0.05})
        assert not [path for path in (folder / "rds").rglob("*") if path.is_file() and path.name == "record.json"]
    finally:
        cloud.stop()


def asked(instance: dict[str, Any], statement: str, password: str = PASSWORD) -> int:
    """0 as long as nobody answers, or not to this password."""
    try:
        return int(ask(instance, statement, password))
    except psycopg.OperationalError:
        return 0


def test_the_memory_runtime_has_no_servers_and_says_so() -> None:
    """An instance that nobody can connect to would be a lie."""
    cloud = CloudThread(CloudOptions(port=0, runtime="memory"))
    cloud.start()
    try:
        rds = AwsAccount(cloud.endpoint_url, new_account_id()).client("rds")
        with pytest.raises(ClientError, match="--runtime process"):
            rds.create_db_instance(**REQUEST)
    finally:
        cloud.stop()
