"""Where the Docker daemon is, and whether one answers: asked without the Docker SDK, which takes longer to import."""

import os
import socket
import sys
from collections.abc import Mapping

DEFAULT = "unix:///var/run/docker.sock"
_ANSWER_SECONDS = 2.0


def daemon_url(environment: Mapping[str, str] = os.environ) -> str:
    """$DOCKER_HOST, else the socket where a daemon listens by default."""
    return environment.get("DOCKER_HOST") or DEFAULT


def socket_path(url: str) -> str | None:
    """The path of a daemon's socket on this machine; None where the daemon is reached otherwise."""
    return url.removeprefix("unix://") if url.startswith("unix:///") else None


def obstacle(url: str, platform: str = sys.platform, user: int | None = None) -> str:
    """Why the docker runtime cannot be used with this daemon, and what to do; "" where nothing speaks against it."""
    if platform != "linux":
        return (
            f"The docker runtime needs Linux; this is {platform}. Run Sunabox in a Linux machine (Docker Desktop's "
            "containers are in one), or pass --runtime memory for the API alone."
        )
    if socket_path(url) is None:
        return (
            f"DOCKER_HOST is {url}. The docker runtime needs a daemon on this machine, by its socket "
            f"({DEFAULT}): it connects the containers' network namespaces. Unset DOCKER_HOST, or use --runtime process."
        )
    if (os.geteuid() if user is None else user) != 0:
        return (
            "The docker runtime connects the containers' network namespaces, which takes root, not only access to "
            "Docker's socket. Run Sunabox as root (sudo), or use --runtime process, which needs no root."
        )
    return ""


def answers(url: str) -> bool:
    """Whether a daemon answers at its socket. Where there is none, the answer is immediate."""
    path = socket_path(url)
    if path is None:
        return False
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_ANSWER_SECONDS)
        try:
            sock.connect(path)
            sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
            return sock.recv(64).startswith(b"HTTP/1.1 200")
        except OSError:
            return False


def usable(url: str | None = None) -> bool:
    """Whether `--runtime auto` should mean docker."""
    url = daemon_url() if url is None else url
    return not obstacle(url) and answers(url)
