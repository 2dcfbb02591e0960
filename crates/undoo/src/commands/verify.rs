//! `undoo verify`: a live system's attachments against its files.

use undoo_core::{Kind, Problem};
use undoo_engine::{attachments::Reconciliation, order::Failure, orders::Order};

use super::print_json;
use crate::{cli::OnTarget, place::Place, ui::Ui};

pub(super) async fn run(arguments: &OnTarget, ui: &Ui) -> Result<(), Failure> {
    let place = Place::find(arguments.target.as_deref(), &arguments.place).await?;
    let found: Reconciliation = place.order(Order::Verify { target: place.target().clone() }, ui).await?;
    ui.settle();
    if arguments.json {
        print_json(&found)?;
    } else {
        show(&place.target().database, &found);
    }
    if found.is_exact() {
        return Ok(());
    }
    Err(Problem::new(
        Kind::NotProven,
        "filestore_not_whole",
        format!(
            "{} attachments have no file, {} files are not what their names say",
            found.missing.len(),
            found.corrupt.len()
        ),
        "restore the files of a backup that has them: `undoo restore BACKUP --filestore-only`",
    )
    .into())
}

fn show(database: &str, found: &Reconciliation) {
    println!("Attachments of \"{database}\"");
    println!("  matched     {} of {}", found.matched, found.attachments);
    println!("  in database {}", found.in_database);
    println!("  elsewhere   {}", found.external);
    println!("  orphans     {} files that no attachment names", found.orphans.len());
    for missing in &found.missing {
        println!(
            "  missing     {} {} (attachment {})",
            missing.store_fname, missing.name, missing.attachment
        );
    }
    for corrupt in &found.corrupt {
        println!("  corrupt     {} {}", corrupt.store_fname, corrupt.reason);
    }
    for wrong in &found.wrong_size {
        println!("  wrong size  {} {} (attachment {})", wrong.store_fname, wrong.name, wrong.attachment);
    }
}
