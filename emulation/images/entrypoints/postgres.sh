#!/bin/bash
# Starts PostgreSQL in a container, with the variables, folders and log lines that people and tools know from the
# official image. Source: Docker Official Images, postgres, "Environment Variables" and "Initialization scripts".
set -Eeuo pipefail

# The value of $1, or what is in the file that $1_FILE names (Docker secrets).
value_of() {
    local file="$1_FILE"
    if [ -n "${!file:-}" ]; then
        printf '%s' "$(<"${!file}")"
    else
        printf '%s' "${!1:-}"
    fi
}

create_data_folder() {
    local user password database method
    user=$(value_of POSTGRES_USER)
    user=${user:-postgres}
    password=$(value_of POSTGRES_PASSWORD)
    database=$(value_of POSTGRES_DB)
    database=${database:-$user}
    method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    if [ -z "$password" ] && [ "$method" != trust ]; then
        echo 'Error: Database is uninitialized and superuser password is not specified.' >&2
        echo '       Set POSTGRES_PASSWORD, for example: docker run -e POSTGRES_PASSWORD=… …' >&2
        exit 1
    fi
    # shellcheck disable=SC2086  # several arguments in one variable, as the official image has it
    initdb --username="$user" --pwfile=<(printf '%s\n' "$password") --pgdata="$PGDATA" ${POSTGRES_INITDB_ARGS:-}
    printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
    printf "\nlisten_addresses = '*'\n" >>"$PGDATA/postgresql.conf"

    # A server that nobody else reaches, while databases are created.
    local options
    options=$(printf '%q ' "${@:2}" -c "listen_addresses=" -p "${PGPORT:-5432}")
    PGUSER=$user pg_ctl --pgdata="$PGDATA" --options="$options" --wait start
    local client=(psql --no-psqlrc --no-password --set=ON_ERROR_STOP=1 --username="$user")
    if [ "$database" != postgres ]; then
        "${client[@]}" --dbname=postgres --set=database="$database" <<<'create database :"database";'
    fi
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        case "$file" in
            *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
            *.sql) "${client[@]}" --dbname="$database" --file="$file" ;;
        esac
    done
    PGUSER=$user pg_ctl --pgdata="$PGDATA" --mode=fast --wait stop
    echo
    echo 'PostgreSQL init process complete; ready for start up.'
    echo
}

if [ $# = 0 ] || [ "${1:0:1}" = - ]; then
    set -- postgres "$@"
fi
serves=$([ "$1" = postgres ] && echo yes || echo no)
for argument in "$@"; do
    case "$argument" in
        -'?' | --help | --describe-config | -V | --version) serves=no ;;
    esac
done
if [ "$serves" = yes ]; then
    if [ "$(id -u)" = 0 ]; then
        mkdir -p "$PGDATA"
        chmod 700 "$PGDATA"
        find "$PGDATA" \! -user postgres -exec chown postgres:postgres {} +
        exec as-user postgres "$0" "$@"
    fi
    if [ ! -s "$PGDATA/PG_VERSION" ]; then
        create_data_folder "$@"
    fi
elif [ "$(id -u)" = 0 ] && [ "$1" = postgres ]; then
    exec as-user postgres "$@"
fi
exec "$@"
