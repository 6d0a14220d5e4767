"""Images for the runtime, from ECR and from this machine."""

from emulation.images.reference import ImageReference, ecr_registry
from emulation.images.source import ImageSource, ResolvedImage


class Images:
    """Where the runtime finds images: ECR for its names, the machine's local images for all others."""

    def __init__(self, ecr: ImageSource, library: ImageSource) -> None:
        self._ecr, self._library = ecr, library

    async def resolve(self, reference: str, account: str) -> ResolvedImage:
        of_ecr = ecr_registry(ImageReference.parse(reference)) is not None
        return await (self._ecr if of_ecr else self._library).resolve(reference, account)
