//! `undoo recover`: a plan, a question, and the restores that carry it out, watched until the last one is over.

use std::{collections::HashMap, time::Duration};

use undoo_api::{
    recovery::{RecoveryEntry, RecoveryPlanRequest, RecoveryPlanResponse, RecoveryStatus},
    servers::ServerResponse,
};
use undoo_core::{EnvironmentId, Kind, OrganisationId, Problem, Result, ServerId, platform::RestoreStatus};
use undoo_engine::order::Failure;

use super::{Remote, page, server::server};
use crate::{
    cli::remote::Recover,
    commands::{can_confirm, confirm, print_json},
    interrupt::interrupted,
    ui::{Ui, finding_lines},
};

/// How often it is looked how far the restores are.
const LOOK_EVERY: Duration = Duration::from_secs(2);

pub(super) async fn run(arguments: &Recover, ui: &Ui) -> Result<(), Failure> {
    let remote = Remote::open(&arguments.server)?;
    let plan = match arguments.plan {
        Some(id) => remote.client.recovery_plan(id).await?,
        None => planned(&remote, arguments).await?,
    };
    let servers = remote.client.servers(plan.organization_id).all().await?;
    let begins = plan.entries.iter().filter(|entry| is_due(entry)).count();
    if arguments.dry_run || (begins == 0 && plan.status != RecoveryStatus::Running) {
        return match arguments.server.json {
            true => print_json(&plan),
            false => {
                show(&plan, &servers);
                ended(&plan)
            }
        };
    }
    if !arguments.server.json {
        show(&plan, &servers);
    }
    if begins > 0 {
        can_confirm(arguments.yes, ui)?;
        confirm(&format!("Bring {begins} environments back?"), arguments.yes, ui).await?;
    }
    let plan = match begins {
        0 => plan,
        _ => remote.client.recovery_plan_start(plan.id).await?,
    };
    if arguments.no_watch {
        return match arguments.server.json {
            true => print_json(&plan),
            false => {
                println!("Plan {} is {}", plan.id, status(plan.status));
                Ok(())
            }
        };
    }
    let plan = watched(&remote, plan, ui).await?;
    match arguments.server.json {
        true => print_json(&plan)?,
        false => show(&plan, &servers),
    }
    ended(&plan)
}

async fn planned(remote: &Remote, arguments: &Recover) -> Result<RecoveryPlanResponse> {
    let organisation = remote.organisation().await?.id;
    let request = RecoveryPlanRequest {
        environment_ids: environments(remote, &arguments.environment).await?,
        to_server_ids: servers(remote, organisation, &arguments.to, "--to").await?,
        unverified_environment_ids: environments(remote, &arguments.accept_unverified).await?,
        lost_at: arguments.lost_at,
        ..RecoveryPlanRequest::new(
            organisation,
            servers(remote, organisation, &arguments.lost, "recover").await?,
        )
    };
    remote.client.recovery_plan_create(&request).await
}

async fn servers(
    remote: &Remote,
    organisation: OrganisationId,
    wanted: &[String],
    place: &str,
) -> Result<Vec<ServerId>> {
    let mut ids = Vec::new();
    for wanted in wanted {
        ids.push(server(remote, organisation, Some(wanted), place).await?.id);
    }
    Ok(ids)
}

async fn environments(remote: &Remote, wanted: &[String]) -> Result<Vec<EnvironmentId>> {
    let mut ids = Vec::new();
    for wanted in wanted {
        ids.push(remote.environment(wanted).await?.id);
    }
    Ok(ids)
}

/// Whether a restore is begun for it when the plan is carried out now.
fn is_due(entry: &RecoveryEntry) -> bool {
    let again = [RestoreStatus::Failed, RestoreStatus::Cancelled, RestoreStatus::Undone];
    entry.gap.is_none() && entry.restore_status.is_none_or(|status| again.contains(&status))
}

