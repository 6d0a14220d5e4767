"""Calls through boto3: Sunabox and moto_server in turns, so that whatever else the machine does hits both alike."""

import time
from collections.abc import Callable, Iterator

from bench.figures import Figure, compared
from bench.servers import Running, moto_server, sunabox

_CALLS_PER_ROUND = 60
_WARM_UP = 10

Call = Callable[[], object]


def measure(rounds: int) -> Iterator[Figure]:
    with sunabox("memory") as ours, moto_server() as theirs:
        mine, other = _calls(ours), _calls(theirs)
        for name in mine:
            yield compared(f"{name}, beside moto_server", *in_turns(mine[name], other[name], rounds * _CALLS_PER_ROUND))


def in_turns(ours: Call, theirs: Call, times: int) -> tuple[list[float], list[float]]:
    """The seconds of each call. Who comes first changes every time."""
    for _ in range(_WARM_UP):
        ours()
        theirs()
    mine: list[float] = []
    other: list[float] = []
    for number in range(times):
        pairs = [(ours, mine), (theirs, other)]
        for call, seconds in pairs if number % 2 else reversed(pairs):
            begun = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begun)
    return mine, other


def _calls(server: Running) -> dict[str, Call]:
    ecs, sqs, s3 = (server.client(service) for service in ("ecs", "sqs", "s3"))
    ecs.create_cluster(clusterName="bench")
    queue = sqs.create_queue(QueueName="bench")["QueueUrl"]
    s3.create_bucket(Bucket="bench")
    small, large = b"x" * 1000, b"x" * 1_000_000
    return {
        "ECS DescribeClusters": lambda: ecs.describe_clusters(clusters=["bench"]),
        "SQS SendMessage": lambda: sqs.send_message(QueueUrl=queue, MessageBody="a message"),
        "S3 PutObject, 1 KB": lambda: s3.put_object(Bucket="bench", Key="small", Body=small),
        "S3 PutObject, 1 MB": lambda: s3.put_object(Bucket="bench", Key="large", Body=large),
    }
