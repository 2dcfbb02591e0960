//! How a restore's report comes to be stored: what is known before the cutover as a draft, the whole of it
//! signed by whoever sees the end, be that a later command.

use serde_json::Value;
use undoo_core::{Kind, Problem, RestoreId, Signed, Signer};
use undoo_engine::{
    order::Failure,
    orders::{Order, Reported},
};

use crate::{caller::Caller, place::Place};

/// What precedes a report where it is signed.
pub const SIGNED: &[u8] = b"undoo report 1\n";

/// Stores what is known before a cutover. The restore goes on whether this works or not.
pub async fn draft(place: &Place, id: RestoreId, report: &Value, caller: Caller<'_>) {
    let order = Order::DraftReport { target: place.target().clone(), id, report: report.clone() };
    told(place.order::<()>(order, caller.quietly()).await, caller);
}

/// Signs and stores the report of a restore that has ended, which stands whether this works or not.
pub async fn keep(
    place: &Place,
    id: RestoreId,
    report: &Value,
    signer: &Signer,
    caller: Caller<'_>,
) -> Option<Signed> {
    told(sign(place, id, report, signer, caller).await, caller)
}

/// As [`keep`], for a cutover that somebody else has begun: from the draft that was left, if there is one.
/// Answers the signed report of before, where there is that.
pub async fn keep_drafted(
    place: &Place,
    id: RestoreId,
    signer: &Signer,
    caller: Caller<'_>,
) -> Option<Signed> {
    let order = Order::Report { target: place.target().clone(), id: Some(id) };
    match place.order(order, caller.quietly()).await.ok()? {
        Reported::Unsigned { report, .. } => keep(place, id, &report, signer, caller).await,
        Reported::Signed { signed } => serde_json::from_value(signed).ok(),
    }
}

/// Signs a report and stores it.
///
/// # Errors
/// Those of the order; `Invalid` for what is no report of this restore.
pub async fn sign(
    place: &Place,
    id: RestoreId,
    report: &Value,
    signer: &Signer,
    caller: Caller<'_>,
) -> Result<Signed, Failure> {
    let signed = signed(report, id, signer)?;
    let report = serde_json::to_value(&signed).map_err(unreadable)?;
    let order = Order::KeepReport { target: place.target().clone(), id, report };
    place.order::<()>(order, caller.quietly()).await?;
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

/// Says why a report was not stored.
fn told<T>(stored: Result<T, Failure>, caller: Caller<'_>) -> Option<T> {
    stored.map_err(|failure| not_stored(&failure.problem, caller)).ok()
}

/// Says that a report was not stored.
pub fn not_stored(problem: &Problem, caller: Caller<'_>) {
    caller.say(format!("the report was not stored: {problem}"));
}

/// What a report is that cannot be read.
pub fn unreadable(error: serde_json::Error) -> Problem {
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