/// Looks until no restore runs any more, and says what changes.
async fn watched(
    remote: &Remote,
    mut plan: RecoveryPlanResponse,
    ui: &Ui,
) -> Result<RecoveryPlanResponse, Failure> {
    let mut told: HashMap<EnvironmentId, String> = HashMap::new();
    loop {
        for entry in &plan.entries {
            let now = came_to(entry);
            if told.insert(entry.environment_id, now.clone()).as_ref() != Some(&now) {
                ui.say(&format!("{}: {now}", entry.name));
            }
        }
        if plan.status != RecoveryStatus::Running {
            return Ok(plan);
        }
        tokio::select! {
            () = interrupted() => return Err(goes_on(&plan).into()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        match remote.client.recovery_plan(plan.id).await {
            Ok(now) => plan = now,
            Err(problem) if problem.is_permanent() => return Err(problem.into()),
            Err(problem) => tracing::debug!(%problem, "the server did not answer; it is asked again"),
        }
    }
}

fn show(plan: &RecoveryPlanResponse, servers: &[ServerResponse]) {
    println!("Plan {}: {}, lost {}", plan.id, status(plan.status), page::time(plan.lost_at));
    for finding in &plan.findings {
        println!("{}", finding_lines(finding));
    }
    let name = |id: ServerId| {
        let found = servers.iter().find(|server| server.id == id);
        found.map_or_else(|| id.to_string(), |server| server.name.clone())
    };
    let mut table = page::table(&["ENVIRONMENT", "TYPE", "TO", "WORK LOST", "LIKELY", "TOOK", "OUTCOME"]);
    for entry in &plan.entries {
        table.add_row([
            entry.name.clone(),
            entry.environment_type.to_string(),
            page::text(entry.server_id.map(name)),
            page::text(entry.data_loss_seconds.map(duration)),
            page::text(entry.estimate_seconds.map(duration)),
            page::text(entry.recovery_seconds.map(duration)),
            came_to(entry),
        ]);
    }
    println!("{table}");
    for entry in &plan.entries {
        let why = match (entry.gap, &entry.refused_message, &entry.restore_error) {
            (Some(gap), ..) => gap.remedy(),
            (None, Some(refused), _) => refused,
            (None, None, Some(error)) => error,
            (None, None, None) => continue,
        };
        println!("{}: {why}", entry.name);
    }
}

/// What there is to say of one, in a few words.
fn came_to(entry: &RecoveryEntry) -> String {
    let word = |value: Option<String>| value.map(|word| word.replace('_', " "));
    let gap = entry.gap.and_then(|gap| serde_json::to_value(gap).ok()?.as_str().map(str::to_owned));
    if let Some(gap) = word(gap) {
        return format!("does not come back: {gap}");
    }
    match (entry.restore_status, &entry.refused_code) {
        (Some(RestoreStatus::Completed), _) => match entry.targets_met {
            Some(false) => "back, later or with more lost than aimed at".to_owned(),
            _ => "back".to_owned(),
        },
        (Some(status), None) => word(Some(status.to_string())).unwrap_or_default(),
        (_, Some(code)) => format!("not begun: {}", code.replace('_', " ")),
        (None, None) => "comes back".to_owned(),
    }
}

fn duration(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", (seconds + 30) / 60),
        _ => format!("{} h", (seconds + 1800) / 3600),
    }
}

fn status(status: RecoveryStatus) -> &'static str {
    match status {
        RecoveryStatus::Planned => "planned",
        RecoveryStatus::Running => "running",
        RecoveryStatus::Completed => "completed",
        RecoveryStatus::Incomplete => "incomplete",
    }
}

fn ended(plan: &RecoveryPlanResponse) -> Result<(), Failure> {
    if plan.status != RecoveryStatus::Incomplete {
        return Ok(());
    }
    let back = |entry: &&RecoveryEntry| entry.restore_status == Some(RestoreStatus::Completed);
    let (back, all) = (plan.entries.iter().filter(back).count(), plan.entries.len());
    Err(Problem::new(
        Kind::Unavailable,
        "recovery_incomplete",
        format!("{back} of {all} environments are back"),
        format!("see to what stands beside the others, then: undoo recover --plan {}", plan.id),
    )
    .into())
}

fn goes_on(plan: &RecoveryPlanResponse) -> Problem {
    Problem::new(
        Kind::Cancelled,
        "not_watched",
        "the restores go on on the server, and are not watched any more",
        format!("`undoo recover --plan {}` watches them again", plan.id),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_as_people_tell_them() {
        assert_eq!(
            [0, 119, 120, 3599, 7200, 90_000].map(duration),
            ["0 s", "119 s", "2 min", "60 min", "2 h", "25 h"]
        );
    }
}
