//! Events, told to whoever follows them: one reader of the store for all followers of this process.
//!
//! A follower listens to the feed of each organisation first and then catches up from the store, so that
//! nothing falls between the two; what comes twice is known by its sequence. Nothing is kept for anybody: who
//! is too slow, or was away, catches up again.

mod cursor;
mod feed;
pub mod stream;

pub use feed::Feed;
