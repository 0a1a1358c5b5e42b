//! Placeholder until joined.
use super::Finding;
use crate::config::Config;
pub(super) fn check(_: &Config) -> Vec<Finding> { Vec::new() }
