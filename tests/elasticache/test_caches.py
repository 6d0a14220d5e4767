"""ElastiCache's API in front of real servers: their life, their settings, their data."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from botocore.exceptions import ClientError

from emulation.cloud import CloudOptions
from emulation.testing.account import AwsAccount, new_account_id
from emulation.testing.cloud_thread import CloudThread
from emulation.testing.eventually import eventually

WAIT = {"Delay": 0.05, "MaxAttempts": 600}


class ElastiCache:
    """An account's caches, and a security group that lets everybody in."""

    def __init__(self, aws: AwsAccount) -> None:
        self.client, self.ec2 = aws.client("elasticache"), aws.client("ec2")
        vpc = self.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        self.open: str = self.ec2.create_security_group(GroupName="open", Description="open", VpcId=vpc)["GroupId"]
        everybody = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        self.ec2.authorize_security_group_ingress(GroupId=self.open, IpPermissions=[everybody])

    def create(self, name: str = "one", **more: Any) -> dict[str, Any]:
        asked = {"Engine": "valkey", "CacheNodeType": "cache.t3.micro", "SecurityGroupIds": [self.open], **more}
        return dict(self.client.create_cache_cluster(CacheClusterId=name, **asked)["CacheCluster"])

    def group(self, **more: Any) -> dict[str, Any]:
        asked = {"Engine": "valkey", "CacheNodeType": "cache.t3.micro", "SecurityGroupIds": [self.open], **more}
        asked = {"ReplicationGroupId": "group", "ReplicationGroupDescription": "tried", **asked}
        return dict(self.client.create_replication_group(**asked)["ReplicationGroup"])

    def available(self, name: str = "one") -> dict[str, Any]:
        self.client.get_waiter("cache_cluster_available").wait(CacheClusterId=name, WaiterConfig=WAIT)
        return self.described(name)

    def group_available(self) -> dict[str, Any]:
        self.client.get_waiter("replication_group_available").wait(ReplicationGroupId="group", WaiterConfig=WAIT)
        return self.described_group()

    def described(self, name: str = "one") -> dict[str, Any]:
        answer = self.client.describe_cache_clusters(CacheClusterId=name, ShowCacheNodeInfo=True)
        return dict(answer["CacheClusters"][0])

    def described_group(self) -> dict[str, Any]:
        return dict(self.client.describe_replication_groups(ReplicationGroupId="group")["ReplicationGroups"][0])

    def redis(self, name: str = "one") -> "redis.Redis[str]":
        return connect(self.described(name)["CacheNodes"][0]["Endpoint"])

    def events(self, source: str = "one") -> list[str]:
        events = self.client.describe_events(Duration=600)["Events"]
        return [event["Message"] for event in events if event["SourceIdentifier"] == source]

    def kill(self, name: str = "one") -> None:
        """SIGKILL to the node's server."""
        with self.redis(name) as client:
            os.kill(int(client.info("server")["process_id"]), signal.SIGKILL)

    def remove_all(self) -> None:
        for group in self.client.describe_replication_groups()["ReplicationGroups"]:
            if group["Status"] == "available":
                self.client.delete_replication_group(ReplicationGroupId=group["ReplicationGroupId"])
        for cluster in self.client.describe_cache_clusters(ShowCacheClustersNotInReplicationGroups=True)[
            "CacheClusters"
        ]:
            if cluster["CacheClusterStatus"] == "available":
                self.client.delete_cache_cluster(CacheClusterId=cluster["CacheClusterId"])


def connect(endpoint: dict[str, Any]) -> "redis.Redis[str]":
    return redis.Redis(
        endpoint["Address"], endpoint["Port"], decode_responses=True, socket_connect_timeout=1, retry=None
    )


def code(call: Callable[..., Any], **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as refused:
        call(**request)
    return refused.value.response["Error"]["Code"], refused.value.response["Error"]["Message"]


@pytest.fixture(scope="module")
def process_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudThread]:
    thread = CloudThread(CloudOptions(port=0, runtime="process", library=tmp_path_factory.mktemp("library")))
    thread.start()
    yield thread
    thread.stop()


