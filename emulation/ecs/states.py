"""The life of a task, as a table. Source: Amazon ECS task lifecycle."""

from emulation.core.states import Table
from emulation.ecs.observation import TaskStatus as S

INTERFACE_ATTACHED = "InterfaceAttached"
CONTAINERS_STARTED = "ContainersStarted"
ACTIVATED = "Activated"
STOP = "Stop"
DEACTIVATED = "Deactivated"
CONTAINERS_STOPPED = "ContainersStopped"
RELEASED = "Released"

TASK = Table(
    "task",
    {
        (S.PROVISIONING, INTERFACE_ATTACHED): S.PENDING,
        (S.PROVISIONING, STOP): S.DEPROVISIONING,
        (S.PENDING, CONTAINERS_STARTED): S.ACTIVATING,
        (S.PENDING, STOP): S.STOPPING,
        (S.ACTIVATING, ACTIVATED): S.RUNNING,
        (S.ACTIVATING, STOP): S.DEACTIVATING,
        (S.RUNNING, STOP): S.DEACTIVATING,
        (S.DEACTIVATING, DEACTIVATED): S.STOPPING,
        (S.STOPPING, CONTAINERS_STOPPED): S.DEPROVISIONING,
        (S.DEPROVISIONING, RELEASED): S.STOPPED,
    },
)
