"""The security groups of all accounts, as the network reads them on every connection."""

from emulation.network.base import Rule

Rules = tuple[Rule, ...]


class SecurityGroupTable:
    """Written on the API thread when a group has changed, read on the event loop.

    Each group is one immutable value under its id, which is unique on the whole machine; so no lock is needed.
    """

    def __init__(self) -> None:
        self._groups: dict[str, tuple[Rules, Rules]] = {}

    def put(self, group_id: str, ingress: Rules, egress: Rules) -> None:
        self._groups[group_id] = (ingress, egress)

    def remove(self, group_id: str) -> None:
        self._groups.pop(group_id, None)

    def ingress(self, group_id: str) -> Rules:
        return self._groups.get(group_id, ((), ()))[0]

    def egress(self, group_id: str) -> Rules:
        return self._groups.get(group_id, ((), ()))[1]