@pytest.fixture
def caches(process_cloud: CloudThread) -> Iterator[ElastiCache]:
    made = ElastiCache(AwsAccount(process_cloud.endpoint_url, new_account_id()))
    yield made
    made.remove_all()


def test_a_cluster_is_created_serves_and_is_gone_when_it_is_deleted(caches: ElastiCache) -> None:
    """creating → available → deleting → CacheClusterNotFound; the interface goes with it, the events say so."""
    created = caches.create(Engine="redis", EngineVersion="7.1")
    assert (created["CacheClusterStatus"], "CacheNodes" in created) == ("creating", False)
    described = caches.available()
    with caches.redis() as client:
        assert client.set("key", "value") and client.get("key") == "value"
        assert client.info("server")["valkey_version"] == described["EngineVersion"]
        assert client.info("memory")["maxmemory"] == 536870912 * 3 // 4
    interfaces = caches.ec2.describe_network_interfaces()["NetworkInterfaces"]
    assert [i["Description"] for i in interfaces] == ["ElastiCache one"]
    assert code(caches.ec2.delete_security_group, GroupId=caches.open)[0] == "DependencyViolation"
    assert "CacheNodes" not in caches.client.describe_cache_clusters()["CacheClusters"][0]
    assert caches.client.delete_cache_cluster(CacheClusterId="one")["CacheCluster"]["CacheClusterStatus"] == "deleting"
    assert caches.described()["CacheClusterStatus"] == "deleting"
    caches.client.get_waiter("cache_cluster_deleted").wait(CacheClusterId="one", WaiterConfig=WAIT)
    assert code(caches.client.describe_cache_clusters, CacheClusterId="one")[0] == "CacheClusterNotFound"
    assert caches.ec2.describe_network_interfaces()["NetworkInterfaces"] == []
    with pytest.raises(redis.ConnectionError):
        connect(described["CacheNodes"][0]["Endpoint"]).ping()
    assert caches.events() == [
        f"Engine version 7.1 of redis was asked for: Valkey {described['EngineVersion']} runs",
        "Added cache node 0001 in availability zone us-east-1a",
        "Cache cluster created",
        "Cache cluster deleted",
    ]


def test_a_parameter_group_reaches_the_server_at_once_or_with_the_next_reboot(caches: ElastiCache) -> None:
    """maxmemory-policy acts at once; databases waits, and says so; the reboot of a single node loses its data."""
    client = caches.client
    client.create_cache_parameter_group(
        CacheParameterGroupName="own", CacheParameterGroupFamily="valkey8", Description="own"
    )
    caches.create(CacheParameterGroupName="own")
    caches.available()
    values = [
        {"ParameterName": "maxmemory-policy", "ParameterValue": "allkeys-lru"},
        {"ParameterName": "databases", "ParameterValue": "3"},
    ]
    client.modify_cache_parameter_group(CacheParameterGroupName="own", ParameterNameValues=values)
    described = caches.available()
    assert described["CacheParameterGroup"]["ParameterApplyStatus"] == "pending-reboot"
    with caches.redis() as server:
        server.set("key", "value")
        assert server.info("memory")["maxmemory_policy"] == "allkeys-lru"
        assert server.execute_command("SELECT", 3)
    rebooted = client.reboot_cache_cluster(CacheClusterId="one", CacheNodeIdsToReboot=["0001"])
    assert rebooted["CacheCluster"]["CacheClusterStatus"] == "rebooting cluster nodes"
    assert caches.available()["CacheParameterGroup"]["ParameterApplyStatus"] == "in-sync"
    with caches.redis() as server:
        assert server.dbsize() == 0
        assert server.info("memory")["maxmemory_policy"] == "allkeys-lru"
        with pytest.raises(redis.ResponseError, match="out of range"):
            server.execute_command("SELECT", 3)
    assert caches.events()[-1] == "Cache node 0001 restarted"
    assert code(client.delete_cache_parameter_group, CacheParameterGroupName="own")[0] == (
        "InvalidCacheParameterGroupState"
    )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("nonsense", "1", "Parameter nonsense doesn't exist"),
        ("appendonly", "yes", "The parameter appendonly cannot be modified."),
        ("maxmemory-policy", "sometimes", "Allowed values"),
        ("timeout", "7", "Allowed values: 0,20-"),
    ],
)
def test_parameters_that_cannot_be_are_refused(caches: ElastiCache, name: str, value: str, words: str) -> None:
    """Unknown, unmodifiable, of another range; and default groups are never modified."""
    client = caches.client
    client.create_cache_parameter_group(
        CacheParameterGroupName="own", CacheParameterGroupFamily="valkey8", Description="own"
    )
    values = [{"ParameterName": name, "ParameterValue": value}]
    answer = code(client.modify_cache_parameter_group, CacheParameterGroupName="own", ParameterNameValues=values)
    assert answer[0] == "InvalidParameterValue" and words in answer[1]
    answer = code(
        client.modify_cache_parameter_group, CacheParameterGroupName="default.valkey8", ParameterNameValues=values
    )
    assert answer[0] == "InvalidParameterValue" and "default parameter group" in answer[1]


