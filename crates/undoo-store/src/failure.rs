//! What a database says went wrong, as a [`Problem`].
//!
//! The message is for people and never has SQL, values or credentials in it; what the database said rides
//! along as the source, for the log.

use sea_orm::{
    DbErr, RuntimeErr, SqlErr,
    sqlx::{self, error::DatabaseError, postgres::PgDatabaseError, sqlite::SqliteError},
};
use undoo_core::{Kind, Problem};

/// The problem that an error of the database is.
pub(crate) fn failure(error: DbErr) -> Problem {
    problem_of(&error).caused_by(error)
}

/// The same for what comes from below the object mapper.
pub(crate) fn driver_failure(error: sqlx::Error) -> Problem {
    driver_problem(&error).caused_by(error)
}

/// As [`failure`], but what is there already is the given conflict.
pub(crate) fn failure_or_taken(error: DbErr, taken: impl FnOnce() -> Problem) -> Problem {
    match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(_)) => taken().caused_by(error),
        _ => failure(error),
    }
}

/// A name that something else has.
pub(crate) fn name_taken(what: &str, name: &str) -> Problem {
    Problem::new(
        Kind::Conflict,
        "name_taken",
        format!("there is {what} named \"{name}\" already"),
        "choose another name",
    )
}

/// What is no longer as it was when somebody decided to change it.
pub(crate) fn changed_meanwhile(what: &str) -> Problem {
    Problem::new(
        Kind::Conflict,
        "changed_meanwhile",
        format!("the {what} was changed by somebody else at the same time"),
        "look at it again, then decide",
    )
}

/// A row that does not say what this program writes.
pub(crate) fn unreadable(
    column: &str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Problem {
    Problem::new(
        Kind::Internal,
        "row_unreadable",
        format!("the database holds a \"{column}\" that this version does not understand"),
        "was the database changed by a newer version, or by hand? Start the version that wrote it",
    )
    .caused_by(error)
}

/// A defect of the caller.
pub(crate) fn misuse(message: impl Into<String>) -> Problem {
    Problem::new(Kind::Internal, "store_misuse", message, "This is a defect of Undoo: report it.")
}

fn problem_of(error: &DbErr) -> Problem {
    match error {
        DbErr::ConnectionAcquire(_) => away(),
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => driver_problem(error),
        _ => defect(),
    }
}

fn driver_problem(error: &sqlx::Error) -> Problem {
    use sqlx::Error as E;
    match error {
        E::Database(error) => database_problem(error.as_ref()),
        E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => away(),
        // Half an answer of a server that is going down.
        E::Protocol(_) => away(),
        _ => defect(),
    }
}

fn database_problem(error: &dyn DatabaseError) -> Problem {
    if error.is_unique_violation() {
        return Problem::new(
            Kind::Conflict,
            "exists_already",
            "something with the same name or id is there already",
            "look at what is there; choose another name",
        );
    }
    if error.is_foreign_key_violation() || is_restricted(error) {
        return Problem::new(
            Kind::Conflict,
            "gone_meanwhile",
            "something that this refers to is not there any more, or still needs this",
            "look at it again, then decide",
        );
    }
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<PgDatabaseError>().is_some() {
        postgres_problem(&code)
    } else if error.try_downcast_ref::<SqliteError>().is_some() {
        sqlite_problem(&code)
    } else {
        defect()
    }
}

/// SQLite carries `ON DELETE RESTRICT` out as a trigger, and says so (SQLITE_CONSTRAINT_TRIGGER). We have none.
fn is_restricted(error: &dyn DatabaseError) -> bool {
    error.try_downcast_ref::<SqliteError>().is_some() && error.code().as_deref() == Some("1811")
}

/// By SQLSTATE (PostgreSQL's manual, appendix A).
fn postgres_problem(code: &str) -> Problem {
    match code {
        "53100" => full(),
        // A text with a NUL, plain or in JSON.
        "22021" | "22P05" => Problem::new(
            Kind::Invalid,
            "text_not_storable",
            "A text has a character in it that the database cannot hold (NUL).",
            "leave that character out",
        ),
        "3D000" => Problem::new(
            Kind::Missing,
            "database_missing",
            "the PostgreSQL server has no database of that name",
            "make it (createdb), or correct the name in the database URL",
        ),
        "42501" => denied("The role that Undoo uses lacks a right in its own database."),
        "42P01" | "42703" => Problem::new(
            Kind::Conflict,
            "not_migrated",
            "the database does not have the tables of this version",
            "run `undoo migrate`, then start again",
        ),
        _ if code.starts_with("28") => denied("The PostgreSQL server refuses the role or its password."),
        // Connections, resources, an operator, time-outs, deadlocks, a standby, the disk.
        _ if ["08", "53", "57", "40"].iter().any(|class| code.starts_with(class)) => away(),
        "25006" | "25P03" | "55P03" | "58030" => away(),
        _ => defect(),
    }
}

/// By result code (sqlite.org/rescode.html); the low byte is the primary one.
fn sqlite_problem(code: &str) -> Problem {
    match code.parse::<u32>().unwrap_or_default() & 0xff {
        5 | 6 | 10 => away(),
        13 => full(),
        3 | 8 | 14 | 23 => denied("The database's file or its folder cannot be read and written."),
        11 | 26 => Problem::new(
            Kind::Invalid,
            "database_damaged",
            "the database's file is damaged, or is no SQLite database",
            "was another file named? If not, put back a copy of it; keep the damaged one",
        ),
        _ => defect(),
    }
}

fn away() -> Problem {
    Problem::new(
        Kind::Unavailable,
        "database_unavailable",
        "the control plane's database does not answer, or broke off",
        "look at the database server and its log. Nothing is lost: what was being done is taken up again",
    )
}

fn full() -> Problem {
    Problem::new(
        Kind::Unavailable,
        "database_full",
        "the disk that the control plane's database is on is full",
        "make room on it. Nothing is lost: what was being done is taken up again",
    )
}

fn denied(message: &str) -> Problem {
    Problem::new(
        Kind::Denied,
        "database_denied",
        message,
        "correct the database URL, or the rights of the role or file that it names",
    )
}

fn defect() -> Problem {
    Problem::new(
        Kind::Internal,
        "database_error",
        "the control plane's database refused something that it should not",
        "this is a defect of Undoo: report it with the lines of the log",
    )
}
