//! `undoo list`, `release` and `purge`: what restores have left on a target.

use comfy_table::{Table, presets};
use undoo_core::{Kind, Problem, RestoreId};
use undoo_engine::{
    order::Failure,
    orders::{Listed, Order},
    record::State,
};

use super::print_json;
use crate::{
    caller::Caller,
    cli::{OnTarget, Purge},
    place::Place,
    ui::Ui,
};

pub(super) async fn list(arguments: &OnTarget, ui: &Ui) -> Result<(), Failure> {
    let caller = Caller::at(ui);
    let place = Place::find(arguments.target.as_deref(), &arguments.place, caller).await?;
    let listed: Vec<Listed> = place.order(Order::List { target: place.target().clone() }, caller).await?;
    ui.settle();
    if arguments.json {
        return print_json(&listed);
    }
    if listed.is_empty() {
        println!("No restores of \"{}\" on {}", place.target().database, place.target().name);
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["RESTORE", "STARTED", "BACKUP", "STATE", "HELD", "UNDO UNTIL"]);
    for row in listed {
        let record = &row.record;
        let until = match (row.can_be_undone, record.undo_until) {
            (true, Some(until)) => until.strftime("%Y-%m-%d %H:%M UTC").to_string(),
            _ => "-".into(),
        };
        table.add_row([
            record.id.to_string(),
            record.started.strftime("%Y-%m-%d %H:%M").to_string(),
            record.backup.clone(),
            state(record.state),
            format!("{} mails, {} crons", row.held.mails.len(), row.held.crons.len()),
            until,
        ]);
    }
    println!("{table}");
    Ok(())
}

fn state(state: State) -> String {
    match state {
        State::Staging => "staging".into(),
        State::Staged => "staged".into(),
        State::Swapping { to } => format!("broke off on the way to {}", to.word()),
        State::Live { side } => format!("{} is live", side.word()),
        State::Purged => "purged".into(),
    }
}

pub(super) async fn release(arguments: &OnTarget, ui: &Ui) -> Result<(), Failure> {
    let caller = Caller::at(ui);
    let place = Place::find(arguments.target.as_deref(), &arguments.place, caller).await?;
    let released: serde_json::Value =
        place.order(Order::Release { target: place.target().clone() }, caller).await?;
    ui.settle();
    if arguments.json {
        return print_json(&released);
    }
    println!("Released {} mails and {} crons", released["mails"], released["crons"]);
    Ok(())
}

pub(super) fn restore_id(text: &str) -> Result<RestoreId, Problem> {
    text.parse().map_err(|error: undoo_core::id::ParseError| {
        Problem::new(
            Kind::Invalid,
            "restore_id",
            format!("\"{text}\" is no restore's id"),
            "`undoo list` shows the ids",
        )
        .caused_by(error)
    })
}

pub(super) async fn purge(arguments: &Purge, ui: &Ui) -> Result<(), Failure> {
    let caller = Caller::at(ui);
    let on = &arguments.on;
    let id = arguments.restore.as_deref().map(restore_id).transpose()?;
    let place = Place::find(on.target.as_deref(), &on.place, caller).await?;
    let order = Order::Purge { target: place.target().clone(), id };
    let purged: Vec<RestoreId> = place.order(order, caller).await?;
    ui.settle();
    if on.json {
        return print_json(&purged);
    }
    println!("Purged {} kept pairs", purged.len());
    for id in purged {
        println!("  {id}");
    }
    Ok(())
}