def test_a_server_that_is_killed_comes_back_empty_and_the_events_say_so(caches: ElastiCache) -> None:
    """A single node has nobody to get its data from; its endpoint stays."""
    caches.create()
    before = caches.available()["CacheNodes"][0]["Endpoint"]
    with caches.redis() as server:
        server.set("key", "value")
    eventually(lambda: caches.redis().info("server")["uptime_in_seconds"] >= 1)  # not a server that fails at its start
    caches.kill()
    eventually(lambda: "Finished recovery for cache nodes 0001" in caches.events())
    assert caches.available()["CacheNodes"][0]["Endpoint"] == before
    with connect(before) as server:
        assert server.dbsize() == 0
    assert caches.events()[2:4] == ["Cache node 0001 failed (killed by signal 9)", "Recovering cache nodes 0001"]


def test_the_death_of_a_primary_loses_no_data_that_a_replica_has(caches: ElastiCache) -> None:
    """The replica takes over the primary endpoint; the old primary comes back as its replica, and a new one joins."""
    caches.group(NumCacheClusters=2, AutomaticFailoverEnabled=True)
    (shard,) = caches.group_available()["NodeGroups"]
    with connect(shard["PrimaryEndpoint"]) as primary:
        primary.set("key", "value")
        assert primary.wait(1, 5000) == 1
    caches.kill("group-001")
    eventually(lambda: "Finished recovery for cache nodes 0001" in caches.events("group-001"), within=20)
    (after,) = caches.group_available()["NodeGroups"]
    assert after["PrimaryEndpoint"] == shard["PrimaryEndpoint"]
    assert [m["CurrentRole"] for m in after["NodeGroupMembers"]] == ["replica", "primary"]
    with connect(after["PrimaryEndpoint"]) as primary, connect(after["ReaderEndpoint"]) as reader:
        assert primary.get("key") == reader.get("key") == "value"
        assert reader.info("replication")["role"] == "slave"
    caches.client.increase_replica_count(ReplicationGroupId="group", NewReplicaCount=2, ApplyImmediately=True)
    assert caches.group_available()["MemberClusters"] == ["group-001", "group-002", "group-003"]
    with caches.redis("group-003") as replica:
        assert replica.get("key") == "value"


