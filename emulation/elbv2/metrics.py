"""What load balancers report to CloudWatch every minute. Pure: counters in, data points out.

Source: CloudWatch metrics for your Application Load Balancer.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from emulation.elbv2.admin import Labels
from emulation.elbv2.records import LoadBalancer, TargetHealth

NAMESPACE = "AWS/ApplicationELB"
_REQUESTS = re.compile(r"envoy_sunabox_alb_(\w+)_requests")
_TIMES = re.compile(r"envoy_cluster_(\w+)_upstream_rq_time_(sum|count)")
_NO_TARGET = ("UH", "NR", "NC", "UO")
"""Envoy's flags of requests for which no target could be chosen."""
_TOLD_APART = (500, 502, 503, 504)

Counters = Mapping[tuple[str, Labels], float]


@dataclass(frozen=True, slots=True)
class Datum:
    """A statistic set of one minute. `dimensions` are names and values; `unit` is CloudWatch's."""

    account: str
    region: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    unit: str
    total: float
    count: float = 1

    @property
    def average(self) -> float:
        return self.total / self.count


def since(before: Counters, now: Counters) -> dict[tuple[str, Labels], float]:
    """What was counted between two looks. A counter that is smaller than before began anew."""
    return {key: value - before.get(key, 0) if value >= before.get(key, 0) else value for key, value in now.items()}


def requests(counted: Counters, balancers: Collection[LoadBalancer]) -> list[Datum]:
    """The data points about requests, each for the load balancer, and, where targets are concerned, for their group.

    Emulation: TargetResponseTime ends with the end of a target's response, not with its beginning, and its extremes
    are not known.
    """
    arns = {balancer.id: balancer.arn for balancer in balancers}
    users = {arn.rpartition("/")[2]: (b.arn, arn.rpartition(":")[2]) for b in balancers for arn in b.target_groups}
    counts: Counter[tuple[str, str, str]] = Counter()
    times: dict[tuple[str, str], dict[str, float]] = {}
    for (name, labels), value in counted.items():
        if (found := _REQUESTS.fullmatch(name)) and found[1] in arns:
            group_id, code, flags = dict(labels)["of"].split(" ")
            group = users.get(group_id, ("", ""))[1]
            for metric in _metrics_of(group, int(code), flags):
                counts[arns[found[1]], group, metric] += int(value)
        elif (found := _TIMES.fullmatch(name)) and found[1] in users:
            times.setdefault(users[found[1]], {})[found[2]] = value
    data = [
        datum
        for (arn, group, metric), value in sorted(counts.items())
        if value
        for datum in _both(arn, group, metric, "Count", value, 1)
    ]
    for (arn, group), one in sorted(times.items()):
        if one.get("count"):
            data += _both(arn, group, "TargetResponseTime", "Seconds", one.get("sum", 0) / 1000, one["count"])
    return _summed(data)


def hosts(balancer: LoadBalancer, group: str, health: Iterable[TargetHealth], processed: float) -> list[Datum]:
    """How many targets are healthy and unhealthy, and what each has had to do. `group` is the group's full name."""
    states = Counter(one.state for one in health)
    pair = (("LoadBalancer", balancer.full_name), ("TargetGroup", group))
    data = [
        _datum(balancer.arn, "HealthyHostCount", pair, "Count", states["healthy"]),
        _datum(balancer.arn, "UnHealthyHostCount", pair, "Count", states["unhealthy"]),
    ]
    if processed and states["healthy"]:
        per_target = processed / states["healthy"]
        data.append(_datum(balancer.arn, "RequestCountPerTarget", pair[1:], "Count", per_target))
        data.append(_datum(balancer.arn, "RequestCountPerTarget", pair, "Count", per_target))
    return data


def _metrics_of(group: str, code: int, flags: str) -> list[str]:
    if flags == "-" and group:
        return ["RequestCount", f"HTTPCode_Target_{code // 100}XX_Count"]
    if flags == "-":
        kind = "HTTP_Redirect_Count" if 300 <= code < 400 else "HTTP_Fixed_Response_Count"
        return [kind, f"HTTPCode_ELB_{code // 100}XX_Count"]
    names = [] if any(flag in _NO_TARGET for flag in flags.split(",")) or not group else ["RequestCount"]
    if code >= 400:
        names.append(f"HTTPCode_ELB_{code // 100}XX_Count")
    if code in _TOLD_APART:
        names.append(f"HTTPCode_ELB_{code}_Count")
    return names


def _both(arn: str, group: str, metric: str, unit: str, total: float, count: float) -> list[Datum]:
    balancer = ("LoadBalancer", arn.partition(":loadbalancer/")[2])
    data = [_datum(arn, metric, (balancer,), unit, total, count)]
    if group and not metric.startswith("HTTPCode_ELB"):
        data.append(_datum(arn, metric, (balancer, ("TargetGroup", group)), unit, total, count))
    return data


def _summed(data: Iterable[Datum]) -> list[Datum]:
    """Several groups behind one load balancer give one data point for it."""
    sums: dict[tuple[str, tuple[tuple[str, str], ...], str, str], Datum] = {}
    for one in data:
        key = (one.name, one.dimensions, one.account, one.region)
        known = sums.get(key)
        count = 1.0 if one.unit == "Count" else one.count + (known.count if known else 0)
        total = one.total + (known.total if known else 0)
        sums[key] = Datum(one.account, one.region, one.name, one.dimensions, one.unit, total, count)
    return list(sums.values())


def _datum(
    arn: str, name: str, dimensions: tuple[tuple[str, str], ...], unit: str, total: float, count: float = 1
) -> Datum:
    _, _, _, region, account, _ = arn.split(":", 5)
    return Datum(account, region, name, dimensions, unit, total, count)
