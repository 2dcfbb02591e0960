#!/usr/bin/env bash
# What the official postgres image does at a start, for the stand-in image: makes
# the cluster on the first one from POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB,
# POSTGRES_INITDB_ARGS, POSTGRES_HOST_AUTH_METHOD and PGDATA (the first four also
# as NAME_FILE), runs /docker-entrypoint-initdb.d, then becomes the server.
set -Eeuo pipefail

# from_file NAME DEFAULT: the variable, else the content of the file NAME_FILE names.
from_file() {
  local file="${1}_FILE"
  if [ -n "${!1:-}" ] && [ -n "${!file:-}" ]; then
    echo >&2 "error: both $1 and $file are set (but are exclusive)"
    exit 1
  fi
  if [ -z "${!1:-}" ] && [ -n "${!file:-}" ]; then export "$1=$(<"${!file}")"; fi
  export "$1=${!1:-$2}"
  unset "$file"
}

initdb_scripts() {
  local script
  for script in /docker-entrypoint-initdb.d/*; do
    case "$script" in
      *.sh)
        echo "$0: running $script"
        if [ -x "$script" ]; then "$script"; else
          # shellcheck source=/dev/null
          . "$script"
        fi
        ;;
      *.sql) echo "$0: running $script"; "${psql[@]}" --dbname "$POSTGRES_DB" -f "$script" ;;
      *.sql.gz) echo "$0: running $script"; gunzip -c "$script" | "${psql[@]}" --dbname "$POSTGRES_DB" ;;
      *.sql.xz) echo "$0: running $script"; xzcat "$script" | "${psql[@]}" --dbname "$POSTGRES_DB" ;;
      *.sql.zst) echo "$0: running $script"; zstd -dc "$script" | "${psql[@]}" --dbname "$POSTGRES_DB" ;;
      *) if [ -e "$script" ]; then echo "$0: ignoring $script"; fi ;;
    esac
  done
}

make_cluster() { # SERVER ARGUMENTS
  from_file POSTGRES_PASSWORD ""
  from_file POSTGRES_USER postgres
  from_file POSTGRES_DB "$POSTGRES_USER"
  from_file POSTGRES_INITDB_ARGS ""
  if [ -z "$POSTGRES_PASSWORD" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
    echo >&2 "Error: Database is uninitialized and superuser password is not specified."
    echo >&2 "       You must specify POSTGRES_PASSWORD to a non-empty value for the superuser,"
    echo >&2 "       or POSTGRES_HOST_AUTH_METHOD=trust to allow all connections without a password."
    exit 1
  fi

  # As in the official image, POSTGRES_INITDB_ARGS is evaluated as shell words.
  if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then POSTGRES_INITDB_ARGS+=" --waldir $POSTGRES_INITDB_WALDIR"; fi
  eval 'initdb --username="$POSTGRES_USER" --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD") '"$POSTGRES_INITDB_ARGS"

  local method="${POSTGRES_HOST_AUTH_METHOD:-}"
  : "${method:=$(postgres -C password_encryption -D "$PGDATA" "${@:2}")}"
  printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"

  # A server for the set-up alone, on the socket only.
  export PGPASSWORD="${PGPASSWORD:-$POSTGRES_PASSWORD}"
  PGUSER="$POSTGRES_USER" pg_ctl -D "$PGDATA" -w start -o "$(printf '%q ' "${@:2}" -c listen_addresses= -p "${PGPORT:-5432}")"
  psql=(psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER")
  if [ "$POSTGRES_DB" != postgres ]; then
    "${psql[@]}" --dbname postgres -v db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
  fi
  initdb_scripts
  PGUSER="$POSTGRES_USER" pg_ctl -D "$PGDATA" -m fast -w stop
  unset PGPASSWORD
  printf '\nPostgreSQL init process complete; ready for start up.\n\n'
}

if [ "${1:0:1}" = - ]; then set -- postgres "$@"; fi

wants_help() {
  local word
  for word in "$@"; do
    case "$word" in -'?' | --help | --describe-config | -V | --version) return 0 ;; esac
  done
  return 1
}

if [ "${1:-}" = postgres ] && ! wants_help "$@"; then
  if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    chmod 00700 "$PGDATA"
    chmod 03775 /var/run/postgresql
    if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then
      mkdir -p "$POSTGRES_INITDB_WALDIR"
      chown postgres "$POSTGRES_INITDB_WALDIR"
      chmod 700 "$POSTGRES_INITDB_WALDIR"
    fi
    find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
    find /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
    exec gosu postgres "$0" "$@"
  fi
  mkdir -p "$PGDATA"
  chmod 00700 "$PGDATA" || :
  if [ -s "$PGDATA/PG_VERSION" ]; then
    printf '\nPostgreSQL Database directory appears to contain a database; Skipping initialization\n\n'
  else
    make_cluster "$@"
  fi
fi

exec "$@"
