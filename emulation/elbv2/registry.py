"""How other services use target groups: ECS services register their tasks, and ask how they are.

To be used on the event loop. `TargetGroups` in `engine.py` is the real one; services see this protocol only.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from emulation.elbv2.records import Target, TargetHealth

Changed = Callable[[str], object]
"""Called on the event loop with the ARN of a target group in which some target's health has changed."""


class TargetRegistry(Protocol):
    async def register(self, target_group_arn: str, ip: str, port: int) -> None:
        """Idempotent. Raises TargetRefused: the group does not exist, or the address is outside of its VPC."""
        ...

    async def deregister(self, target_group_arn: str, ip: str, port: int) -> None:
        """Begins to drain it. Harmless where group or target are gone."""
        ...

    def health(self, target_group_arn: str) -> Mapping[Target, TargetHealth]:
        """All registered and draining targets. A target that is not in it is not known (any more): it has drained."""
        ...

    def attached(self, target_group_arn: str) -> bool:
        """Whether a listener of a load balancer forwards to the group."""
        ...

    def subscribe(self, changed: Changed) -> Callable[[], None]:
        """`changed` is called from now on, until the function that is given back is."""
        ...
