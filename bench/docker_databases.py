"""DB instances and caches on the docker runtime: from the call that creates one to a connection that it accepts."""

import socket
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import psycopg

from bench.figures import Figure, spread
from bench.servers import sunabox
from emulation.runtime.dockerd import address

_ACCOUNT = "200000000001"
_PASSWORD = "bench-secret"
_PAUSE_SECONDS = 0.02
_PATIENCE_SECONDS = 120.0
_DATABASE_TARGET, _CACHE_TARGET = 4.0, 1.5


def measure(rounds: int) -> Iterator[Figure]:
    if not address.usable():
        url = address.daemon_url()
        print(f"left out: {address.obstacle(url) or f'no Docker daemon answers at {url}'}")
        return
    databases: list[float] = []
    caches: list[float] = []
    with sunabox("docker") as server:
        rds, elasticache, ec2 = (server.client(name, _ACCOUNT) for name in ("rds", "elasticache", "ec2"))
        group = _open(ec2)
        _database(rds, group, "first")  # makes the images, where they are not there
        _cache(elasticache, group, "first")
        for number in range(rounds):
            databases.append(_database(rds, group, f"database-{number}"))
            caches.append(_cache(elasticache, group, f"cache-{number}"))
    for name, seconds, target in (
        ("RDS create → accepts a connection on docker", databases, _DATABASE_TARGET),
        ("ElastiCache create → accepts a connection on docker", caches, _CACHE_TARGET),
    ):
        yield Figure(name, median(seconds), "s", target, remark=spread(seconds, "s"))


def _open(ec2: Any) -> str:
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = str(ec2.create_security_group(GroupName="bench", Description="bench", VpcId=vpc)["GroupId"])
    for port in (5432, 6379):
        ec2.authorize_security_group_ingress(
            GroupId=group, IpProtocol="tcp", FromPort=port, ToPort=port, CidrIp="0.0.0.0/0"
        )
    return group


def _database(rds: Any, group: str, name: str) -> float:
    begun = time.perf_counter()
    rds.create_db_instance(
        DBInstanceIdentifier=name,
        DBInstanceClass="db.t3.micro",
        Engine="postgres",
        AllocatedStorage=20,
        MasterUsername="bench",
        MasterUserPassword=_PASSWORD,
        VpcSecurityGroupIds=[group],
        BackupRetentionPeriod=0,
    )

    def endpoint() -> dict[str, Any] | None:
        found: dict[str, Any] | None = rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0].get(
            "Endpoint"
        )
        return found

    def connect(place: dict[str, Any]) -> None:
        psycopg.connect(
            host=place["Address"], port=place["Port"], user="bench", password=_PASSWORD, dbname="postgres"
        ).close()

    seconds = _until(endpoint, connect, begun)
    rds.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
    return seconds


def _cache(elasticache: Any, group: str, name: str) -> float:
    begun = time.perf_counter()
    elasticache.create_cache_cluster(
        CacheClusterId=name,
        Engine="redis",
        CacheNodeType="cache.t3.micro",
        NumCacheNodes=1,
        SecurityGroupIds=[group],
    )

    def endpoint() -> dict[str, Any] | None:
        (cluster,) = elasticache.describe_cache_clusters(CacheClusterId=name, ShowCacheNodeInfo=True)["CacheClusters"]
        nodes = cluster.get("CacheNodes") or [{}]
        found: dict[str, Any] | None = nodes[0].get("Endpoint")
        return found

    def connect(place: dict[str, Any]) -> None:
        with socket.create_connection((place["Address"], place["Port"]), timeout=5) as connection:
            connection.sendall(b"PING\r\n")
            if not connection.recv(16).startswith(b"+PONG"):
                raise OSError("the cache is not ready")

    seconds = _until(endpoint, connect, begun)
    elasticache.delete_cache_cluster(CacheClusterId=name)
    return seconds


def _until(
    endpoint: Callable[[], dict[str, Any] | None], connect: Callable[[dict[str, Any]], None], begun: float
) -> float:
    while True:
        if (place := endpoint()) and place.get("Address"):
            try:
                connect(place)
                return time.perf_counter() - begun
            except (OSError, psycopg.OperationalError):
                pass
        if time.perf_counter() - begun > _PATIENCE_SECONDS:
            raise RuntimeError("The server was not there in time; the log is above.")
        time.sleep(_PAUSE_SECONDS)
