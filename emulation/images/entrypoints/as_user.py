#!/usr/local/bin/python3 -IS
"""as-user NAME PROGRAM [ARGUMENT…]: becomes the program as that user, with its home folder and groups."""

import os
import pwd
import sys

name, *command = sys.argv[1:]
user = pwd.getpwnam(name)
os.setgroups([user.pw_gid])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
os.environ["HOME"] = user.pw_dir
try:
    os.execvp(command[0], command)
except OSError as error:
    sys.exit(f"as-user: {command[0]}: {error.strerror}")