def test_a_shard_fails_over_and_a_killed_node_finds_its_cluster_again(caches: ElastiCache) -> None:
    """Cluster mode: keys stay with their slots, whoever serves them."""
    caches.group(NumNodeGroups=2, ReplicasPerNodeGroup=1, AutomaticFailoverEnabled=True)
    group = caches.group_available()
    assert [shard["Slots"] for shard in group["NodeGroups"]] == ["0-8191", "8192-16383"]
    endpoint = group["ConfigurationEndpoint"]

    def total() -> int:
        with redis.RedisCluster(endpoint["Address"], endpoint["Port"]) as cluster:
            return sum(int(cluster.get(f"key-{number}") or 0) for number in range(20))

    with redis.RedisCluster(endpoint["Address"], endpoint["Port"]) as cluster:
        for number in range(20):
            cluster.set(f"key-{number}", number)
    caches.client.test_failover(ReplicationGroupId="group", NodeGroupId="0001")
    caches.group_available()
    assert total() == 190
    caches.kill("group-0001-002")  # the primary now
    eventually(lambda: "Finished recovery for cache nodes 0001" in caches.events("group-0001-002"), within=20)
    caches.group_available()
    assert total() == 190
    with caches.redis("group-0001-002") as back:
        assert back.execute_command("CLUSTER INFO")["cluster_state"] == "ok"


def test_a_snapshot_becomes_a_new_cluster_and_a_final_one_outlives_its_cluster(caches: ElastiCache) -> None:
    """What was written after the snapshot is not in it. A name is taken once."""
    caches.create()
    caches.available()
    with caches.redis() as server:
        server.set("key", "before")
        caches.client.create_snapshot(CacheClusterId="one", SnapshotName="morning")
        caches.available()
        server.set("key", "after")
    assert code(caches.client.create_snapshot, CacheClusterId="one", SnapshotName="morning")[0] == (
        "SnapshotAlreadyExistsFault"
    )
    caches.client.delete_cache_cluster(CacheClusterId="one", FinalSnapshotIdentifier="final")
    caches.client.get_waiter("cache_cluster_deleted").wait(CacheClusterId="one", WaiterConfig=WAIT)
    for snapshot, value in (("morning", "before"), ("final", "after")):
        eventually(
            lambda name=snapshot: (
                caches.client.describe_snapshots(SnapshotName=name)["Snapshots"][0]["SnapshotStatus"] == "available"
            )
        )
        caches.create(f"from-{snapshot}", SnapshotName=snapshot)
        caches.available(f"from-{snapshot}")
        with caches.redis(f"from-{snapshot}") as server:
            assert server.get("key") == value


def test_security_groups_decide_whether_the_host_is_answered(caches: ElastiCache) -> None:
    """Another group, and there is no answer; established connections live on. And back."""
    vpc = caches.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    closed = caches.ec2.create_security_group(GroupName="closed", Description="closed", VpcId=vpc)["GroupId"]
    caches.create()
    endpoint = caches.available()["CacheNodes"][0]["Endpoint"]
    with connect(endpoint) as old:
        old.ping()
        caches.client.modify_cache_cluster(CacheClusterId="one", SecurityGroupIds=[closed], ApplyImmediately=True)
        caches.available()
        with pytest.raises(redis.TimeoutError), connect(endpoint) as new:
            new.ping()
        assert old.ping()
    caches.client.modify_cache_cluster(CacheClusterId="one", SecurityGroupIds=[caches.open])
    caches.available()
    with connect(endpoint) as new:
        assert new.ping()


