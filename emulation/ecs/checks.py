"""What ECS asks of other services before it answers."""

from collections.abc import Mapping, Sequence
from typing import Protocol


class Checks(Protocol):
    """On the API thread. Raises SunaboxError in the words of ECS."""

    def role(self, role_arn: str) -> None:
        """IAM: the role exists and trusts ECS tasks."""
        ...

    def log_options(self, options: Mapping[str, str], *, fargate: bool) -> None:
        """CloudWatch Logs: the options of the awslogs driver."""
        ...

    def network(self, account: str, region: str, subnets: Sequence[str], security_groups: Sequence[str]) -> None:
        """EC2: the subnets and security groups exist and fit together."""
        ...

    def target_group(self, account: str, region: str, target_group_arn: str) -> str:
        """ELB: the group exists and has a load balancer. Gives its target type, `ip` or `instance`."""
        ...
