//! What lists and changes can be limited to, read from a request.

use super::problem::Problem;
use crate::config::units::parse_duration;
use nanorelay_actors::model::ids::TenantName;
use nanorelay_actors::model::tenant::TenantSet;
use nanorelay_actors::model::time::Timestamp;
use std::collections::BTreeSet;

/// The longest text that is looked for, in bytes.
const TEXT_BYTES_MAX: usize = 256;

/// Those of a caller's tenants that were asked for. One that the caller does not see is like one that does not exist: it
/// has nothing.
pub(super) fn own_tenants(own: &TenantSet, wanted: Option<&str>) -> TenantSet {
    let Some(wanted) = wanted else { return own.clone() };
    let tenant = TenantName::new(wanted).ok().filter(|tenant| own.contains(tenant));
    TenantSet::Only(tenant.into_iter().collect::<BTreeSet<_>>())
}

/// A text that is looked for.
pub(super) fn text_of(field: &str, text: Option<String>) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if text.len() > TEXT_BYTES_MAX => {
            Err(Problem::field(field, format!("is longer than {TEXT_BYTES_MAX} bytes")))
        }
        text => Ok(text.filter(|text| !text.is_empty())),
    }
}

/// A time in milliseconds since 1970.
pub(super) fn time_ms(field: &str, text: Option<&str>) -> Result<Option<i64>, Problem> {
    let parse = |text| Timestamp::parse(text).map_err(|problem| Problem::field(field, problem));
    Ok(text.map(parse).transpose()?.map(Timestamp::as_ms))
}

/// A time to come, said as such or as a duration; `None` when neither is there.
pub(super) fn time_ahead(
    until: Option<&str>,
    duration: Option<&str>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Problem> {
    let until = match (until, duration) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(Problem::field("until", "cannot be there beside for")),
        (Some(until), None) => Timestamp::parse(until).map_err(|problem| Problem::field("until", problem))?,
        (None, Some(duration)) => {
            now.plus(parse_duration(duration).map_err(|problem| Problem::field("for", problem))?)
        }
    };
    if until <= now {
        return Err(Problem::field("until", "lies in the past"));
    }
    Ok(Some(until))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_that_is_not_the_callers_has_nothing() {
        let name = |text: &str| TenantName::new(text).unwrap();
        let own = TenantSet::Only([name("a"), name("b")].into());
        assert_eq!(own_tenants(&own, None), own);
        assert_eq!(own_tenants(&own, Some("a")), TenantSet::Only([name("a")].into()));
        assert_eq!(own_tenants(&own, Some("c")), TenantSet::Only(BTreeSet::new()));
        assert_eq!(own_tenants(&own, Some("")), TenantSet::Only(BTreeSet::new()));
        assert_eq!(own_tenants(&TenantSet::All, Some("c")), TenantSet::Only([name("c")].into()));
    }

    #[test]
    fn a_time_ahead_is_said_in_one_of_two_ways() {
        let now = Timestamp::parse("2027-01-01T00:00:00Z").unwrap();
        let later = Timestamp::parse("2027-01-01T02:00:00Z").unwrap();
        assert_eq!(time_ahead(None, Some("2h"), now).unwrap(), Some(later));
        assert_eq!(time_ahead(Some("2027-01-01T02:00:00Z"), None, now).unwrap(), Some(later));
        assert_eq!(time_ahead(None, None, now).unwrap(), None);
        assert!(time_ahead(Some("2026-01-01T02:00:00Z"), None, now).is_err());
        assert!(time_ahead(Some("2027-01-01T02:00:00Z"), Some("2h"), now).is_err());
    }
}
