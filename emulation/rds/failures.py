"""Errors of the RDS API, with AWS's codes and words. `api.py` turns them into moto's."""


class RdsError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def invalid_value(message: str) -> RdsError:
    return RdsError("InvalidParameterValue", message)


def invalid_combination(message: str) -> RdsError:
    return RdsError("InvalidParameterCombination", message)


def invalid_state(message: str) -> RdsError:
    return RdsError("InvalidDBInstanceState", message)


def not_emulated(message: str) -> RdsError:
    """What Sunabox would only pretend."""
    return RdsError("NotImplemented", f"Sunabox does not emulate {message}.")
