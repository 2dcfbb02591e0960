//! `undoo task`: the work of the server.

use undoo_api::tasks::{StepLogResponse, TaskQuery, TaskResponse};
use undoo_core::Result;
use undoo_engine::order::Failure;

use super::{Remote, first, page, watch};
use crate::{
    cli::remote::{OneTask, TaskCommand, TaskList, TaskShow},
    commands::print_json,
    ui::Ui,
};

pub(super) async fn run(command: TaskCommand, ui: &Ui) -> Result<(), Failure> {
    match command {
        TaskCommand::List(arguments) => list(&arguments).await,
        TaskCommand::Show(arguments) => show(&arguments, ui).await,
        TaskCommand::Cancel(arguments) => cancel(&arguments).await,
    }
}

async fn list(arguments: &TaskList) -> Result<(), Failure> {
    let remote = Remote::open(&arguments.server)?;
    let environment = match &arguments.env {
        Some(environment) => Some(remote.environment(environment).await?),
        None => None,
    };
    let organisation = match &environment {
        Some(environment) => environment.organization_id,
        None => remote.organisation().await?.id,
    };
    let query = TaskQuery {
        organization_id: Some(organisation),
        environment_id: environment.map(|environment| environment.id),
        status: arguments.status,
        ..Default::default()
    };
    let tasks = first(remote.client.tasks(&query), arguments.limit).await?;
    if arguments.server.json {
        return print_json(&tasks.items);
    }
    if tasks.items.is_empty() {
        println!("No tasks.");
        return Ok(());
    }
    let mut table = page::table(&["TASK", "TYPE", "STATUS", "ASKED FOR", "ENDED", "ATTEMPTS"]);
    for task in &tasks.items {
        table.add_row([
            task.id.to_string(),
            task.task_type.to_string(),
            task.status.to_string(),
            page::time(task.create_date),
            page::time_of(task.completed_at),
            format!("{} of {}", task.attempts, task.max_attempts),
        ]);
    }
    println!("{table}");
    page::more(tasks.items.len(), tasks.total);
    Ok(())
}

async fn show(arguments: &TaskShow, ui: &Ui) -> Result<(), Failure> {
    let remote = Remote::open(&arguments.one.server)?;
    let id = arguments.one.id;
    let task = remote.client.task(id).await?;
    if arguments.watch {
        let task = watch::task(&remote, task.organization_id, id, None, ui).await?;
        if ui.is_json() {
            return ui.done(&task);
        }
        println!("{}", described(&task));
        return Ok(());
    }
    let log = remote.client.task_log(id).await?;
    if arguments.one.server.json {
        return print_json(&serde_json::json!({ "task": task, "log": log }));
    }
    println!("{}", described(&task));
    println!("{}", steps(&log));
    Ok(())
}

fn described(task: &TaskResponse) -> comfy_table::Table {
    let one = task.clone();
    page::properties([
        ("Task", one.id.to_string()),
        ("Type", one.task_type.to_string()),
        ("Status", one.status.to_string()),
        ("Environment", page::text(one.environment_id)),
        ("Asked for", page::time(one.create_date)),
        ("Begun", page::time_of(one.started_at)),
        ("Ended", page::time_of(one.completed_at)),
        ("Attempts", format!("{} of {}", one.attempts, one.max_attempts)),
        ("Error", page::text(one.error_message)),
    ])
}

fn steps(log: &[StepLogResponse]) -> comfy_table::Table {
    let mut table = page::table(&["WHEN", "STEP", "WHAT", "WHY"]);
    for line in log {
        let why = line.data.get("message").and_then(|message| message.as_str()).unwrap_or_default();
        let when = line.create_date.strftime("%Y-%m-%d %H:%M:%S").to_string();
        table.add_row([when, line.step.clone(), line.event.to_string(), why.to_owned()]);
    }
    table
}

async fn cancel(arguments: &OneTask) -> Result<(), Failure> {
    let task = Remote::open(&arguments.server)?.client.task_cancel(arguments.id).await?;
    if arguments.server.json {
        return print_json(&task);
    }
    println!("Task {} is {}", task.id, task.status);
    Ok(())
}
