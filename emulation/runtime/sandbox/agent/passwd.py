"""A container's user, as the image's own /etc/passwd and /etc/group have it.

Source: Docker, `docker run --user`; Amazon ECS, ContainerDefinition `user` (user, user:group, uid, uid:gid, uid:group,
user:gid).
"""

from typing import NamedTuple


class UserNotFound(Exception):
    """The message is Docker's."""


class User(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def resolve(spec: str, passwd: str, group: str) -> User:
    """Finds the user `spec`; an id need not be listed. The empty spec means root."""
    name, _, group_name = spec.partition(":")
    uid, gid, home = _find_user(name or "0", passwd)
    login = _login(uid, name, passwd)
    groups = tuple(_supplementary(login, gid, group)) if login and not group_name else ()
    if group_name:
        gid = _find_group(group_name, group)
    return User(uid, gid, groups, home)


def _rows(text: str, fields: int) -> list[list[str]]:
    rows = (line.strip().split(":") for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return [row for row in rows if len(row) >= fields and row[2].isdigit()]


def _find_user(name: str, passwd: str) -> tuple[int, int, str]:
    rows = _rows(passwd, 6)
    for row in rows:
        if row[0] == name or (name.isdigit() and int(row[2]) == int(name)):
            return int(row[2]), int(row[3]) if row[3].isdigit() else 0, row[5] or "/"
    if name.isdigit() and int(name) < 1 << 31:
        return int(name), 0, "/"
    raise UserNotFound(f"unable to find user {name}: no matching entries in passwd file")


def _login(uid: int, name: str, passwd: str) -> str:
    for row in _rows(passwd, 6):
        if row[0] == name or int(row[2]) == uid:
            return row[0]
    return ""


def _find_group(name: str, group: str) -> int:
    for row in _rows(group, 3):
        if row[0] == name or (name.isdigit() and int(row[2]) == int(name)):
            return int(row[2])
    if name.isdigit() and int(name) < 1 << 31:
        return int(name)
    raise UserNotFound(f"unable to find group {name}: no matching entries in group file")


def _supplementary(login: str, gid: int, group: str) -> list[int]:
    found = {int(row[2]) for row in _rows(group, 4) if login in row[3].split(",")}
    return sorted(found - {gid})
