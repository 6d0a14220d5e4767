"""The AWS API as clients see it: accounts, honest errors, and what HTTP clients do that botocore does not."""

import asyncio
import http.client
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlparse

import pytest
from botocore.exceptions import ClientError

from emulation.clock import VirtualClock
from emulation.gateway.server import Server

Client = Callable[..., Any]


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"], response["Error"]["Message"]


def test_accounts_do_not_see_each_other(client: Client) -> None:
    """The access key of 12 digits is the account, and two accounts share nothing."""
    client("sqs", "111111111111").create_queue(QueueName="jobs")
    assert "QueueUrls" not in client("sqs", "222222222222").list_queues()
    assert client("sts", "222222222222").get_caller_identity()["Account"] == "222222222222"


@pytest.mark.parametrize(
    ("service", "operation", "arguments"),
    [
        ("batch", "submit_job", {"jobName": "j", "jobQueue": "q", "jobDefinition": "d"}),  # REST and JSON
        (
            "redshift",
            "create_cluster",  # query
            {"ClusterIdentifier": "c", "NodeType": "t", "MasterUsername": "u", "MasterUserPassword": "Secret-99"},
        ),
        ("elb", "create_load_balancer", {"LoadBalancerName": "web", "Listeners": []}),  # signs like elbv2
        ("ec2", "run_instances", {"ImageId": "ami-1", "MinCount": 1, "MaxCount": 1}),  # ec2
        ("ecs", "execute_command", {"command": "sh", "interactive": True, "task": "t"}),  # JSON
        ("cloudformation", "create_stack", {"StackName": "s", "TemplateBody": "{}"}),
        ("lambda", "invoke", {"FunctionName": "f"}),
        ("events", "put_rule", {"Name": "nightly", "ScheduleExpression": "rate(1 day)"}),
    ],
)
def test_what_would_only_be_pretended_is_refused(
    client: Client, service: str, operation: str, arguments: dict[str, Any]
) -> None:
    """No protocol answers success for what does not happen; the error says which operation and why."""
    status, code, message = refused(getattr(client(service), operation), **arguments)
    assert (status, code) == (501, "NotImplemented")
    name = "".join(part.title() for part in operation.split("_")).replace("Db", "DB")
    assert message.startswith(f"Sunabox does not emulate {name}: ")


def test_an_operation_that_moto_lacks_is_an_aws_error(client: Client) -> None:
    """Also where moto would answer with an HTML page that says 404."""
    assert refused(client("quicksight").list_topics, AwsAccountId="111122223333")[:2] == (501, "NotImplemented")
    assert refused(client("ecs").list_service_deployments, service="x")[:2] == (501, "NotImplemented")


def _raw(gateway: str, service: str, headers: dict[str, str], body: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlparse(gateway).netloc, timeout=10)
    signed = f"AWS4-HMAC-SHA256 Credential=111122223333/20260101/eu-west-1/{service}/aws4_request, Signature=x"
    connection.request("POST", "/", body, {"Authorization": signed, **headers})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_an_operation_that_aws_lacks_is_the_clients_mistake(gateway: str) -> None:
    """Each protocol has its words for it, and none of them is a defect of ours."""
    target = {"X-Amz-Target": "AmazonEC2ContainerServiceV20141113.Nope", "Content-Type": "application/x-amz-json-1.1"}
    status, text = _raw(gateway, "ecs", target, "{}")
    assert status == 400 and "UnknownOperationException" in text
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    status, text = _raw(gateway, "iam", form, "Action=Nope&Version=2010-05-08")
    assert status == 400 and "The action Nope is not valid for this web service." in text


def test_motos_own_pages_are_not_served(gateway: str, client: Client) -> None:
    """A reset would forget the records of all accounts, and leave behind what runs."""
    queue = client("sqs").create_queue(QueueName="kept")["QueueUrl"]
    connection = http.client.HTTPConnection(urlparse(gateway).netloc, timeout=10)
    connection.request("POST", "/moto-api/reset")
    status = connection.getresponse().status
    connection.close()
    assert status == 501
    assert client("sqs").get_queue_url(QueueName="kept")["QueueUrl"] == queue


