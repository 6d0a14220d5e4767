"""Chapter 5: the databases leave the host.

The engineer's PostgreSQL runs beside the program, on a disk that nobody backs up. RDS takes it over: AWS starts the
server, backs it up, restarts it when it dies. The program stays the same, and so does its way to say where its data
is; only DATABASE_URL has another value.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg
import pytest
from botocore.exceptions import ClientError
from checks import counts, recommended
from databases import NAME, USER, Rds, dump_and_restore, postgres_from
from fargate import Fargate
from program import DATA, Program

from emulation.testing.account import AwsAccount

pytestmark = pytest.mark.needs_runtime("process", "docker")

ProgramOn = Callable[[Mapping[str, str]], Program]
Eventually = Callable[..., Any]
EVERYBODY = {"CidrIp": "0.0.0.0/0"}


@pytest.fixture
def rds(aws: AwsAccount) -> Iterator[Rds]:
    """RDS in the test's account. Its instances go with the test; nobody waits for that."""
    rds = Rds(aws)
    yield rds
    for instance in rds.client.describe_db_instances()["DBInstances"]:
        if instance["DBInstanceStatus"] in ("available", "stopped"):
            name = instance["DBInstanceIdentifier"]
            rds.client.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)


def test_the_data_must_move_to_rds_without_loss(furui_on: ProgramOn, postgres: str, rds: Rds) -> None:
    """`pg_dump` reads the old database, `psql` fills the new one, and DATABASE_URL changes.

    Look at the endpoint: an address and the standard port. On AWS the address is a name, and the same for ever.
    """
    here = furui_on({"DATABASE_URL": postgres})
    here.must("import", DATA)
    here.must("train", "--seed", "3")

    instance = rds.create("furui", rds.security_group("database", EVERYBODY)).available()
    dump_and_restore(postgres, instance.url())

    there = furui_on({"DATABASE_URL": instance.url()})
    assert counts(there) == counts(here)
    assert counts(there)["count"] == 1431
    assert recommended(there) == recommended(here)


def test_an_instance_must_be_created_backed_up_and_available(rds: Rds) -> None:
    """Creating, backing-up, available: what the console shows for ten minutes. The events say the same in words.

    Look at EngineVersion: it is the version that really runs, whatever was asked for.
    """
    instance = rds.create("furui", rds.security_group("database", EVERYBODY))
    assert instance.status == "creating"
    assert "Endpoint" not in instance.describe()

    shown = instance.available().describe()

    assert shown["Endpoint"]["Port"] == 5432
    assert instance.ask("show server_version") == shown["EngineVersion"]
    assert instance.ask("select current_user || ' of ' || current_database()") == f"{USER} of {NAME}"
    assert rds.events("furui") == ["DB instance created", "Backing up DB instance", "Finished DB Instance backup"]


def test_a_task_must_reach_the_endpoint_that_the_host_reaches(
    fargate: Fargate, furui_image: str, rds: Rds, furui_on: ProgramOn
) -> None:
    """One DATABASE_URL for the laptop and for Fargate. The rule names the task's security group, not an address.

    Look at the group of the database: "from sg-…" follows the tasks wherever they run.
    """
    tasks = fargate.security_group("tasks")
    instance = rds.create("furui", rds.security_group("database", EVERYBODY, {"GroupId": tasks})).available()
    url = instance.url()
    at_home = furui_on({"DATABASE_URL": url})
    at_home.must("import", DATA)
    group = instance.describe()["VpcSecurityGroups"][0]["VpcSecurityGroupId"]
    rds.ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[postgres_from(EVERYBODY)])

    definition = fargate.register(
        "train", furui_image, ["furui", "train"], environment=[{"name": "DATABASE_URL", "value": url}]
    )
    task = fargate.stopped(fargate.run(definition, tasks))

    assert task["containers"][0]["exitCode"] == 0, fargate.lines(task["taskArn"])
    with pytest.raises(psycopg.errors.ConnectionTimeout):
        psycopg.connect(url, connect_timeout=2)
    rds.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[postgres_from(EVERYBODY)])
    assert len(at_home.must("recommend").lines("recommend")) == 10


def test_a_security_group_without_the_port_must_answer_nothing(fargate: Fargate, furui_image: str, rds: Rds) -> None:
    """The task waits, and waits; nobody refuses it. The engineer looks into the log, and then at the security group.

    Look at the line in the log: PostgreSQL did not answer in time.
    """
    instance = rds.create("furui", rds.security_group("closed", {"CidrIp": "192.0.2.0/24"})).available()
    environment = [{"name": "DATABASE_URL", "value": instance.url()}]
    definition = fargate.register("diagnose", furui_image, ["furui", "diagnose"], environment=environment)

    task = fargate.stopped(fargate.run(definition, fargate.security_group("tasks")))

    assert task["containers"][0]["exitCode"] == 2
    (line,) = [line for line in fargate.lines(task["taskArn"]) if "PostgreSQL" in line]
    assert "timeout expired" in line


