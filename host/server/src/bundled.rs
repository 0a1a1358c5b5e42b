//! First-party plugins inside of the binary, so that a new tenant can bind one without a file.

/// Name and component of each.
const BUNDLED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/bundled.rs"));

/// What to do when there are none.
pub(crate) const HOW_TO_BUILD: &str =
    "this binary was built without bundled plugins: `cargo xtask demo` builds and embeds them";

/// The plugins, by name.
pub(crate) fn all() -> &'static [(&'static str, &'static [u8])] {
    BUNDLED
}

/// The component of a name.
pub(crate) fn find(name: &str) -> Option<&'static [u8]> {
    BUNDLED.iter().find(|(known, _)| *known == name).map(|(_, component)| *component)
}
