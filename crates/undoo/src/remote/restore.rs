//! `undoo restore start|show|list|cancel|undo|release|report`: restores of the server.

use undoo_api::{
    client::IdempotencyKey,
    environments::EnvironmentResponse,
    restores::{
        NewEnvironment, RestoreIntent, RestorePlanResponse, RestorePointResponse, RestoreQuery,
        RestoreRequestV2, RestoreStrategy, RestoreTarget, UndoPlanResponse,
    },
};
use undoo_core::{
    Kind, Problem, Result, ServerId, Side,
    platform::{EnvironmentType, RestoreMode},
};
use undoo_engine::order::Failure;

use super::{Remote, first, page, server::server, watch};
use crate::{
    cli::{
        Intent, Strategy,
        remote::{
            OneRestore, RestoreCommand, RestoreList, RestoreNew, RestoreRelease, RestoreStart, RestoreUndo,
        },
    },
    commands::{can_confirm, confirm, print_json},
    ui::{Ui, finding_lines},
};

pub(super) async fn run(command: RestoreCommand, ui: &Ui) -> Result<(), Failure> {
    match command {
        RestoreCommand::Start(arguments) => start(&arguments, ui).await,
        RestoreCommand::Show(arguments) => show(&arguments).await,
        RestoreCommand::List(arguments) => list(&arguments).await,
        RestoreCommand::Cancel(arguments) => cancel(&arguments).await,
        RestoreCommand::Undo(arguments) => undo(&arguments, ui).await,
        RestoreCommand::Release(arguments) => release(&arguments, ui).await,
        RestoreCommand::Report(arguments) => report(&arguments).await,
    }
}

async fn start(arguments: &RestoreStart, ui: &Ui) -> Result<(), Failure> {
    let remote = Remote::open(&arguments.server)?;
    let (target, live) = goal(&remote, arguments).await?;
    let name = live.as_ref().map(|live| live.name.clone());
    let name = name.or_else(|| arguments.new.name.clone()).unwrap_or_default();
    let request = request(arguments, target);
    if arguments.dry_run {
        let plan = remote.client.restore_plan(&request).await?;
        return planned(&plan, &name, arguments);
    }
    // What is made for it replaces nothing.
    if let Some(live) = live.filter(|live| {
        arguments.strategy == Strategy::StopFirst || live.environment_type == EnvironmentType::Production
    }) {
        can_confirm(arguments.yes, ui)?;
        confirm(&question(arguments, &live), arguments.yes, ui).await?;
    }
    let started = remote.client.restore_start(&request, &IdempotencyKey::generate()).await?;
    let point = &started.restore_point;
    if !arguments.watch {
        if arguments.server.json {
            return print_json(&started);
        }
        println!("Restore {} to {name} is {}", point.id, started.task.status);
        if point.is_new_environment {
            println!("The environment is {}", point.target_environment_id);
        }
        return Ok(());
    }
    ui.say(&format!("Restore {} to {name}", point.id));
    let about = Some(point.id.to_string());
    watch::task(&remote, point.organization_id, started.task.id, about, ui).await?;
    finished(&remote, point, ui).await
}

/// Where a restore goes, and the environment there if it is not to be made.
async fn goal(
    remote: &Remote,
    arguments: &RestoreStart,
) -> Result<(RestoreTarget, Option<EnvironmentResponse>)> {
    if let Some(to) = &arguments.to {
        let there = remote.environment(to).await?;
        let target = RestoreTarget {
            mode: RestoreMode::Existing,
            environment_id: Some(there.id),
            new_environment: None,
        };
        return Ok((target, Some(there)));
    }
    let backup = remote.client.backup(arguments.backup).await?;
    let source = remote.client.environment(backup.environment_id).await?.environment;
    let RestoreNew { name: Some(name), on, .. } = &arguments.new else {
        return Ok((RestoreTarget::default(), Some(source)));
    };
    let server = match on {
        Some(on) => Some(server(remote, source.organization_id, Some(on), "--on").await?.id),
        None => None,
    };
    let RestoreNew { environment, environment_type, .. } = arguments.new.clone();
    let addons = environment.sources()?.into_iter().map(Into::into).collect();
    let target = RestoreTarget {
        mode: mode(server, source.server_id),
        environment_id: None,
        new_environment: Some(NewEnvironment {
            server_id: server,
            domain: environment.domain,
            odoo_image: environment.odoo_image,
            postgres_image: environment.postgres_image,
            http_port: environment.http_port,
            odoo_conf: environment.conf.into_iter().collect(),
            addons,
            ..NewEnvironment::new(name, environment_type.unwrap_or(EnvironmentType::Staging))
        }),
    };
    Ok((target, None))
}

