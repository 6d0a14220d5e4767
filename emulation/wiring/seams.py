"""How each service's seam into moto is put in place, when moto first asks for the service: nothing heavy before."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emulation.ecr.service import Ecr
from emulation.ecs.agent import TaskAgent
from emulation.ecs.engine import EcsEngine
from emulation.elbv2.engine import LoadBalancing
from emulation.gateway.seams import Installer
from emulation.wiring.ground import Ground
from emulation.wiring.lazy import Lazy
from emulation.wiring.load_balancing import LoadBalancerVpc
from emulation.wiring.tasks import Checks

if TYPE_CHECKING:
    from emulation.elasticache.engine import ElastiCacheEngine
    from emulation.rds.engine import RdsEngine


@dataclass(frozen=True)
class Parts:
    """What lives behind moto's records."""

    ecr: Ecr
    ecs: EcsEngine
    agent: TaskAgent
    balancing: LoadBalancing
    balancer_vpc: LoadBalancerVpc
    rds: "Lazy[RdsEngine]"
    elasticache: "Lazy[ElastiCacheEngine]"


def installers(ground: Ground, parts: Parts) -> Mapping[str, Installer]:
    """By moto's names of services. Each is called once, on the API thread."""
    api, clock = ground.api, ground.clock

    def install_ec2() -> None:
        from emulation.ec2 import api as ec2

        ec2.install(ground.groups, lambda: api.post(ground.network.refresh_soon))

    def install_ecr() -> None:
        from emulation.ecr import api as ecr

        ecr.install(parts.ecr)

    def install_ecs() -> None:
        from emulation.ecs import api as ecs

        ecs.install(api, clock, parts.ecs, Checks())

    def install_elasticache() -> None:
        from emulation.elasticache import api as elasticache

        elasticache.install(api, clock, parts.elasticache.get())

    def install_elbv2() -> None:
        from emulation.elbv2 import api as elbv2

        elbv2.install(api, parts.balancing, parts.balancer_vpc)

    def install_logs() -> None:
        from emulation.logs import api as logs

        logs.install(clock.now)

    def install_rds() -> None:
        from emulation.rds import api as rds

        rds.install(api, clock, parts.rds.get())

    def install_secretsmanager() -> None:
        from emulation.secretsmanager import api as secretsmanager

        def rotate(account: str, region: str, arn: str) -> None:
            from emulation.rds import api as rds

            rds.rotate(account, region, arn)

        secretsmanager.install({"rds": rotate})

    return {
        "ec2": install_ec2,
        "ecr": install_ecr,
        "ecs": install_ecs,
        "elasticache": install_elasticache,
        "elb": install_elbv2,  # moto serves both at one address
        "elbv2": install_elbv2,
        "logs": install_logs,
        "rds": install_rds,
        "secretsmanager": install_secretsmanager,
    }