def test_a_member_of_another_type_is_the_clients_mistake(gateway: str) -> None:
    """SDKs check what they send; what is written by hand is answered as AWS does."""
    target = {"Content-Type": "application/x-amz-json-1.1"}
    target["X-Amz-Target"] = "AmazonEC2ContainerServiceV20141113.RegisterTaskDefinition"
    for containers in ('"x"', '[{"name": "a", "image": "b", "memory": "much"}]'):
        status, text = _raw(gateway, "ecs", target, f'{{"family": "f", "containerDefinitions": {containers}}}')
        assert status == 400 and "SerializationException" in text


def test_an_error_inside_is_an_aws_error(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect is an InternalFailure in the service's protocol, which names what went wrong."""
    from moto.sqs.models import SQSBackend

    def broken(*_args: object, **_kwargs: object) -> None:
        raise ZeroDivisionError("sand in the gears")

    monkeypatch.setattr(SQSBackend, "create_queue", broken)
    status, code, message = refused(client("sqs").create_queue, QueueName="q")
    assert (status, code) == (500, "InternalFailure")
    assert "ZeroDivisionError: sand in the gears" in message


def test_time_stamps_follow_the_clock(client: Client, gateway_clock: VirtualClock) -> None:
    """moto's records are dated by the emulation's clock, which stands still here."""
    queues = client("sqs", "333333333333")
    url = queues.create_queue(QueueName="dated")["QueueUrl"]
    created = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["CreatedTimestamp"])["Attributes"]
    assert int(float(created["CreatedTimestamp"])) == int(gateway_clock.now().timestamp())


def test_s3_metadata_keeps_its_spelling(client: Client) -> None:
    """Underscores and dashes are different names to S3, though WSGI cannot tell them apart."""
    s3 = client("s3")
    s3.create_bucket(Bucket="spelling", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="spelling", Key="a/ü b", Body=b"x" * 100_000, Metadata={"my_key": "1", "other-key": "2"})
    answer = s3.get_object(Bucket="spelling", Key="a/ü b")
    assert answer["Metadata"] == {"my_key": "1", "other-key": "2"}
    assert len(answer["Body"].read()) == 100_000
    assert s3.head_object(Bucket="spelling", Key="a/ü b")["ContentLength"] == 100_000


def test_a_bucket_in_the_host_name(client: Client, gateway: str) -> None:
    """`bucket.localhost` is the virtual-hosted form of `localhost/bucket`."""
    s3 = client("s3")
    s3.create_bucket(Bucket="virtual", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="virtual", Key="page", Body=b"hello", ACL="public-read")
    connection = http.client.HTTPConnection(urlparse(gateway).netloc)
    connection.request("GET", "/page", headers={"Host": f"virtual.localhost:{urlparse(gateway).port}"})
    assert connection.getresponse().read() == b"hello"
    connection.close()


def test_one_connection_serves_many_requests(gateway: str) -> None:
    """HTTP/1.1 keep-alive; a foreign host is refused on it without an answer from AWS."""
    connection = http.client.HTTPConnection(urlparse(gateway).netloc)
    connection.request("GET", "/")
    assert connection.getresponse().read()
    port = connection.sock.getsockname()[1]
    connection.request("GET", "/", headers={"Host": "evil.example"})
    answer = connection.getresponse()
    assert answer.status == 403
    assert b"evil.example" in answer.read()
    assert connection.sock.getsockname()[1] == port
    connection.close()


def test_no_web_page_may_read_answers(gateway: str) -> None:
    """moto's permission for every origin is off; a bucket's own CORS rules are not concerned."""
    connection = http.client.HTTPConnection(urlparse(gateway).netloc)
    connection.request("GET", "/", headers={"Origin": "https://evil.example"})
    answer = connection.getresponse()
    answer.read()
    assert answer.getheader("Access-Control-Allow-Origin") is None
    connection.close()


def test_no_answer_waits_for_an_acknowledgement() -> None:
    """asyncio switches Nagle's algorithm off on sockets that say they are TCP; else each body would wait for 40 ms."""
    server = Server("127.0.0.1", 0)
    server.bind()
    try:
        assert server._socket is not None
        assert server._socket.proto == socket.IPPROTO_TCP
    finally:
        asyncio.run(server.stop())
