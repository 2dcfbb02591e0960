//! `undoo undo` and `undoo resume`: which pair is live.

use undoo_core::{Kind, Problem, Side};
use undoo_engine::{
    order::Failure,
    orders::UndoPlan,
    record::{Record, State},
};

use super::confirm;
use crate::{
    caller::Caller,
    cli::{OnTarget, Undo},
    place::Place,
    signature,
    ui::Ui,
    work::{report, swap},
};

/// Tables of which an undo's page names the counts.
const SHOWN_TABLES: usize = 12;

pub(super) async fn run(arguments: &Undo, ui: &Ui) -> Result<(), Failure> {
    let caller = Caller::at(ui);
    let on = &arguments.on;
    let place = Place::find(on.target.as_deref(), &on.place, caller).await?;
    let plan = swap::plan(&place, caller).await?;
    ui.settle();
    if arguments.dry_run {
        if ui.is_json() {
            ui.done(&plan)?;
        } else {
            show_plan(&plan);
        }
        return Ok(());
    }
    if !ui.is_json() {
        show_plan(&plan);
    }
    let expired = plan.record.expired(jiff::Timestamp::now());
    if expired && !matches!(plan.record.state, State::Swapping { .. }) {
        ui.say("The undo window is over, but the pair is still there.");
    }
    confirm("Swap them?", arguments.yes, ui).await?;
    swap_and_show(&place, &plan.record, plan.to, ui).await
}

fn show_plan(plan: &UndoPlan) {
    let record = &plan.record;
    println!("Restore {} of \"{}\" from {}", record.id, record.database, record.backup);
    println!("  the {} pair goes live; the {} one is kept", plan.to.word(), plan.to.other().word());
    if let Some(since) = record.swapped {
        let rows: i64 = plan.written.iter().map(|row| row.created + row.changed).sum();
        println!("  written since {since}: {rows} rows in {} tables", plan.written.len());
    }
    for row in plan.written.iter().take(SHOWN_TABLES) {
        println!("    {:40} {} new, {} changed", row.table, row.created, row.changed);
    }
}

async fn swap_and_show(place: &Place, record: &Record, to: Side, ui: &Ui) -> Result<(), Failure> {
    let caller = Caller::at(ui);
    let record = swap::swap(place, record, to, caller).await?;
    match signature::signer() {
        Ok(signer) => drop(report::keep_drafted(place, record.id, &signer, caller).await),
        Err(problem) => report::not_stored(&problem, caller),
    }
    ui.settle();
    if ui.is_json() {
        return ui.done(&record);
    }
    println!("The {} pair of \"{}\" is live", to.word(), record.database);
    if let Some(downtime) = record.downtime_ms {
        println!("  downtime    {:.1} s", downtime as f64 / 1000.0);
    }
    if let Some(until) = record.undo_until {
        println!("  undo        `undoo undo {}` swaps back, until {until}", record.target);
    }
    Ok(())
}

pub(super) async fn resume(arguments: &OnTarget, ui: &Ui) -> Result<(), Failure> {
    let caller = Caller::at(ui);
    let place = Place::find(arguments.target.as_deref(), &arguments.place, caller).await?;
    let plan = swap::plan(&place, caller).await?;
    let State::Swapping { to } = plan.record.state else {
        return Err(Problem::new(
            Kind::Conflict,
            "nothing_to_resume",
            format!("no cutover of \"{}\" broke off", plan.record.database),
            "`undoo list` shows where things stand",
        )
        .into());
    };
    swap_and_show(&place, &plan.record, to, ui).await
}
