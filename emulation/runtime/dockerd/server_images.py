"""Images for the servers of managed services: those that the daemon has, and else one made of this machine's programs.

Nothing is pulled: what a version is called here has to be in the daemon already.
"""

import logging
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import NotFound

from emulation.errors import SunaboxError
from emulation.images import archive
from emulation.images.base import LABEL, RECIPE_LABEL, VERSION_LABEL, build_base, default_name, recipe_digest
from emulation.images.library import Library
from emulation.images.reference import ImageReference
from emulation.runtime.dockerd.server_container import explained

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerImage:
    """An image that the daemon has. `repository` is where its name begins: "valkey/valkey"."""

    name: str
    version: str
    repository: str


class ServerImages:
    """`base` is the image of ours (see `images.base`), `variable` the one in which official images say their version.

    Everything blocks, and may be called by any thread. Raises SunaboxError where the daemon does not answer.
    """

    def __init__(self, library: Library, base: str, variable: str, oldest: tuple[int, ...]) -> None:
        self._library, self._base, self._variable, self._oldest = library, base, variable, oldest
        self._lock = threading.Lock()

    def version(self, repositories: Sequence[str], asked: str, own: str) -> str:
        """The version that a server gets when `asked` is wanted and `own` ("" for none) is on this machine."""
        image = self._choose(repositories, asked, own)
        return image.version if image is not None else own or self.ours("").version

    def find(self, repositories: Sequence[str], version: str, own: str) -> ServerImage:
        """The image for a server of a version that `version` gave; made where it is ours, and not there yet."""
        return self._choose(repositories, version, own) or self.ours(own)

    def _choose(self, repositories: Sequence[str], asked: str, own: str) -> ServerImage | None:
        """The image whose version is the asked one, else of that minor, else major version; None means ours.

        Of several it is the newest.
        """
        if not asked:
            return None
        with self._lock:
            found = self._official(repositories)
        if own:
            found.append(ServerImage("", own, ""))
        wanted = asked.split(".")
        for parts in range(len(wanted), 0, -1):
            same = [image for image in found if image.version.split(".")[:parts] == wanted[:parts]]
            if same:
                best = max(same, key=lambda image: (numbers(image.version), image.name))
                return best if best.name else None
        return None

    def ours(self, version: str) -> ServerImage:
        """The image made of this machine's programs of that version; made, and given to the daemon, where needed.

        `version` is "" where the programs are not on this machine: the daemon's newest image of the kind then.
        """
        with self._lock:
            known = [image for image in self._list() if (image["Labels"] or {}).get(LABEL) == self._base]
            if not version:
                return self._newest(known)
            name = default_name(self._base, version)
            for image in known:
                labels = image["Labels"]
                fresh = labels.get(RECIPE_LABEL) == recipe_digest() and labels.get(VERSION_LABEL) == version
                if fresh and name in (image["RepoTags"] or ()):
                    return ServerImage(name, version, name.partition(":")[0])
            log.info("The image %s is made and given to the Docker daemon", name)
            build_base(self._base, self._library)
            with tempfile.TemporaryDirectory(prefix="sunabox-image-") as folder:
                tar = Path(folder, "image.tar")
                archive.save(self._library, [name], tar)
                with connected() as daemon, tar.open("rb") as stream:
                    daemon.images.load(stream)
            return ServerImage(name, version, name.partition(":")[0])

    def _newest(self, known: Sequence[Any]) -> ServerImage:
        if not known:
            raise SunaboxError(
                f"The Docker daemon has no {self._base} image. Pull one (docker pull {self._base}), or where Sunabox "
                f"is installed with its servers: sunabox image base {self._base} --docker."
            )
        newest = max(known, key=lambda image: numbers(image["Labels"].get(VERSION_LABEL, "")))
        version = newest["Labels"].get(VERSION_LABEL, "")
        return ServerImage((newest["RepoTags"] or [newest["Id"]])[0], version, default_name(self._base, "").rstrip(":"))

    def _official(self, repositories: Sequence[str]) -> list[ServerImage]:
        found = []
        for image in self._list():
            if LABEL in (image["Labels"] or {}):
                continue
            for tag in image["RepoTags"] or ():
                reference = ImageReference.parse(tag).familiar
                if reference.name in repositories:
                    match = re.match(r"\d+(\.\d+)*", self._said(image["Id"]) or str(reference.tag))
                    if match is not None and numbers(match[0]) >= self._oldest:
                        found.append(ServerImage(tag, match[0], reference.name))
        return found

    def _said(self, image: str) -> str:
        """The version of which an image says that it is."""
        with connected() as daemon:
            try:
                lines = daemon.api.inspect_image(image)["Config"].get("Env") or ()
            except NotFound:  # somebody has just removed it
                return ""
        return str(dict(line.partition("=")[::2] for line in lines).get(self._variable, ""))

    def _list(self) -> list[dict[str, Any]]:
        with connected() as daemon:
            return list(daemon.api.images())


@contextmanager
def connected() -> Iterator[Any]:
    """The docker SDK's client, for the daemon that Testcontainers uses."""
    from testcontainers.core.docker_client import DockerClient

    with explained():
        client = DockerClient().client
        try:
            yield client
        finally:
            client.close()


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
