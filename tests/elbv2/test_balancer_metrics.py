"""Counters of Envoy become data points of CloudWatch."""

from ipaddress import IPv4Address

from emulation.elbv2.admin import parse_counters
from emulation.elbv2.metrics import hosts, requests, since
from emulation.elbv2.records import Forward, Listener, LoadBalancer, Rule, TargetHealth

ARN = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/web/50dc"
PREFIX = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup"
LISTENER = Listener(f"{ARN}/1", 80, 80, (Rule(Forward(((f"{PREFIX}/a/1", 1), (f"{PREFIX}/b/2", 1)))),))
BALANCER = LoadBalancer(ARN, "vpc-1", "127.0.4.1", (IPv4Address("10.0.0.9"),), listeners=(LISTENER,))
TEXT = """
# TYPE envoy_sunabox_alb_requests counter
envoy_sunabox_alb_50dc_requests{of="1 200 -"} 3
envoy_sunabox_alb_50dc_requests{of="1 404 -"} 1
envoy_sunabox_alb_50dc_requests{of="2 200 -"} 4
envoy_sunabox_alb_50dc_requests{of="2 502 UF"} 2
envoy_sunabox_alb_50dc_requests{of="2 503 UH"} 5
envoy_sunabox_alb_50dc_requests{of=" 301 -"} 6
envoy_cluster_1_upstream_rq_time_sum{} 8
envoy_cluster_1_upstream_rq_time_count{} 4
"""


def test_requests_are_told_apart_by_who_answered() -> None:
    """What targets answered, what the load balancer answered for them, and what never reached a target."""
    data = {(d.name, dict(d.dimensions).get("TargetGroup", "")): d for d in requests(parse_counters(TEXT), [BALANCER])}
    totals = {key: datum.total for key, datum in data.items()}
    assert totals["RequestCount", ""] == 3 + 1 + 4 + 2
    assert totals["RequestCount", "targetgroup/b/2"] == 4 + 2
    assert totals["HTTPCode_Target_2XX_Count", ""] == 3 + 4
    assert totals["HTTPCode_Target_4XX_Count", "targetgroup/a/1"] == 1
    assert totals["HTTPCode_ELB_5XX_Count", ""] == 2 + 5
    assert totals["HTTPCode_ELB_503_Count", ""] == 5
    assert totals["HTTP_Redirect_Count", ""] == 6
    assert data["TargetResponseTime", "targetgroup/a/1"].average == 0.002
    assert data["RequestCount", ""].dimensions == (("LoadBalancer", "app/web/50dc"),)
    assert (data["RequestCount", ""].account, data["RequestCount", ""].region) == ("123456789012", "us-east-1")


def test_counters_that_began_anew_count_from_nothing() -> None:
    """Envoy was restarted between two looks."""
    key = ("requests", (("code", "200"),))
    assert since({key: 10}, {key: 12}) == {key: 2}
    assert since({key: 10}, {key: 3}) == {key: 3}


def test_targets_are_counted_by_their_health() -> None:
    """A group with two healthy targets of three."""
    states = [TargetHealth("healthy"), TargetHealth("healthy"), TargetHealth("unhealthy"), TargetHealth("draining")]
    totals = {(d.name, len(d.dimensions)): d.total for d in hosts(BALANCER, "targetgroup/a/1", states, 10)}
    assert totals["HealthyHostCount", 2] == 2
    assert totals["UnHealthyHostCount", 2] == 1
    assert totals["RequestCountPerTarget", 1] == 5
