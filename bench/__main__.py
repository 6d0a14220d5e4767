"""Measures and prints: `python -m bench`, or only some of it: `python -m bench calls memory_tasks --rounds 5`."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from bench.figures import Figure, exit_code

MEASUREMENTS = {
    "start": "from the start of the program to the first answer; idle memory",
    "calls": "calls through boto3, beside moto_server",
    "process_tasks": "tasks as processes",
    "memory_tasks": "tasks in memory, few and many",
    "service_planning": "a look at 200 services",
    "service_replacement": "a killed container of a service, replaced",
    "alb_throughput": "requests through a load balancer, beside a static Envoy",
    "docker_runtask": "tasks on docker, beside docker run",
    "docker_databases": "databases and caches on docker",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exits with 1 where a ratio missed its target."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = ", ".join(f"{name} ({what})" for name, what in MEASUREMENTS.items())
    parser.add_argument("measurements", nargs="*", metavar="MEASUREMENT", help=f"all by default: {names}")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is repeated (default: 5)")
    options = parser.parse_args(arguments)
    if unknown := set(options.measurements) - set(MEASUREMENTS):
        parser.error(f"there is no measurement {', '.join(sorted(unknown))}; there are: {', '.join(MEASUREMENTS)}")
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    figures: list[Figure] = []
    for name in options.measurements or MEASUREMENTS:
        load = f"{os.getloadavg()[0]:.1f} programs run on {os.cpu_count()} processors"
        print(f"\n{name}: {MEASUREMENTS[name]} ({load})", flush=True)
        for figure in import_module(f"bench.{name}").measure(options.rounds):
            print(figure, flush=True)
            figures.append(figure)
    return exit_code(figures)


if __name__ == "__main__":
    sys.exit(main())