def test_data_must_outlive_reboot_stop_and_start(rds: Rds, eventually: Eventually) -> None:
    """A stopped instance costs its storage only. Its endpoint and its data are the same when it comes back.

    Look at the status on the way: stopping, stopped, starting, available.
    """
    instance = rds.create("furui", rds.security_group("database", EVERYBODY)).available()
    url = instance.url()
    instance.tell("create table notes as select 'kept' as text")

    rds.client.reboot_db_instance(DBInstanceIdentifier="furui")
    eventually(lambda: "DB instance restarted" in rds.events("furui"), within=20)
    instance.available()
    assert instance.ask("select text from notes") == "kept"

    rds.client.stop_db_instance(DBInstanceIdentifier="furui")
    eventually(lambda: instance.status == "stopped", within=20)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2)
    rds.client.start_db_instance(DBInstanceIdentifier="furui")
    eventually(lambda: instance.status == "available", within=20)

    assert instance.url() == url
    assert instance.ask("select text from notes") == "kept"


def test_a_server_that_is_killed_must_come_back_with_its_data(rds: Rds, eventually: Eventually) -> None:
    """Machines fail. RDS notices, starts the server again, and PostgreSQL recovers what was committed from its log.

    Look at the events: recovery has started, recovery is complete.
    """
    instance = rds.create("furui", rds.security_group("database", EVERYBODY)).available()
    instance.tell("create table notes as select 'kept' as text")

    instance.kill()

    eventually(lambda: "Recovery of the DB instance is complete." in rds.events("furui"), within=20)
    assert instance.ask("select text from notes") == "kept"


def test_a_managed_password_must_be_found_in_secrets_manager(rds: Rds, eventually: Eventually, aws: AwsAccount) -> None:
    """Nobody has to know the master password: RDS makes it, keeps it in Secrets Manager, and rotates it.

    Look at the secret's name: it begins with "rds!".
    """
    instance = rds.create(
        "furui",
        rds.security_group("database", EVERYBODY),
        ManageMasterUserPassword=True,
    ).available()
    secrets = aws.client("secretsmanager")
    arn = instance.describe()["MasterUserSecret"]["SecretArn"]

    def password() -> str:
        return str(json.loads(secrets.get_secret_value(SecretId=arn)["SecretString"])["password"])

    first = password()
    assert instance.ask("select current_user", first) == USER
    secrets.rotate_secret(SecretId=arn)
    eventually(lambda: instance.describe()["MasterUserSecret"]["SecretStatus"] == "active", within=20)
    assert password() != first
    assert instance.ask("select current_user", password()) == USER
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        instance.ask("select 1", first)


def test_a_snapshot_must_bring_the_data_back(rds: Rds, eventually: Eventually) -> None:
    """The engineer deletes the wrong table. A snapshot of this morning becomes a new instance beside the old one.

    Look at the identifiers: a snapshot is never restored over an instance that exists.
    """
    group = rds.security_group("database", EVERYBODY)
    instance = rds.create("furui", group).available()
    instance.tell("create table notes as select 'kept' as text")
    rds.client.create_db_snapshot(DBInstanceIdentifier="furui", DBSnapshotIdentifier="morning")
    rds.client.get_waiter("db_snapshot_available").wait(DBSnapshotIdentifier="morning", WaiterConfig={"Delay": 0.1})
    instance.tell("drop table notes")

    with pytest.raises(ClientError, match="DBInstanceAlreadyExists"):
        rds.client.restore_db_instance_from_db_snapshot(DBInstanceIdentifier="furui", DBSnapshotIdentifier="morning")
    rds.client.restore_db_instance_from_db_snapshot(
        DBInstanceIdentifier="restored", DBSnapshotIdentifier="morning", VpcSecurityGroupIds=[group]
    )
    restored = type(instance)(rds, "restored").available()

    assert restored.ask("select text from notes") == "kept"
    assert restored.url() != instance.url()
    rds.client.delete_db_instance(DBInstanceIdentifier="furui", FinalDBSnapshotIdentifier="last")
    rds.client.get_waiter("db_instance_deleted").wait(DBInstanceIdentifier="furui", WaiterConfig={"Delay": 0.1})
    (last,) = rds.client.describe_db_snapshots(DBSnapshotIdentifier="last")["DBSnapshots"]
    assert last["Status"] == "available"
