"""What tests hold of a running cloud: its endpoint, its clock, its status.

All of it goes over the control API, so that it is the same for a cloud in the test process and for one elsewhere.
"""

from datetime import datetime, timedelta
from typing import Any

from emulation.gateway.control_client import ClockState, ControlClient


class ClockHandle:
    """The clock of a running cloud."""

    def __init__(self, control: ControlClient) -> None:
        self._control = control

    def now(self) -> datetime:
        """What time it is in the cloud, aware, in UTC."""
        return self._control.clock().now

    def state(self) -> ClockState:
        return self._control.clock()

    def advance(self, duration: timedelta) -> datetime:
        """Moves time on; returns when all that came due on the way has been done, with the time that it is then."""
        return self._control.advance(duration).now

    def speed(self, factor: float) -> None:
        """Lets `factor` seconds pass in one of the machine's."""
        self._control.set_speed(factor)

    def freeze(self) -> None:
        """Lets time stand still, except for `advance`."""
        self._control.freeze()

    def resume(self) -> None:
        self._control.resume()

    def restore(self, state: ClockState) -> None:
        """Gives it the speed of `state` again. The time itself does not go back."""
        if state.frozen:
            self._control.freeze()
        else:
            self._control.set_speed(state.speed)


class CloudHandle:
    """A running cloud. `runtime` is the name of what its containers run on: "process" or "memory"."""

    def __init__(self, endpoint_url: str) -> None:
        self._control = ControlClient(endpoint_url)
        self.endpoint_url = endpoint_url
        self.runtime = str(self._control.status()["runtime"])
        self.clock = ClockHandle(self._control)

    def status(self) -> dict[str, Any]:
        """What `sunabox status --json` prints."""
        return self._control.status()
