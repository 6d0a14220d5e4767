"""Errors of the API, in AWS's codes. Source: Elastic Load Balancing API reference, Common errors."""

from emulation.errors import SunaboxError

NOT_EMULATED = "NotImplemented"


class ElbError(SunaboxError):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class TargetRefused(ElbError):
    """A target cannot be registered."""


def validation_error(message: str) -> ElbError:
    return ElbError("ValidationError", message)


def not_emulated(what: str) -> ElbError:
    return ElbError(NOT_EMULATED, f"Sunabox does not emulate {what}.")