def test_commands_that_elasticache_keeps_to_itself_are_refused(caches: ElastiCache) -> None:
    """CONFIG, SHUTDOWN, REPLICAOF and their like belong to the service."""
    caches.create()
    caches.available()
    with caches.redis() as server:
        for command in ("CONFIG GET *", "SHUTDOWN", "REPLICAOF NO ONE", "ACL SETUSER default on", "BGSAVE"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                server.execute_command(command)


def test_auth_tokens_open_a_cache_that_speaks_tls_and_can_be_rotated(
    caches: ElastiCache, process_cloud: CloudThread, tmp_path: Path
) -> None:
    """The certificate verifies; without TLS or without a token nobody gets in; ROTATE keeps the old token, SET not."""
    first, second = "the-first-token-of-all", "the-second-token-of-all"
    root = tmp_path / "root.pem"
    root.write_bytes(httpx.get(f"{process_cloud.endpoint_url}/_sunabox/rds-ca.pem").content)
    group = caches.group(NumCacheClusters=2, TransitEncryptionEnabled=True, AuthToken=first)
    assert (group["AuthTokenEnabled"], group["TransitEncryptionEnabled"]) == (True, True)
    (shard,) = caches.group_available()["NodeGroups"]

    def login(token: str | None, endpoint: str = "PrimaryEndpoint", ssl: bool = True) -> "redis.Redis[str]":
        options: dict[str, Any] = {"ssl": True, "ssl_ca_certs": str(root)} if ssl else {}
        return redis.Redis(
            shard[endpoint]["Address"], password=token, decode_responses=True, retry=None, socket_timeout=5, **options
        )

    with login(first) as primary, login(first, "ReaderEndpoint") as reader:
        assert primary.set("key", "v" * 300_000)
        eventually(lambda: reader.get("key") == "v" * 300_000)
    with pytest.raises(redis.AuthenticationError), login(None) as stranger:
        stranger.get("key")
    with pytest.raises(redis.ConnectionError), login(first, ssl=False) as stranger:
        stranger.get("key")
    for strategy, opens in (("ROTATE", (first, second)), ("SET", (second,))):
        caches.client.modify_replication_group(
            ReplicationGroupId="group", AuthToken=second, AuthTokenUpdateStrategy=strategy, ApplyImmediately=True
        )
        caches.group_available()
        for token in opens:
            with login(token) as client:
                assert client.ping()
    with pytest.raises(redis.AuthenticationError), login(first) as stranger:
        stranger.ping()


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"CacheClusterId": "-x"}, "InvalidParameterValue", "is not a valid identifier"),
    ({"Engine": "memcached"}, "NotImplemented", "memcached"),
    ({"Engine": "dragonfly"}, "InvalidParameterValue", "Invalid cache engine"),
    ({"Engine": "redis", "EngineVersion": "4.0.13"}, "InvalidParameterCombination", "Cannot find version 4.0.13 for"),
    ({"Engine": "redis", "EngineVersion": "6.2.6"}, "InvalidParameterValue", "please use '6.2'"),
    ({"CacheNodeType": "cache.x9.huge"}, "InvalidParameterValue", "cache.x9.huge"),
    ({"NumCacheNodes": 2}, "InvalidParameterValue", "NumCacheNodes parameter greater than 1"),
    ({"CacheParameterGroupName": "nobodys"}, "CacheParameterGroupNotFound", "nobodys"),
    ({"CacheParameterGroupName": "default.redis7"}, "InvalidParameterCombination", "family valkey8 but found"),
    ({"CacheParameterGroupName": "default.valkey8.cluster.on"}, "InvalidParameterCombination", "Cluster mode should"),
    ({"CacheSubnetGroupName": "nobodys"}, "CacheSubnetGroupNotFoundFault", "nobodys"),
    ({"SnapshotName": "nobodys"}, "SnapshotNotFoundFault", "nobodys"),
    ({"SecurityGroupIds": ["sg-0123456789abcdef0"]}, "InvalidParameterValue", "sg-0123456789abcdef0"),
    ({"AuthToken": "a-long-enough-token"}, "InvalidParameterCombination", "must be enabled to use auth token"),
    ({"TransitEncryptionEnabled": True, "AuthToken": "too short"}, "InvalidParameterValue", "Invalid AuthToken"),
    ({"Port": 80}, "InvalidParameterValue", "80"),
]


@pytest.mark.parametrize(("asked", "error", "words"), REFUSED, ids=[next(iter(r[0])) + r[1] for r in REFUSED])
def test_clusters_that_aws_refuses_are_refused_in_its_words(
    caches: ElastiCache, asked: dict[str, Any], error: str, words: str
) -> None:
    """And nothing is left of them."""
    name = asked.get("CacheClusterId", "one")
    answer = code(caches.create, name=name, **{k: v for k, v in asked.items() if k != "CacheClusterId"})
    assert answer[0] == error and words in answer[1]
    assert caches.client.describe_cache_clusters()["CacheClusters"] == []


