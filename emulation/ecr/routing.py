"""What the registry's routes share: a request together with the repository that it is for."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from emulation.ecr.http import Reply, Request
from emulation.ecr.tokens import Token
from emulation.images.reference import EcrName


@dataclass(frozen=True, slots=True)
class Addressed:
    """`base` is the repository's path as the client writes it, to which it is sent back; `item` what follows."""

    request: Request
    token: Token | None
    name: EcrName
    base: str
    item: str


Handler = Callable[[Addressed], Awaitable[Reply]]
Naming = Callable[[Request, Token | None, str], EcrName]
