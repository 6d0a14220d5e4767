"""Chapter 5, the second half: the cache leaves the host.

The scores that the program has computed are kept in a Redis beside it. ElastiCache takes that over: AWS starts the
server, replaces it when it dies, and keeps replicas of it. A cache has no data to move, only an address to change; what
has to be right are the endpoints, and who may reach them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from botocore.exceptions import ClientError
from checks import recommended
from fargate import Fargate
from program import DATA, Program

from emulation.clock import monotonic
from emulation.testing.account import AwsAccount

pytestmark = pytest.mark.needs_runtime("process", "docker")

ProgramOn = Callable[[Mapping[str, str]], Program]
Eventually = Callable[..., Any]
Endpoint = dict[str, Any]
WAIT = {"Delay": 0.1, "MaxAttempts": 300}
EVERYBODY = "0.0.0.0/0"
TOKEN = "a-sieve-has-many-holes"

ASK = """
import os, redis
cache = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True, socket_connect_timeout=2)
print("found", cache.get("from-the-host"), flush=True)
cache.set("from-the-task", "hello")
"""


@dataclass
class ElastiCache:
    """Amazon ElastiCache in an account."""

    aws: AwsAccount

    def __post_init__(self) -> None:
        self.client, self.ec2 = self.aws.client("elasticache"), self.aws.client("ec2")

    def security_group(self, name: str, *ranges: str) -> str:
        """A security group that lets these ranges in on port 6379."""
        vpc = self.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        group: str = self.ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"]
        for each in ranges:
            self.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[redis_from(each)])
        return group

    def cluster(self, group: str, **more: Any) -> Endpoint:
        """A cache cluster of one node, waited for as `aws elasticache wait` does, only more often: its endpoint."""
        self.client.create_cache_cluster(
            CacheClusterId="scores",
            Engine="redis",
            CacheNodeType="cache.t3.micro",
            NumCacheNodes=1,
            SecurityGroupIds=[group],
            **more,
        )
        self.client.get_waiter("cache_cluster_available").wait(CacheClusterId="scores", WaiterConfig=WAIT)
        answer = self.client.describe_cache_clusters(CacheClusterId="scores", ShowCacheNodeInfo=True)
        return dict(answer["CacheClusters"][0]["CacheNodes"][0]["Endpoint"])

    def group(self, security_group: str, **more: Any) -> None:
        """A replication group, waited for."""
        self.client.create_replication_group(
            ReplicationGroupId="scores",
            ReplicationGroupDescription="scores of the web application",
            Engine="valkey",
            CacheNodeType="cache.t3.micro",
            SecurityGroupIds=[security_group],
            AutomaticFailoverEnabled=True,
            **more,
        )
        self.until_available()

    def until_available(self) -> None:
        self.client.get_waiter("replication_group_available").wait(ReplicationGroupId="scores", WaiterConfig=WAIT)

    def described(self) -> dict[str, Any]:
        (only,) = self.client.describe_replication_groups(ReplicationGroupId="scores")["ReplicationGroups"]
        return dict(only)

    def primary(self) -> str:
        members = self.described()["NodeGroups"][0]["NodeGroupMembers"]
        (name,) = [member["CacheClusterId"] for member in members if member["CurrentRole"] == "primary"]
        return str(name)

    def events(self) -> list[str]:
        return [event["Message"] for event in self.client.describe_events(Duration=600)["Events"]]

    def remove_all(self) -> None:
        for group in self.client.describe_replication_groups()["ReplicationGroups"]:
            self.client.delete_replication_group(ReplicationGroupId=group["ReplicationGroupId"])
        answer = self.client.describe_cache_clusters(ShowCacheClustersNotInReplicationGroups=True)
        for cluster in answer["CacheClusters"]:
            self.client.delete_cache_cluster(CacheClusterId=cluster["CacheClusterId"])


def redis_from(source: str) -> dict[str, Any]:
    return {"IpProtocol": "tcp", "FromPort": 6379, "ToPort": 6379, "IpRanges": [{"CidrIp": source}]}


def url(endpoint: Endpoint) -> str:
    return f"redis://{endpoint['Address']}:{endpoint['Port']}/0"


def client(endpoint: Endpoint) -> "redis.Redis[str]":
    return redis.Redis.from_url(url(endpoint), decode_responses=True, socket_connect_timeout=1)


@pytest.fixture
def cache(aws: AwsAccount) -> Iterator[ElastiCache]:
    """ElastiCache in the test's account. Its caches go with the test; nobody waits for that."""
    cache = ElastiCache(aws)
    yield cache
    cache.remove_all()


