"""The task agent: Docker's "pause container". It runs with the standard library only, as a process of its own.

Theory of operation
-------------------
`forkserver` is one small interpreter for the whole emulator; each task is a fork of it. `birth` turns the fork into the
task's agent: a user namespace (U1), a PID namespace in which the agent is process 1, a mount namespace, and two network
namespaces: T, in which the task's containers live, and R ("router"), in which the agent lives, joined by a veth pair.
Only what the emulator opens gets a routing rule in R; every other packet is dropped in silence.

`loop` takes requests from the emulator over a socket, on which descriptors travel too: sockets inside the namespaces
go out, pipes and connections come in. `launch` starts a container: a child user namespace (U2), so that containers
hold no power over T, and PID, mount, UTS and IPC namespaces of its own. `root` mounts its file system.

When the emulator goes, however it goes, the socket ends, the agent exits, and the kernel kills every process of its PID
namespace: nothing can stay behind. For the same reason nothing here needs to clean up.
"""
