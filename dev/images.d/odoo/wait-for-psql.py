#!/usr/bin/python3
"""Waits until the database server takes a connection, as the official odoo image does."""
import argparse
import sys
import time

import psycopg2

parser = argparse.ArgumentParser()
for option in ("--db_host", "--db_port", "--db_user", "--db_password"):
    parser.add_argument(option, required=True)
parser.add_argument("--timeout", type=int, default=5)
args = parser.parse_args()

deadline = time.monotonic() + args.timeout
while True:
    try:
        psycopg2.connect(host=args.db_host, port=args.db_port, user=args.db_user,
                         password=args.db_password, dbname="postgres").close()
        break
    except psycopg2.OperationalError as error:
        if time.monotonic() >= deadline:
            sys.exit(f"Database connection failure: {error}")
        time.sleep(1)