/// Whether an environment that is made goes to another server than its source's.
fn mode(named: Option<ServerId>, of_source: Option<ServerId>) -> RestoreMode {
    match named {
        Some(named) if Some(named) != of_source => RestoreMode::CrossServer,
        _ => RestoreMode::New,
    }
}

fn request(arguments: &RestoreStart, target: RestoreTarget) -> RestoreRequestV2 {
    RestoreRequestV2 {
        target,
        create_pre_restore_backup: !arguments.no_safety_backup,
        keep_raw_pair_instead: arguments.keep_raw_pair_instead,
        include_filestore: !arguments.database_only,
        include_database: !arguments.filestore_only,
        intent: arguments.intent.map(|intent| match intent {
            Intent::Recover => RestoreIntent::Recover,
            Intent::Copy => RestoreIntent::Copy,
            Intent::Move => RestoreIntent::Move,
        }),
        neutralize: arguments.no_neutralize.then_some(false),
        hold_outgoing: arguments.hold_outgoing,
        accept: arguments.accept.clone(),
        strategy: match arguments.strategy {
            Strategy::Beside => RestoreStrategy::Beside,
            Strategy::StopFirst => RestoreStrategy::StopFirst,
        },
        drop_live: arguments.drop_live.clone(),
        auto_rollback: !arguments.no_auto_rollback,
        undo_window_hours: arguments.undo_window,
        ..RestoreRequestV2::new(arguments.backup)
    }
}

fn question(arguments: &RestoreStart, target: &EnvironmentResponse) -> String {
    let EnvironmentResponse { name, environment_type, .. } = target;
    match arguments.strategy {
        Strategy::Beside => format!("Replace what is live in {name} ({environment_type})? It can be undone."),
        Strategy::StopFirst => {
            format!("Stop {name} ({environment_type}) and drop its database? This cannot be undone.")
        }
    }
}

fn planned(plan: &RestorePlanResponse, name: &str, arguments: &RestoreStart) -> Result<(), Failure> {
    if arguments.server.json {
        return print_json(plan);
    }
    println!("Plan: restore {} to {name}", plan.backup_id);
    for finding in &plan.findings {
        println!("{}", finding_lines(finding));
    }
    match &plan.estimate {
        Some(estimate) => println!("It took about {} s before", estimate.median_seconds),
        None => println!("How long it takes is not known yet"),
    }
    if !plan.can_start {
        return Err(Failure::of(&plan.findings, &arguments.accept).unwrap_or_else(|| {
            let message = "findings stand in the way";
            Problem::new(Kind::Refused, "findings", message, "read each for what to do").into()
        }));
    }
    match plan.plan {
        Some(_) => println!("Nothing stands in the way"),
        None => println!("Nothing stands in the way so far; the restore looks at the backup first"),
    }
    Ok(())
}

async fn finished(remote: &Remote, point: &RestorePointResponse, ui: &Ui) -> Result<(), Failure> {
    let point = remote.client.restore(point.id).await?;
    if ui.is_json() {
        return ui.done(&point);
    }
    for finding in &point.findings {
        println!("{}", finding_lines(finding));
    }
    println!("{}", described(&point));
    Ok(())
}

async fn show(arguments: &OneRestore) -> Result<(), Failure> {
    let point = Remote::open(&arguments.server)?.client.restore(arguments.id).await?;
    shown(&point, arguments.server.json)
}

fn shown(point: &RestorePointResponse, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(point);
    }
    println!("{}", described(point));
    for finding in &point.findings {
        println!("{}", finding_lines(finding));
    }
    Ok(())
}

fn described(point: &RestorePointResponse) -> comfy_table::Table {
    let one = point.clone();
    page::properties([
        ("Restore", one.id.to_string()),
        ("Backup", one.backup_id.to_string()),
        ("To", format!("{} ({})", one.target_environment_id, one.mode)),
        ("Status", format!("{}, {} %", one.status, one.progress)),
        ("Phase", page::text(one.phase)),
        ("Task", page::text(one.task_id)),
        ("Safety backup", page::text(one.pre_restore_backup_id)),
        ("Begun", page::time_of(one.started_at)),
        ("Ended", page::time_of(one.completed_at)),
        ("Took", page::text(one.duration_seconds.map(|seconds| format!("{seconds} s")))),
        ("Undo until", page::time_of(one.undo_until)),
        ("Failed at", page::text(one.error_step)),
        ("Error", page::text(one.error_message)),
    ])
}

