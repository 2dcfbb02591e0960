//! Servers are shown as they are: whether their Docker Engine answers, since when not, and what they have.
//!
//! What a person wants of a server is not touched here, `draining` least of all.

use futures_util::{StreamExt, stream};
use undoo_core::{Result, platform::Server};
use undoo_store::{Page, servers};

use crate::Control;

/// Servers that are looked at side by side: one that is silent is not to keep the others waiting.
const SIDE_BY_SIDE: usize = 8;

pub(super) async fn reconcile(control: &Control) -> Result<()> {
    let mut page = Page { page: 1, size: 100 };
    loop {
        let listed = servers::all(&control.store, page).await?;
        let full = listed.items.len() as u64 >= page.size;
        let looks = stream::iter(listed.items).map(|server| look(control, server));
        let looked: Vec<Result<()>> = looks.buffer_unordered(SIDE_BY_SIDE).collect().await;
        looked.into_iter().collect::<Result<()>>()?;
        if !full {
            return Ok(());
        }
        page.page += 1;
    }
}

async fn look(control: &Control, server: Server) -> Result<()> {
    let found = control.look_at(&server).await;
    if let Err(problem) = &found {
        tracing::debug!(%problem, server = %server.id, "not to be reached");
    }
    control.server_observed(&server, &found, None).await.map(drop)
}
