"""What the chapter on managed databases does again and again. Everything goes through AWS's API."""

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from emulation.rds.server import client_program
from emulation.testing.account import AwsAccount

USER, PASSWORD, NAME = "furui", "a-sieve's+secret", "furui"
Eventually = Callable[..., Any]


@dataclass
class Rds:
    """Amazon RDS in an account, and a security group that lets everybody reach PostgreSQL."""

    aws: AwsAccount

    def __post_init__(self) -> None:
        self.client, self.ec2 = self.aws.client("rds"), self.aws.client("ec2")
        self.vpc: str = self.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]

    def security_group(self, name: str, *sources: dict[str, Any]) -> str:
        """A security group that lets these sources in on port 5432."""
        group: str = self.ec2.create_security_group(GroupName=name, Description=name, VpcId=self.vpc)["GroupId"]
        for source in sources:
            self.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[postgres_from(source)])
        return group

    def create(self, identifier: str, *groups: str, **more: Any) -> "Instance":
        """CreateDBInstance, as small as AWS has it."""
        if not more.get("ManageMasterUserPassword"):
            more.setdefault("MasterUserPassword", PASSWORD)
        self.client.create_db_instance(
            DBInstanceIdentifier=identifier,
            DBInstanceClass="db.t3.micro",
            Engine="postgres",
            MasterUsername=USER,
            DBName=NAME,
            AllocatedStorage=20,
            VpcSecurityGroupIds=list(groups),
            **more,
        )
        return Instance(self, identifier)

    def events(self, identifier: str) -> list[str]:
        answer = self.client.describe_events(SourceIdentifier=identifier, SourceType="db-instance", Duration=600)
        return [event["Message"] for event in answer["Events"]]


@dataclass(frozen=True)
class Instance:
    """A DB instance."""

    rds: Rds
    identifier: str

    def describe(self) -> dict[str, Any]:
        (only,) = self.rds.client.describe_db_instances(DBInstanceIdentifier=self.identifier)["DBInstances"]
        return dict(only)

    @property
    def status(self) -> str:
        return str(self.describe()["DBInstanceStatus"])

    def available(self) -> "Instance":
        """Waits as the AWS CLI does (`aws rds wait db-instance-available`), only more often."""
        waiter = self.rds.client.get_waiter("db_instance_available")
        waiter.wait(DBInstanceIdentifier=self.identifier, WaiterConfig={"Delay": 0.1, "MaxAttempts": 300})
        return self

    def url(self, password: str = PASSWORD) -> str:
        """What goes into DATABASE_URL: the endpoint that the API returns."""
        endpoint = self.describe()["Endpoint"]
        return f"postgresql://{USER}:{quote(password, safe='')}@{endpoint['Address']}:{endpoint['Port']}/{NAME}"

    def tell(self, statement: str) -> None:
        """Executes SQL."""
        with psycopg.connect(self.url(), connect_timeout=5) as connection:
            connection.execute(statement.encode())

    def ask(self, statement: str, password: str = PASSWORD) -> Any:
        """The first value of the first row."""
        with psycopg.connect(self.url(password), connect_timeout=5) as connection:
            row = connection.execute(statement.encode()).fetchone()
            return row[0] if row else None

    def kill(self) -> None:
        """SIGKILL to the server behind the endpoint: the machine that fails."""
        with psycopg.connect(self.url(), connect_timeout=5) as connection:
            backend = connection.info.backend_pid
            server = int(Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1])
            os.kill(server, signal.SIGKILL)


def postgres_from(source: dict[str, Any]) -> dict[str, Any]:
    """A rule for port 5432. `source` names a range of addresses or another security group."""
    kind = "UserIdGroupPairs" if "GroupId" in source else "IpRanges"
    return {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, kind: [source]}


def dump_and_restore(source: str, target: str) -> None:
    """Moving day: `pg_dump old | psql new`."""
    dumped = subprocess.run(
        [client_program("pg_dump"), "--no-owner", "--no-acl", source], capture_output=True, check=True
    )
    subprocess.run(
        [client_program("psql"), "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction", target],
        input=dumped.stdout,
        capture_output=True,
        check=True,
    )
