"""Errors that people see. Each message says what is wrong and what to do next."""


class SunaboxError(Exception):
    """Base of every error that Sunabox raises on purpose."""


class PortInUse(SunaboxError):
    """An address that Sunabox has to serve is taken by another program."""


class RuntimeUnavailable(SunaboxError):
    """The machine lacks something that a runtime cannot do without."""


class ImageError(SunaboxError):
    """An image cannot be used: malformed, lying about its digest, unsafe, or for another architecture."""


class ImageNotFound(ImageError):
    """No registry that Sunabox knows has an image of that name, tag or digest."""


class ContainerStartError(SunaboxError):
    """A container could not be started; the message is what ECS shows as the container's `reason`.

    `exit_code` is what a Docker host reports for it (127: command not found, 126: not executable), None where the
    container was never created.
    """

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class InvalidTransition(SunaboxError):
    """A record was asked to change in a way that its state table does not know; the message holds its history."""