async fn list(arguments: &RestoreList) -> Result<(), Failure> {
    let remote = Remote::open(&arguments.server)?;
    let environment = remote.environment(&arguments.environment).await?.id;
    let query = RestoreQuery { status: arguments.status, ..Default::default() };
    let restores = first(remote.client.restores(environment, &query), arguments.limit).await?;
    if arguments.server.json {
        return print_json(&restores.items);
    }
    if restores.items.is_empty() {
        println!("No restores.");
        return Ok(());
    }
    let mut table = page::table(&["RESTORE", "ASKED FOR", "BACKUP", "STATUS", "TOOK", "UNDO UNTIL"]);
    for point in &restores.items {
        table.add_row([
            point.id.to_string(),
            page::time(point.create_date),
            point.backup_id.to_string(),
            point.status.to_string(),
            page::text(point.duration_seconds.map(|seconds| format!("{seconds} s"))),
            page::time_of(point.undo_until),
        ]);
    }
    println!("{table}");
    page::more(restores.items.len(), restores.total);
    Ok(())
}

async fn cancel(arguments: &OneRestore) -> Result<(), Failure> {
    let point = Remote::open(&arguments.server)?.client.restore_cancel(arguments.id).await?;
    if arguments.server.json {
        return print_json(&point);
    }
    println!("Restore {} is called off; what was live stays live", point.id);
    Ok(())
}

async fn undo(arguments: &RestoreUndo, ui: &Ui) -> Result<(), Failure> {
    let remote = Remote::open(&arguments.one.server)?;
    let id = arguments.one.id;
    if !arguments.dry_run {
        can_confirm(arguments.yes, ui)?;
    }
    let plan = remote.client.restore_undo_plan(id).await?;
    if arguments.dry_run && arguments.one.server.json {
        return print_json(&plan);
    }
    if !ui.is_json() {
        show_plan(&plan);
    }
    if arguments.dry_run {
        return Ok(());
    }
    confirm("Swap the two now?", arguments.yes, ui).await?;
    let point = remote.client.restore_undo(id, &IdempotencyKey::generate()).await?;
    match (arguments.watch, point.task_id) {
        (true, Some(task)) => {
            watch::task(&remote, point.organization_id, task, Some(id.to_string()), ui).await?;
            finished(&remote, &point, ui).await
        }
        _ if arguments.one.server.json => print_json(&point),
        _ => {
            println!("The undo of restore {id} is queued");
            Ok(())
        }
    }
}

fn show_plan(plan: &UndoPlanResponse) {
    match plan.to {
        Side::Replaced => println!("What restore {} replaced would be live again", plan.restore_id),
        Side::Restored => println!("What restore {} restored would be live again", plan.restore_id),
    }
    if plan.written.is_empty() {
        println!("Nothing was written since");
        return;
    }
    println!("Written since, which would be kept beside:");
    let mut table = page::table(&["TABLE", "MADE", "CHANGED"]);
    for row in &plan.written {
        table.add_row([row.table.clone(), row.created.to_string(), row.changed.to_string()]);
    }
    println!("{table}");
}

async fn release(arguments: &RestoreRelease, ui: &Ui) -> Result<(), Failure> {
    let remote = Remote::open(&arguments.one.server)?;
    let id = arguments.one.id;
    if !arguments.dry_run {
        can_confirm(arguments.yes, ui)?;
    }
    let held = remote.client.restore_held(id).await?;
    if arguments.dry_run && arguments.one.server.json {
        return print_json(&held);
    }
    if !ui.is_json() {
        for (what, rows) in [("mail", &held.mails), ("cron", &held.crons)] {
            rows.iter().for_each(|row| println!("  {what} {:8} {}", row.id, row.what));
        }
        println!("{} mails and {} crons are held", held.mails.len(), held.crons.len());
    }
    if arguments.dry_run {
        return Ok(());
    }
    confirm("Let all of them go?", arguments.yes, ui).await?;
    let point = remote.client.restore_release(id, &IdempotencyKey::generate()).await?;
    if arguments.one.server.json {
        return print_json(&point);
    }
    println!("They are being released");
    Ok(())
}

async fn report(arguments: &OneRestore) -> Result<(), Failure> {
    // It is one document, whose signature holds for what it is.
    print_json(&Remote::open(&arguments.server)?.client.restore_report(arguments.id).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_than_the_sources_is_across_servers() {
        let (one, other) = (ServerId::generate(), ServerId::generate());
        assert_eq!(mode(None, Some(one)), RestoreMode::New);
        assert_eq!(mode(Some(one), Some(one)), RestoreMode::New);
        assert_eq!(mode(Some(other), Some(one)), RestoreMode::CrossServer);
        assert_eq!(mode(Some(other), None), RestoreMode::CrossServer);
    }
}
