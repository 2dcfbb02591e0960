//! `undoo undo` and `undoo resume`: which pair is live.

use undoo_core::{Kind, Problem, Side};
use undoo_engine::{
    order::Failure,
    orders::{Order, UndoPlan},
    record::{Record, State},
};

use super::{confirm, report};
use crate::{
    cli::{OnTarget, Undo},
    place::{Cutover, Place},
    ui::Ui,
};

/// Tables of which an undo's page names the counts.
const SHOWN_TABLES: usize = 12;

pub(super) async fn run(arguments: &Undo, ui: &Ui) -> Result<(), Failure> {
    let on = &arguments.on;
    let place = Place::find(on.target.as_deref(), &on.place).await?;
    let order = Order::PlanUndo { target: place.target().clone() };
    let plan: UndoPlan = place.order(order, ui).await?;
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
    swap(&place, &plan.record, plan.to, ui).await
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

async fn swap(place: &Place, record: &Record, to: Side, ui: &Ui) -> Result<(), Failure> {
    let cutover = Cutover { id: record.id, to, auto_rollback: true, booted_ms: None };
    let record = place.cut_over(cutover, ui).await?;
    report::keep_drafted(place, &record, ui).await;
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
    let place = Place::find(arguments.target.as_deref(), &arguments.place).await?;
    let order = Order::PlanUndo { target: place.target().clone() };
    let plan: UndoPlan = place.order(order, ui).await?;
    let State::Swapping { to } = plan.record.state else {
        return Err(Problem::new(
            Kind::Conflict,
            "nothing_to_resume",
            format!("no cutover of \"{}\" broke off", plan.record.database),
            "`undoo list` shows where things stand",
        )
        .into());
    };
    swap(&place, &plan.record, to, ui).await
}