def test_the_cache_must_move_to_elasticache_with_one_variable(
    furui_on: ProgramOn, postgres: str, valkey: str, cache: ElastiCache
) -> None:
    """REDIS_URL changes, and the recommendations stay the same: the new cache is empty, and fills by itself.

    Look at the keys of the new server: the scores of the same version of the model.
    """
    here = furui_on({"DATABASE_URL": postgres, "REDIS_URL": valkey})
    version = here.must("train", "--import", DATA).line("model")["version"]
    before = recommended(here)

    endpoint = cache.cluster(cache.security_group("cache", EVERYBODY))
    there = furui_on({"DATABASE_URL": postgres, "REDIS_URL": url(endpoint)})

    assert recommended(there) == before
    with client(endpoint) as server:
        (key,) = server.keys()
        assert version in key
        server.hset(key, before[9], "99.5")
        assert recommended(there)[0] == before[9], "the score came from somewhere else than the new cache"


def test_a_task_must_reach_the_cache_at_the_endpoint_that_the_host_reaches(
    fargate: Fargate, furui_image: str, cache: ElastiCache
) -> None:
    """One REDIS_URL for the laptop and for Fargate: what the one writes, the other reads.

    Look at the endpoint: an address and the standard port. On AWS the address is a name.
    """
    endpoint = cache.cluster(cache.security_group("cache", EVERYBODY))
    with client(endpoint) as server:
        server.set("from-the-host", "good morning")
        environment = [{"name": "REDIS_URL", "value": url(endpoint)}]
        definition = fargate.register("ask", furui_image, ["python3", "-c", ASK], environment=environment)

        task = fargate.stopped(fargate.run(definition, fargate.security_group("tasks")))

        assert task["containers"][0]["exitCode"] == 0, fargate.lines(task["taskArn"])
        assert fargate.lines(task["taskArn"]) == ["found good morning"]
        assert server.get("from-the-task") == "hello"


def test_a_security_group_without_the_port_of_the_cache_must_answer_nothing(
    fargate: Fargate, furui_image: str, cache: ElastiCache
) -> None:
    """Nobody refuses the task; it waits until its own patience ends. So does the host.

    Look at how long it takes: a refused connection fails at once, one that a security group drops does not.
    """
    group = cache.security_group("closed", "192.0.2.0/24")
    endpoint = cache.cluster(group)
    environment = [{"name": "REDIS_URL", "value": url(endpoint)}]
    definition = fargate.register("ask", furui_image, ["python3", "-c", ASK], environment=environment)

    task = fargate.stopped(fargate.run(definition, fargate.security_group("tasks")))

    assert task["containers"][0]["exitCode"] == 1
    assert "Timeout" in fargate.lines(task["taskArn"])[-1]
    began = monotonic()
    with pytest.raises(redis.TimeoutError), client(endpoint) as server:
        server.ping()
    assert monotonic() - began >= 1
    cache.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[redis_from(EVERYBODY)])
    with client(endpoint) as server:
        assert server.ping()


