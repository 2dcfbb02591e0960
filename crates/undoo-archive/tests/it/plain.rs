//! Plain dumps made by the real pg_dump.
