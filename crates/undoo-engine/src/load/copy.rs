//! Rows of the dump spread over several `COPY` sessions.
//!
//! One table's rows go to one session as long as it keeps up, and to further ones, split where a row
//! ends, when it does not: a large table loads on all sessions, many small ones load side by side.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, future::select_all};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_postgres::Client;
use undoo_archive::dump::statement::QualifiedName;
use undoo_core::{Kind, Problem, Result};

use super::{pace::Pace, session};
use crate::pg;

/// Chunks that wait for one session.
const QUEUE: usize = 4;

/// Code of the problem that means: another session has failed, and knows why.
pub(super) const GONE: &str = "load_session_gone";

enum Piece {
    Start { table: QualifiedName, sql: String },
    Rows(Bytes),
    End,
}

/// Rows that the server says it took, for one `COPY`.
#[derive(Debug)]
pub struct Taken {
    /// The table.
    pub table: QualifiedName,
    /// The server's count.
    pub rows: u64,
}

struct Session {
    queue: mpsc::Sender<Piece>,
    task: JoinHandle<(Client, Result<Vec<Taken>>)>,
    attached: bool,
}

/// The sessions and the table that is being loaded.
pub struct Copier {
    sessions: Vec<Session>,
    pace: Arc<Pace>,
    table: Option<(QualifiedName, String)>,
    /// The session that must get the rest of a row.
    row_goes_on: Option<usize>,
}

impl Copier {
    /// Takes over sessions for the time of the data.
    pub fn new(clients: Vec<Client>, pace: Arc<Pace>) -> Self {
        let sessions = clients
            .into_iter()
            .map(|client| {
                let (queue, pieces) = mpsc::channel(QUEUE);
                Session { queue, task: tokio::spawn(run(client, pieces)), attached: false }
            })
            .collect();
        Self { sessions, pace, table: None, row_goes_on: None }
    }

    /// A table's rows begin.
    pub fn start(&mut self, table: QualifiedName, sql: String) {
        self.table = Some((table, sql));
    }

    /// Hands rows to a session.
    ///
    /// # Errors
    /// A session that failed is named by [`Copier::finish`]; this then answers `Cancelled`.
    pub async fn rows(&mut self, bytes: Vec<u8>, ends_row: bool) -> Result<()> {
        let chosen = match self.row_goes_on {
            Some(index) => index,
            None => self.choose().await?,
        };
        self.row_goes_on = (!ends_row).then_some(chosen);
        if !self.sessions[chosen].attached {
            let (table, sql) = self.table.clone().ok_or_else(no_table)?;
            self.sessions[chosen].attached = true;
            self.send(chosen, Piece::Start { table, sql }).await?;
        }
        self.send(chosen, Piece::Rows(bytes.into())).await
    }

    /// The table is complete.
    ///
    /// # Errors
    /// As [`Copier::rows`].
    pub async fn end(&mut self) -> Result<()> {
        self.table = None;
        for index in 0..self.sessions.len() {
            if std::mem::take(&mut self.sessions[index].attached) {
                self.send(index, Piece::End).await?;
            }
        }
        Ok(())
    }

    /// Waits for all sessions and gives them back with what the server took.
    ///
    /// # Errors
    /// The first failure of a session.
    pub async fn finish(self) -> Result<(Vec<Client>, Vec<Taken>)> {
        let (mut clients, mut taken) = (Vec::new(), Vec::new());
        let mut failure = None;
        for Session { queue, task, .. } in self.sessions {
            drop(queue);
            match task.await {
                Ok((client, Ok(rows))) => {
                    clients.push(client);
                    taken.extend(rows);
                }
                // A session that was given up on says less than the one that was the cause.
                Ok((_, Err(problem))) => {
                    failure = failure.filter(|first: &Problem| first.code != GONE).or(Some(problem));
                }
                Err(error) => {
                    failure = failure.or_else(|| Some(session::lost(error)));
                }
            }
        }
        failure.map_or(Ok((clients, taken)), Err)
    }

    /// Among the sessions that may work now: an attached one with room, else an idle one, else the first
    /// that gets room.
    async fn choose(&self) -> Result<usize> {
        let usable = &self.sessions[..self.pace.allowed(self.sessions.len())];
        let room = |session: &Session| session.queue.capacity();
        let attached = usable.iter().enumerate().filter(|(_, session)| session.attached);
        if let Some((index, _)) =
            attached.filter(|(_, session)| room(session) > 0).max_by_key(|(_, session)| room(session))
        {
            return Ok(index);
        }
        let idle = usable.iter().enumerate().find(|(_, s)| !s.attached && room(s) == QUEUE);
        if let Some((index, _)) = idle {
            return Ok(index);
        }
        let waiting = usable.iter().map(|session| Box::pin(session.queue.reserve()));
        let (permit, index, _) = select_all(waiting).await;
        permit.map(|_| index).map_err(|_| gone())
    }

    async fn send(&self, index: usize, piece: Piece) -> Result<()> {
        self.sessions[index].queue.send(piece).await.map_err(|_| gone())
    }
}

fn gone() -> Problem {
    Problem::new(Kind::Cancelled, GONE, "a loading session ended early", "")
}

fn no_table() -> Problem {
    Problem::new(Kind::Internal, "rows_without_table", "rows came before their table", "please report this")
}

/// One session's life: `COPY` after `COPY` in one transaction.
async fn run(client: Client, mut pieces: mpsc::Receiver<Piece>) -> (Client, Result<Vec<Taken>>) {
    let outcome = copy_all(&client, &mut pieces).await;
    (client, outcome)
}

async fn copy_all(client: &Client, pieces: &mut mpsc::Receiver<Piece>) -> Result<Vec<Taken>> {
    let mut taken = Vec::new();
    client.batch_execute("BEGIN").await.map_err(pg::failed("loading rows"))?;
    while let Some(piece) = pieces.recv().await {
        let Piece::Start { table, sql } = piece else { return Err(no_table()) };
        let failed = |error| rows_failed(&table, error);
        let sink = client.copy_in::<_, Bytes>(&sql).await.map_err(failed)?;
        let mut sink = std::pin::pin!(sink);
        loop {
            match pieces.recv().await {
                Some(Piece::Rows(bytes)) => {
                    if let Err(error) = sink.send(bytes).await {
                        // The reason comes with the end of the COPY.
                        let reason = sink.as_mut().finish().await.err().unwrap_or(error);
                        return Err(failed(reason));
                    }
                }
                Some(Piece::End) => break,
                Some(Piece::Start { .. }) => return Err(no_table()),
                // The reader gave up in the middle of a table: dropping the sink fails the COPY.
                None => return Err(gone()),
            }
        }
        let rows = sink.as_mut().finish().await.map_err(failed)?;
        taken.push(Taken { table, rows });
    }
    client.batch_execute("COMMIT").await.map_err(pg::failed("loading rows"))?;
    Ok(taken)
}

fn rows_failed(table: &QualifiedName, error: tokio_postgres::Error) -> Problem {
    if pg::is_the_servers(&error) {
        return pg::failed(&format!("loading rows of {table}"))(error);
    }
    let context = error.as_db_error().and_then(|db| db.where_()).unwrap_or_default();
    Problem::new(
        Kind::Invalid,
        "rows_refused",
        format!("PostgreSQL refused rows of {table}: {} {context}", pg::describe(&error)),
        "the live system is untouched; the backup's data for this table is damaged",
    )
    .caused_by(error)
}
