//! `undoo report`, and how a restore's report comes to be stored: what is known before the cutover as a
//! draft, the whole of it signed by whoever sees the end, be that a later command.

use serde_json::Value;
use undoo_core::{Kind, Problem, RestoreId, Signed, Signer};
use undoo_engine::{
    order::Failure,
    orders::{Order, Reported},
    record::Record,
};

use super::{keep::restore_id, print_json};
use crate::{cli::Report, place::Place, signature::signer, ui::Ui};

/// What precedes a report where it is signed.
const SIGNED: &[u8] = b"undoo report 1\n";

pub(super) async fn run(arguments: &Report, ui: &Ui) -> Result<(), Failure> {
    let on = &arguments.on;
    let id = arguments.restore.as_deref().map(restore_id).transpose()?;
    let place = Place::find(on.target.as_deref(), &on.place).await?;
    let order = Order::Report { target: place.target().clone(), id };
    let signed = match place.order(order, ui).await? {
        Reported::Signed { signed } => serde_json::from_value(signed).map_err(unreadable)?,
        Reported::Unsigned { id: newest, report } => sign(&place, id.unwrap_or(newest), &report).await?,
    };
    ui.settle();
    if on.json {
        print_json(&signed)?;
    } else {
        println!("{}", signed.report);
        println!("signed by {}", signed.public_key);
    }
    if signed.holds(SIGNED) {
        return Ok(());
    }
    Err(Problem::new(
        Kind::Invalid,
        "report_changed",
        "the report is not what its key has signed",
        "someone has changed it on the target; do not rely on it",
    )
    .into())
}

/// Stores what is known before a cutover. The restore goes on whether this works or not.
pub(super) async fn draft(place: &Place, id: RestoreId, report: &Value, ui: &Ui) {
    let order = Order::DraftReport { target: place.target().clone(), id, report: report.clone() };
    tell(place.order::<()>(order, &Ui::quiet()).await, ui);
}

/// Signs and stores the report of a restore that has ended. It stands whether this works or not.
pub(super) async fn keep(place: &Place, id: RestoreId, report: &Value, ui: &Ui) {
    tell(sign(place, id, report).await.map(drop), ui);
}

/// As [`keep`], for a cutover that another command has begun: from the draft that it left, if it did.
pub(super) async fn keep_drafted(place: &Place, record: &Record, ui: &Ui) {
    let order = Order::Report { target: place.target().clone(), id: Some(record.id) };
    if let Ok(Reported::Unsigned { report, .. }) = place.order(order, &Ui::quiet()).await {
        keep(place, record.id, &report, ui).await;
    }
}

async fn sign(place: &Place, id: RestoreId, report: &Value) -> Result<Signed, Failure> {
    let signed = signed(report, id, &signer()?)?;
    let report = serde_json::to_value(&signed).map_err(unreadable)?;
    place.order::<()>(Order::KeepReport { target: place.target().clone(), id, report }, &Ui::quiet()).await?;
    Ok(signed)
}

/// Signs a report of this very restore, and nothing else: a draft lies on the target until it is signed.
fn signed(report: &Value, id: RestoreId, signer: &Signer) -> Result<Signed, Problem> {
    if [&report["report"]["id"], &report["restore"]["id"]].into_iter().all(|told| *told == id.to_string()) {
        return Signed::new(SIGNED, report, signer);
    }
    Err(Problem::new(
        Kind::Invalid,
        "not_to_be_signed",
        format!("what came to be signed is no report of restore {id}"),
        "see that both sides are the same version of undoo; if they are, someone has changed it on the target",
    ))
}

fn tell(stored: Result<(), Failure>, ui: &Ui) {
    if let Err(failure) = stored {
        ui.say(&format!("the report was not stored: {}", failure.problem));
    }
}

fn unreadable(error: serde_json::Error) -> Problem {
    Problem::new(
        Kind::Invalid,
        "report_changed",
        "the stored report is no signed report",
        "someone has changed it on the target; do not rely on it",
    )
    .caused_by(error)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_but_this_restores_report_is_signed() {
        let (signer, id) = (Signer::from_seed(&[7; 32]), RestoreId::generate());
        let report = json!({"report": {"id": id}, "restore": {"id": id}});
        assert!(signed(&report, id, &signer).expect("signed").holds(SIGNED));
        let other = RestoreId::generate();
        let planted = json!({"restore": {"id": id}, "format": 1, "backup_id": other});
        for wrong in [planted, json!({"report": {"id": other}, "restore": {"id": id}}), json!([])] {
            assert_eq!(signed(&wrong, id, &signer).expect_err("refused").code, "not_to_be_signed");
        }
    }
}
