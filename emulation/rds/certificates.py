"""The certificate authority of RDS, and the certificates of its servers. One authority for a data folder.

Source: Using SSL/TLS to encrypt a connection to a DB instance; the real authority's root certificates are AWS's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """Files that a TLS server reads: the chain, and the key, which only its owner may read."""

    chain: Path
    key: Path


class Authority:
    """`folder` holds its files, which are made when they are first needed."""

    def __init__(self, folder: Path) -> None:
        self._bundle, self._key = folder / "rds-ca.pem", folder / "rds-ca.key"

    def bundle(self) -> Path:
        """What clients give as `sslrootcert`."""
        if not (self._bundle.exists() and self._key.exists()):
            from emulation.rds import certification

            certification.make_root(self._bundle, self._key)
        return self._bundle

    def issue(self, folder: Path, names: Sequence[str], addresses: Sequence[IPv4Address]) -> Certificate:
        """A certificate for a server that is known by these names and addresses, written into `folder`."""
        from emulation.rds import certification

        made = Certificate(folder / "server.pem", folder / "server.key")
        certification.issue(self.bundle(), self._key, made.chain, made.key, names, addresses)
        return made
