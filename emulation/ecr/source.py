"""Images of ECR for the runtimes: what a task definition names, found in the registry of this process."""

import asyncio

from emulation.core.api_thread import ApiThread
from emulation.ecr.errors import EcrError
from emulation.ecr.service import Ecr
from emulation.errors import ImageNotFound
from emulation.images.reference import ImageReference, ecr_registry
from emulation.images.source import ResolvedImage, read_image


class EcrImages:
    """An ImageSource for the names for which `ecr_registry` gives an answer."""

    def __init__(self, ecr: Ecr, api: ApiThread) -> None:
        self._ecr, self._api = ecr, api

    async def resolve(self, reference: str, account: str) -> ResolvedImage:
        """See ImageSource; counts as a pull.

        Source: Amazon ECS Developer Guide, "CannotPullContainer task errors".
        """
        # Emulation: an account may pull from the repositories of all others; AWS wants a repository policy for that.
        parsed = ImageReference.parse(reference)
        name = ecr_registry(parsed)
        if name is None:
            raise ImageNotFound(f"{reference}: not found: it is not the name of an ECR repository")
        # Docker ignores the tag where there is a digest too.
        tag = "" if parsed.digest else parsed.tag
        try:
            image, _ = await self._api.call(self._ecr.pull, name, digest=parsed.digest, tag=tag)
        except (EcrError, FileNotFoundError) as error:
            raise ImageNotFound(f"{parsed}: not found") from error
        return await asyncio.to_thread(read_image, self._ecr.store.blobs, image.digest, str(parsed))