def test_what_does_not_fit_the_state_of_a_cache_is_refused(caches: ElastiCache) -> None:
    """While it is created, when its name is taken, when it is a member of a group, when it is not there."""
    client = caches.client
    caches.create()
    assert code(client.modify_cache_cluster, CacheClusterId="one")[0] == "InvalidCacheClusterState"
    assert code(caches.create)[0] == "CacheClusterAlreadyExists"
    assert code(client.delete_cache_cluster, CacheClusterId="two")[0] == "CacheClusterNotFound"
    assert code(client.describe_replication_groups, ReplicationGroupId="x")[0] == "ReplicationGroupNotFoundFault"
    single = {"NumCacheClusters": 1, "AutomaticFailoverEnabled": True}
    assert "at least 2 cache clusters" in code(caches.group, **single)[1]
    caches.group(NumCacheClusters=1)
    assert code(caches.group, NumCacheClusters=1)[0] == "ReplicationGroupAlreadyExists"
    caches.group_available()
    assert code(client.delete_cache_cluster, CacheClusterId="group-001")[0] == "InvalidCacheClusterState"
    failover = code(client.test_failover, ReplicationGroupId="group", NodeGroupId="0001")
    assert failover[0] == "TestFailoverNotAvailableFault"
    assert code(client.test_failover, ReplicationGroupId="group", NodeGroupId="0002")[0] == "NodeGroupNotFoundFault"
    caches.available()
    nodes = {"CacheClusterId": "one", "CacheNodeIdsToReboot": ["0002"]}
    assert code(client.reboot_cache_cluster, **nodes)[0] == "CacheNodeNotFound"


def test_a_data_folder_keeps_caches_over_a_restart_of_the_emulator(tmp_path: Path) -> None:
    """The same endpoint, data, parameters and security group; and what was never there does not come back."""
    options = CloudOptions(port=0, runtime="process", data_dir=tmp_path / "data", library=tmp_path / "library")
    account = new_account_id()
    thread = CloudThread(options)
    thread.start()
    try:
        caches = ElastiCache(AwsAccount(thread.endpoint_url, account))
        caches.create("gone")
        caches.group(NumCacheClusters=2, AutomaticFailoverEnabled=True)
        endpoint = caches.group_available()["NodeGroups"][0]["PrimaryEndpoint"]
        caches.available("gone")
        caches.client.delete_cache_cluster(CacheClusterId="gone")
        caches.client.get_waiter("cache_cluster_deleted").wait(CacheClusterId="gone", WaiterConfig=WAIT)
        with connect(endpoint) as primary:
            primary.set("key", "value")
    finally:
        thread.stop()
    with pytest.raises(redis.ConnectionError):
        connect(endpoint).ping()
    thread = CloudThread(options)
    thread.start()
    try:
        client = AwsAccount(thread.endpoint_url, account).client("elasticache")
        client.get_waiter("replication_group_available").wait(ReplicationGroupId="group", WaiterConfig=WAIT)
        (shard,) = client.describe_replication_groups()["ReplicationGroups"][0]["NodeGroups"]
        assert shard["PrimaryEndpoint"] == endpoint
        with connect(endpoint) as primary, connect(shard["ReaderEndpoint"]) as reader:
            assert primary.get("key") == reader.get("key") == "value"
        assert {c["CacheClusterId"] for c in client.describe_cache_clusters()["CacheClusters"]} == {
            "group-001",
            "group-002",
        }
    finally:
        thread.stop()


def test_the_memory_runtime_refuses_to_pretend(tmp_path: Path) -> None:
    """It has no servers; the error says which runtime has."""
    thread = CloudThread(CloudOptions(port=0, runtime="memory", library=tmp_path))
    thread.start()
    try:
        caches = ElastiCache(AwsAccount(thread.endpoint_url, new_account_id()))
        assert code(caches.create) == (
            "NotImplemented",
            "Sunabox does not emulate this: the memory runtime has no cache servers. "
            "Run Sunabox with --runtime process.",
        )
    finally:
        thread.stop()
