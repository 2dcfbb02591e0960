#!/bin/bash
# What the official odoo image does at a start, for the stand-in image: takes HOST,
# PORT, USER and PASSWORD for the database connection unless the config file has
# them, waits for the database server, then becomes Odoo.
set -e

if [ -v PASSWORD_FILE ]; then PASSWORD="$(<"$PASSWORD_FILE")"; fi
: "${HOST:=${DB_PORT_5432_TCP_ADDR:-db}}"
: "${PORT:=${DB_PORT_5432_TCP_PORT:-5432}}"
: "${USER:=${DB_ENV_POSTGRES_USER:-${POSTGRES_USER:-odoo}}}"
: "${PASSWORD:=${DB_ENV_POSTGRES_PASSWORD:-${POSTGRES_PASSWORD:-odoo}}}"

DB_ARGS=()
db_arg() { # OPTION VALUE
  local value="$2" line
  if line=$(grep -E "^\s*$1\s*=" "$ODOO_RC" | tail -n 1) && [ -n "$line" ]; then
    value=$(sed -E 's/^[^=]*=\s*//; s/\s*$//; s/^"(.*)"$/\1/' <<<"$line")
  fi
  DB_ARGS+=("--$1" "$value")
}
db_arg db_host "$HOST"
db_arg db_port "$PORT"
db_arg db_user "$USER"
db_arg db_password "$PASSWORD"

case "$1" in
  -- | odoo)
    shift
    if [ "$1" = scaffold ]; then exec odoo "$@"; fi
    wait-for-psql.py "${DB_ARGS[@]}" --timeout=30
    exec odoo "$@" "${DB_ARGS[@]}"
    ;;
  -*)
    wait-for-psql.py "${DB_ARGS[@]}" --timeout=30
    exec odoo "$@" "${DB_ARGS[@]}"
    ;;
  *) exec "$@" ;;
esac
