"""Flattens an image's layers into a folder, without ever touching anything outside it."""

from pathlib import Path

from emulation.images.source import ResolvedImage


def unpack(image: ResolvedImage, root: Path, *, uid_shift: int = 0) -> None:
    """Unpacks all layers, lowest first, into the new folder `root`, which appears when it is complete.

    Raises ImageError and leaves nothing behind where a layer is damaged, unsafe or of an unknown kind.
    """
    raise NotImplementedError
