//! The words that migrations are written in, so that they read as a list of tables.

use sea_orm_migration::prelude::*;

/// A table of these columns.
pub(super) fn table<const N: usize>(name: &'static str, columns: [ColumnDef; N]) -> TableCreateStatement {
    let mut table = Table::create();
    table.table(name);
    for column in columns {
        table.col(column);
    }
    table
}

/// What becomes of a row whose other end is removed.
pub(super) const GONE_WITH: ForeignKeyAction = ForeignKeyAction::Cascade;
/// See [`GONE_WITH`].
pub(super) const FORGETS: ForeignKeyAction = ForeignKeyAction::SetNull;
/// See [`GONE_WITH`].
pub(super) const KEEPS: ForeignKeyAction = ForeignKeyAction::Restrict;

/// What is said about a table besides its columns.
pub(super) trait Said: Sized {
    /// A primary key of several columns.
    fn key<const N: usize>(self, columns: [&'static str; N]) -> Self;
    /// A column that has the id of a row of another table.
    fn refers(self, column: &'static str, to: &'static str, when_gone: ForeignKeyAction) -> Self;
}

impl Said for TableCreateStatement {
    fn key<const N: usize>(mut self, columns: [&'static str; N]) -> Self {
        let mut key = Index::create();
        for column in columns {
            key.col(column);
        }
        self.primary_key(&mut key);
        self
    }

    fn refers(mut self, column: &'static str, to: &'static str, when_gone: ForeignKeyAction) -> Self {
        self.foreign_key(ForeignKey::create().from_col(column).to(to, "id").on_delete(when_gone));
        self
    }
}

/// An index; a column that begins with a minus is descending.
pub(super) fn index<const N: usize>(
    name: &'static str,
    table: &'static str,
    columns: [&'static str; N],
) -> IndexCreateStatement {
    let mut index = Index::create();
    index.name(name).table(table);
    for column in columns {
        match column.strip_prefix('-') {
            Some(column) => index.col((column, IndexOrder::Desc)),
            None => index.col(column),
        };
    }
    index
}

/// An index of the rows that a condition, in SQL, holds for.
pub(super) fn index_where<const N: usize>(
    name: &'static str,
    table: &'static str,
    columns: [&'static str; N],
    condition: &'static str,
) -> IndexCreateStatement {
    index(name, table, columns).and_where(Expr::cust(condition)).take()
}

/// Two rows may not be the same in these columns.
pub(super) fn unique(mut index: IndexCreateStatement) -> IndexCreateStatement {
    index.unique().take()
}
