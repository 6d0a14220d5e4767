"""What the chapter on load balancers does again and again, through AWS's API; and load, by `ab` where there is one."""

import http.client
import re
import shutil
import socket
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fargate import Fargate

from emulation.testing.eventually import eventually

WHO = """
import http.server, os, signal, socket, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
own = socket.gethostbyname(socket.gethostname())
class Who(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path.startswith("/slow/"):
            time.sleep(float(self.path.rpartition("/")[2]))
        lost = self.path == "/lost"
        lines = [own, self.path, *(f"{name.lower()}: {value}" for name, value in self.headers.items())]
        body = "\\n".join(lines).encode()
        self.send_response(404 if lost else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("", 7777), Who).serve_forever()
"""
"""A program that answers with its own address, its path, and the headers that it got."""

SILENT = "import socket, time; s = socket.create_server(('', 7777)); c = [s.accept() for _ in iter(int, 1)]"
"""A program that accepts connections, and never says a word."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def who(self) -> str:
        """The address of the target that answered."""
        return self.text.partition("\n")[0]


_LONGEST_ANSWER_SECONDS = 120
"""ab gives up after 30 seconds without an answer by itself."""


@dataclass(frozen=True)
class LoadReport:
    """`trouble` is what the load program said where it gave up."""

    complete: int
    failed: int
    trouble: str = ""


class Load:
    """Requests, one after the other on some connections at once, in the background: `ab -c … -n …`."""

    def __init__(self, url: str, requests: int, concurrency: int = 4) -> None:
        self._url, self._requests, self._concurrency = url, requests, concurrency
        self._report = LoadReport(0, 0)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def report(self) -> LoadReport:
        """Waits for the end."""
        self._thread.join()
        return self._report

    def _run(self) -> None:
        if shutil.which("ab"):
            self._run_ab()
        else:
            self._run_python()

    def _run_ab(self) -> None:
        patient = ["-s", str(_LONGEST_ANSWER_SECONDS)]
        command = ["ab", "-q", "-l", "-r", *patient, "-c", str(self._concurrency), "-n", str(self._requests), self._url]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            self._report = LoadReport(0, self._requests, ran.stderr.strip())
            return
        found = {name: int(number) for name, number in re.findall(r"^([\w -]+):\s+(\d+)$", ran.stdout, re.MULTILINE)}
        bad = found["Failed requests"] + found.get("Non-2xx responses", 0)
        self._report = LoadReport(found["Complete requests"], bad)

    def _run_python(self) -> None:
        statuses: list[int] = []
        host, path = self._url.removeprefix("http://").split("/", 1)

        def ask() -> None:
            for _ in range(self._requests // self._concurrency):
                try:
                    statuses.append(get(host, f"/{path}").status)
                except OSError:
                    statuses.append(0)

        threads = [threading.Thread(target=ask) for _ in range(self._concurrency)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._report = LoadReport(len(statuses), sum(status != 200 for status in statuses))


class Balancer:
    """An Application Load Balancer in two zones that everybody reaches on port 80."""

    def __init__(self, fargate: Fargate, **settings: Any) -> None:
        self.fargate, self.elb = fargate, fargate.aws.client("elbv2")
        subnets = fargate.ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [fargate.vpc]}])["Subnets"]
        self.group = fargate.security_group("alb", 80)
        request = {"Subnets": [s["SubnetId"] for s in subnets[:2]], "SecurityGroups": [self.group], **settings}
        made = self.elb.create_load_balancer(Name="web", **request)["LoadBalancers"][0]
        self.arn: str = made["LoadBalancerArn"]
        self.dns_name: str = made["DNSName"]
        self.listener = ""
        self.port = 80
        """Where the host finds port 80: at 8080, where this user may not listen below 1024."""

    @property
    def url(self) -> str:
        return f"http://{self.dns_name}:{self.port}/"

    def target_group(self, name: str = "web", **settings: Any) -> str:
        """Checked as often as AWS allows: its ARN."""
        quick = {"HealthCheckIntervalSeconds": 5, "HealthCheckTimeoutSeconds": 2, "HealthyThresholdCount": 2}
        request = {"Protocol": "HTTP", "Port": 7777, "VpcId": self.fargate.vpc, "TargetType": "ip", **quick, **settings}
        made = self.elb.create_target_group(Name=name, **request)
        return str(made["TargetGroups"][0]["TargetGroupArn"])

    def listen(self, target_group: str) -> None:
        action = {"Type": "forward", "TargetGroupArn": target_group}
        made = self.elb.create_listener(LoadBalancerArn=self.arn, Protocol="HTTP", Port=80, DefaultActions=[action])
        self.listener = made["Listeners"][0]["ListenerArn"]
        eventually(self._accepts, within=20)

    def _accepts(self) -> bool:
        for port in (80, 8080):
            with suppress(ConnectionRefusedError):
                socket.create_connection((self.dns_name, port), timeout=5).close()
                self.port = port
                return True
        return False

    def register(self, target_group: str, *addresses: str) -> None:
        self.elb.register_targets(TargetGroupArn=target_group, Targets=[{"Id": address} for address in addresses])

    def deregister(self, target_group: str, *addresses: str) -> None:
        self.elb.deregister_targets(TargetGroupArn=target_group, Targets=[{"Id": address} for address in addresses])

    def health(self, target_group: str) -> dict[str, dict[str, str]]:
        """By address: State, Reason, Description."""
        shown = self.elb.describe_target_health(TargetGroupArn=target_group)["TargetHealthDescriptions"]
        return {one["Target"]["Id"]: one["TargetHealth"] for one in shown}

    def states(self, target_group: str) -> dict[str, str]:
        return {address: health["State"] for address, health in self.health(target_group).items()}

    def get(self, path: str = "/", **headers: str) -> Answer:
        return get(f"{self.dns_name}:{self.port}", path, **headers)


def get(host: str, path: str = "/", **headers: str) -> Answer:
    connection = http.client.HTTPConnection(host, timeout=20)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, told, response.read().decode())
    finally:
        connection.close()
