//! `undoo inspect`: what a backup is, by reading as little of it as possible.

use undoo_archive::backup::{Inspection, inspect};
use undoo_core::{Kind, Problem, word};
use undoo_engine::order::Failure;
use undoo_storage::{Meter, Options};

use super::{bytes, print_json};
use crate::{cli::Inspect, ui};

pub(super) async fn run(arguments: &Inspect) -> Result<(), Failure> {
    let meter = Meter::default();
    let options = Options { meter: meter.clone(), ..Options::default() };
    let order = super::backup(&arguments.backup, &arguments.keys)?;
    let backup = order.open(&options).await?;
    let mut inspection = tokio::task::spawn_blocking(move || inspect(&backup)).await.map_err(|error| {
        Problem::new(Kind::Internal, "inspect", "the inspection broke down", "please report this")
            .caused_by(error)
    })??;
    inspection.findings.extend(order.storage.access().on_this_server());
    if arguments.json {
        return print_json(&inspection);
    }
    page(&arguments.backup, &inspection);
    println!("\nRead {} in {} requests.", bytes(meter.bytes()), meter.requests());
    Ok(())
}

fn page(name: &str, inspection: &Inspection) {
    let unknown = || "unknown".to_owned();
    println!("{name}");
    println!("  layout      {}", word(&inspection.layout));
    if let Some(database) = &inspection.database {
        println!(
            "  database    {} ({} dump)",
            database.name.clone().unwrap_or_else(unknown),
            word(&database.format)
        );
        println!("  PostgreSQL  {}", database.server_version.clone().unwrap_or_else(unknown));
        println!("  pg_dump     {}", database.dump_version.clone().unwrap_or_else(unknown));
        if !database.extensions.is_empty() {
            println!("  extensions  {}", database.extensions.join(", "));
        }
        if let Some(tables) = database.tables {
            println!("  tables      {tables}");
        }
    }
    println!("  Odoo        {}", inspection.odoo.version.clone().unwrap_or_else(unknown));
    if let Some(modules) = inspection.odoo.modules {
        println!("  modules     {modules}");
    }
    let filestore = &inspection.filestore;
    let size = match (filestore.files, filestore.bytes) {
        (Some(files), Some(size)) => format!(": {files} files, {}", bytes(size)),
        _ => String::new(),
    };
    println!("  filestore   {}{size}", word(&filestore.form));
    if let Some(undoo) = &inspection.undoo {
        println!("  made by     undoo {}, {}", undoo.undoo_version, undoo.created_at);
        println!("  backup id   {}", undoo.backup_id);
        let by = match (&undoo.public_key, &undoo.organisation) {
            (Some(key), Some(organisation)) => format!(", by key {key} for organisation {organisation}"),
            (Some(key), None) => format!(", by key {key}"),
            (None, _) => String::new(),
        };
        println!("  signature   {}{by}", word(&undoo.signature));
    }
    if !inspection.findings.is_empty() {
        println!();
        for finding in &inspection.findings {
            println!("{}", ui::finding_lines(finding));
        }
    }
}
