"""The seam into moto's CloudWatch: metrics of AWS's own namespaces, which no PutMetricData may write. API thread."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from moto.cloudwatch.models import MetricAggregatedDatum, cloudwatch_backends


@dataclass(frozen=True, slots=True)
class StatisticSet:
    """A metric's values of one minute. `dimensions` are names and values, `unit` is CloudWatch's; `at` is aware."""

    name: str
    dimensions: tuple[tuple[str, str], ...]
    unit: str
    at: datetime
    total: float
    minimum: float
    maximum: float
    count: float = 1


def report(account: str, region: str, namespace: str, data: Sequence[StatisticSet]) -> None:
    """Adds data points, as the services of AWS do for what they run."""
    kept = cloudwatch_backends[account][region].metric_data
    for one in data:
        kept.append(
            MetricAggregatedDatum(
                namespace=namespace,
                name=one.name,
                min_stat=one.minimum,
                max_stat=one.maximum,
                sample_count=one.count,
                sum_stat=one.total,
                dimensions=[{"Name": name, "Value": value} for name, value in one.dimensions],
                timestamp=one.at.astimezone(UTC).replace(tzinfo=None),  # moto compares naive ones
                unit=one.unit,
            )
        )
