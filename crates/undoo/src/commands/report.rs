//! `undoo report`: a restore's signed report, signed now where nobody saw the restore end.

use undoo_core::{Kind, Problem};
use undoo_engine::{
    order::Failure,
    orders::{Order, Reported},
};

use super::{keep::restore_id, print_json};
use crate::{
    caller::Caller,
    cli::Report,
    place::Place,
    signature::signer,
    ui::Ui,
    work::report::{SIGNED, sign, unreadable},
};

pub(super) async fn run(arguments: &Report, ui: &Ui) -> Result<(), Failure> {
    let caller = Caller::at(ui);
    let on = &arguments.on;
    let id = arguments.restore.as_deref().map(restore_id).transpose()?;
    let place = Place::find(on.target.as_deref(), &on.place, caller).await?;
    let order = Order::Report { target: place.target().clone(), id };
    let signed = match place.order(order, caller).await? {
        Reported::Signed { signed } => serde_json::from_value(signed).map_err(unreadable)?,
        Reported::Unsigned { id: newest, report } => {
            sign(&place, id.unwrap_or(newest), &report, &signer()?, caller).await?
        }
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
