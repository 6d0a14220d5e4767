"""Containers of a Docker daemon on this machine, with the network of the process runtime.

Theory of operation
-------------------
For each task the daemon runs a *pause container*: a program of a few bytes that takes itself to a network namespace of
its own (T) and sleeps. The task's containers join it (`network_mode: container:…`). A *router*, a small process of
ours, owns a second namespace (R), puts a veth pair between the two, and serves the network the same way as the process
runtime's agent does: the address in T is that of the elastic network interface, whatever else uses the same range,
and a packet to what was not opened gets no answer. No Docker network, bridge or iptables rule is made.

`daemon` is the only module that speaks to Docker. Container output is read from the daemon's attach stream; exits are
noticed by the kernel (a pidfd of the container's first process), so that they are also when the daemon has gone.

Everything that is made in the daemon carries the labels of `ownership`; what a killed emulator left is removed by the
next start.
"""
