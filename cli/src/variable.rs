//! Environment variables with numbers.

use std::ops::RangeInclusive;

use crate::failure::Failure;
use crate::id::Id;

/// The number in an environment variable.
pub(crate) fn number(name: &str, default: u64, valid: RangeInclusive<u64>) -> Result<u64, Failure> {
    let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) else {
        return Ok(default);
    };
    let parsed = value.to_str().and_then(|text| text.parse().ok());
    parsed
        .filter(|number| valid.contains(number))
        .ok_or_else(|| {
            let (least, most) = valid.into_inner();
            let what = format!(
                "{name}: found {}, expected a number from {least} to {most}",
                value.display()
            );
            Failure::usage(what).id_is(Id::InvalidValue)
        })
}
