#!/bin/bash
# Starts Valkey in a container as people and tools know it from the official images: arguments that begin with a dash,
# or name a configuration file, are the server's. Source: Docker Official Images, redis; Docker Hub, valkey/valkey.
set -Eeuo pipefail

if [ $# = 0 ] || [ "${1:0:1}" = - ] || [ "${1%.conf}" != "$1" ]; then
    set -- valkey-server "$@"
fi
case "$1" in
    redis-server | valkey-server)
        if [ "$(id -u)" = 0 ]; then
            find . \! -user valkey -exec chown valkey:valkey {} +
            set -- as-user valkey "$@"
        fi
        # Whoever reaches the container's port is meant to reach the server.
        case " $* " in *.conf* | *" --protected-mode "*) ;; *) set -- "$@" --protected-mode no ;; esac
        ;;
esac
exec "$@"
