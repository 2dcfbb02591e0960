//! Where a follower is: the `id:` of an event, and `Last-Event-ID` when they come back.
//!
//! An event's sequence is its organisation's, and a follower may follow several. So an id holds the place in
//! each, not only in that of the event: what they have not seen of the others is told too.

use std::{collections::BTreeMap, fmt, str::FromStr};

use undoo_core::OrganisationId;

/// Organisations that one stream follows at most: each is in every id, and ids travel in a header.
pub const MOST: usize = 64;

/// The last sequence seen of each organisation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor(pub BTreeMap<OrganisationId, i64>);

/// Text that no stream of ours gave out.
#[derive(Debug, PartialEq, Eq)]
pub struct NoCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (organisation, sequence)) in self.0.iter().enumerate() {
            let between = if place == 0 { "" } else { "." };
            write!(f, "{between}{}:{sequence}", organisation.uuid().simple())?;
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let places = text.split('.').map(|place| {
            let (organisation, sequence) = place.split_once(':').ok_or(NoCursor)?;
            let sequence: i64 = sequence.parse().map_err(|_| NoCursor)?;
            let organisation = organisation.parse().map_err(|_| NoCursor)?;
            (sequence >= 0).then_some((organisation, sequence)).ok_or(NoCursor)
        });
        let places: BTreeMap<_, _> = places.collect::<Result<_, _>>()?;
        if places.len() > MOST { Err(NoCursor) } else { Ok(Self(places)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_and_anything_else_is_none() {
        let places = (0..MOST as i64).map(|sequence| (OrganisationId::generate(), sequence));
        let cursor = Cursor(places.collect());
        assert!(cursor.to_string().len() < 4096, "it has to fit into a header");
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        assert_eq!("".parse(), Ok(Cursor::default()));
        let id = OrganisationId::generate().uuid().simple();
        for text in
            ["7".to_owned(), format!("{id}:"), format!("{id}:-1"), format!("{id}:1."), "x:1".to_owned()]
        {
            assert_eq!(text.parse::<Cursor>(), Err(NoCursor), "{text}");
        }
    }
}
