//! Adopting containers by looking at them.

pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
    Vec::new()
}