def test_a_replica_must_answer_reads_and_refuse_writes(cache: ElastiCache, eventually: Eventually) -> None:
    """The primary endpoint takes what the program writes, the reader endpoint answers what it asks: two addresses.

    Look at the error: READONLY. A program that writes to the reader endpoint by mistake learns of it here.
    """
    cache.group(cache.security_group("cache", EVERYBODY), NumCacheClusters=2)
    (shard,) = cache.described()["NodeGroups"]

    with client(shard["PrimaryEndpoint"]) as primary, client(shard["ReaderEndpoint"]) as reader:
        primary.set("word", "sieve")
        eventually(lambda: reader.get("word") == "sieve", within=5)
        with pytest.raises(redis.ReadOnlyError):
            reader.set("word", "colander")


def test_a_failover_must_keep_the_data_and_the_endpoint(cache: ElastiCache) -> None:
    """The engineer tests what happens when a zone fails, on a quiet morning: `aws elasticache test-failover`.

    The replica becomes the primary, and the primary endpoint leads to it; the program connects again, to the same
    address. Look at the events: who has taken over from whom.
    """
    cache.group(cache.security_group("cache", EVERYBODY), NumCacheClusters=2)
    endpoint = cache.described()["NodeGroups"][0]["PrimaryEndpoint"]
    with client(endpoint) as primary:
        primary.set("word", "sieve")
    assert cache.primary() == "scores-001"

    cache.client.test_failover(ReplicationGroupId="scores", NodeGroupId="0001")
    cache.until_available()

    assert cache.primary() == "scores-002"
    assert cache.described()["NodeGroups"][0]["PrimaryEndpoint"] == endpoint
    with client(endpoint) as primary:
        assert primary.get("word") == "sieve"
        assert primary.set("word", "colander")
    assert "Failover from master node scores-001 to replica node scores-002 completed" in cache.events()


def test_an_auth_token_must_be_needed_and_travel_encrypted(
    furui_on: ProgramOn, cache: ElastiCache, tmp_path: Path
) -> None:
    """A password that travels in the clear is none; so ElastiCache has AUTH tokens only together with TLS.

    REDIS_URL becomes rediss://. Look at what happens without the token: the program goes on without its cache.
    """
    group = cache.security_group("cache", EVERYBODY)
    with pytest.raises(ClientError, match="In-transit encryption"):
        cache.group(group, NumCacheClusters=2, AuthToken=TOKEN)
    cache.group(group, NumCacheClusters=2, AuthToken=TOKEN, TransitEncryptionEnabled=True)
    endpoint = cache.described()["NodeGroups"][0]["PrimaryEndpoint"]
    root = tmp_path / "root.pem"
    root.write_bytes(httpx.get(f"{cache.aws.endpoint_url}/_sunabox/rds-ca.pem").content)
    address = f"{endpoint['Address']}:{endpoint['Port']}/0?ssl_ca_certs={root}"

    furui_on({}).must("train", "--import", DATA)
    with_token = furui_on({"REDIS_URL": f"rediss://:{TOKEN}@{address}"}).must("recommend")
    without = furui_on({"REDIS_URL": f"rediss://{address}"}).must("recommend")

    assert not with_token.lines("cache-unavailable")
    (line,) = without.lines("cache-unavailable")
    assert "authenticate" in line["reason"]
    assert with_token.lines("recommend") == without.lines("recommend")


def test_a_cluster_must_spread_its_keys_over_its_shards(cache: ElastiCache) -> None:
    """Cluster mode: more data than one node holds. The client asks the configuration endpoint who has which slots.

    Look at the shards: each has its own keys, and none has all of them.
    """
    cache.group(cache.security_group("cache", EVERYBODY), NumNodeGroups=2, ReplicasPerNodeGroup=0)
    endpoint = cache.described()["ConfigurationEndpoint"]

    with redis.RedisCluster(endpoint["Address"], endpoint["Port"], decode_responses=True) as cluster:
        for number in range(100):
            cluster.set(f"score-{number}", number)
        assert sum(int(cluster.get(f"score-{number}")) for number in range(100)) == 4950
        sizes = [cluster.dbsize(target_nodes=node) for node in cluster.get_primaries()]

    assert len(sizes) == 2
    assert sum(sizes) == 100
    assert min(sizes) > 20
