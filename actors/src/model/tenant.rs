//! Who shares a channel: tenants, their weights, and which agent groups belong to them.

use super::ids::{AgentGroupId, InvalidId, TenantName};
use jiff::tz::TimeZone;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// A tenant as an operator describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantSettings {
    /// Its name.
    pub name: String,
    /// The agent groups that belong to it. `*` stands for any text.
    pub agent_groups: Vec<String>,
    /// Its share of a channel, relative to the others; at least 1.
    pub weight: u32,
    /// Most of its sends at a time in one channel; `None` = as many as the channel has.
    pub in_flight_max: Option<usize>,
    /// Whether a message that was given up wakes its agent; `None` = as for everybody.
    pub wake_on_failure: Option<bool>,
    /// IANA name of the zone in which its tasks' recurrences are read; `None` = the host's.
    pub timezone: Option<String>,
}

/// Why a tenant cannot be as an operator describes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTenant {
    /// Its name.
    #[error(transparent)]
    Name(#[from] InvalidId),
    /// Its zone.
    #[error("{name:?}: {timezone:?} is not a known IANA time zone")]
    Timezone {
        /// The tenant.
        name: String,
        /// What was written.
        timezone: String,
    },
}

/// One who shares a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its name.
    pub name: TenantName,
    /// Messages that it may send in one round; at least 1.
    pub weight: u32,
    /// Most of its sends at a time in one channel.
    pub in_flight_max: usize,
    /// Whether a message that was given up wakes its agent; `None` = as for everybody.
    pub wake_on_failure: Option<bool>,
    /// The zone in which its tasks' recurrences are read; `None` = the host's.
    pub timezone: Option<TimeZone>,
}

/// Whose sessions somebody may see and change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantSet {
    /// Those of every tenant, and what belongs to the host.
    All,
    /// Those of these tenants.
    Only(BTreeSet<TenantName>),
}

impl TenantSet {
    /// Whether a tenant belongs to it.
    pub fn contains(&self, tenant: &TenantName) -> bool {
        match self {
            TenantSet::All => true,
            TenantSet::Only(names) => names.contains(tenant),
        }
    }

    /// Whether it is everybody's.
    pub fn is_all(&self) -> bool {
        matches!(self, TenantSet::All)
    }
}

/// The tenants of one host.
#[derive(Debug, Default)]
pub struct Tenants {
    /// Patterns, the most exact first.
    rules: Vec<(String, Arc<Tenant>)>,
    by_name: HashMap<String, Arc<Tenant>>,
}

impl Tenants {
    /// Takes what an operator describes. When several patterns fit a group, the one with the most characters that are
    /// no `*` counts; among equals, the tenant whose name comes first.
    pub fn new(described: &[TenantSettings]) -> Result<Self, InvalidTenant> {
        let mut tenants = Self::default();
        for settings in described {
            let zone = |timezone: &String| {
                let (name, timezone) = (settings.name.clone(), timezone.clone());
                TimeZone::get(&timezone).map_err(|_| InvalidTenant::Timezone { name, timezone })
            };
            let tenant = Arc::new(Tenant {
                timezone: settings.timezone.as_ref().map(zone).transpose()?,
                name: TenantName::new(&settings.name)?,
                weight: settings.weight.max(1),
                in_flight_max: settings.in_flight_max.unwrap_or(usize::MAX).max(1),
                wake_on_failure: settings.wake_on_failure,
            });
            tenants.by_name.insert(settings.name.clone(), Arc::clone(&tenant));
            let rules = settings.agent_groups.iter().map(|pattern| (pattern.clone(), Arc::clone(&tenant)));
            tenants.rules.extend(rules);
        }
        tenants.rules.sort_by(|(a, tenant_a), (b, tenant_b)| {
            exactness(b).cmp(&exactness(a)).then_with(|| tenant_a.name.cmp(&tenant_b.name))
        });
        Ok(tenants)
    }

    /// Those that an operator describes.
    pub fn configured(&self) -> impl Iterator<Item = Arc<Tenant>> {
        self.by_name.values().cloned()
    }

    /// The tenant that a group belongs to. A group that nothing was said about is a tenant of its own, with weight 1.
    pub fn of(&self, group: &AgentGroupId) -> Arc<Tenant> {
        let described = self
            .rules
            .iter()
            .find(|(pattern, _)| matches(pattern, group.as_str()))
            .map(|(_, tenant)| tenant)
            .or_else(|| self.by_name.get(group.as_str()));
        match described {
            Some(tenant) => Arc::clone(tenant),
            None => Arc::new(Tenant {
                name: TenantName::from(group),
                weight: 1,
                in_flight_max: usize::MAX,
                wake_on_failure: None,
                timezone: None,
            }),
        }
    }
}

/// How exact a pattern is, from the least to the most; `None` when it does not fit the text.
pub fn pattern_exactness(pattern: &str, text: &str) -> Option<(bool, usize)> {
    matches(pattern, text).then(|| exactness(pattern))
}

fn exactness(pattern: &str) -> (bool, usize) {
    (!pattern.contains('*'), pattern.chars().filter(|c| *c != '*').count())
}

/// Whether `text` is what `pattern` says; `*` stands for any text, also for none.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or("");
    for part in parts {
        // The first place is as good as any: what follows can only be found later.
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenants(described: &[(&str, &[&str], u32)]) -> Tenants {
        let settings = |(name, groups, weight): &(&str, &[&str], u32)| TenantSettings {
            name: (*name).to_owned(),
            agent_groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            weight: *weight,
            in_flight_max: None,
            wake_on_failure: None,
            timezone: None,
        };
        Tenants::new(&described.iter().map(settings).collect::<Vec<_>>()).unwrap()
    }

    #[track_caller]
    fn check(tenants: &Tenants, group: &str, expected: &str, weight: u32) {
        let tenant = tenants.of(&AgentGroupId::new(group).unwrap());
        assert_eq!((tenant.name.as_str(), tenant.weight), (expected, weight), "{group}");
    }

    #[test]
    fn a_group_belongs_to_the_tenant_whose_pattern_fits_best() {
        let tenants = tenants(&[
            ("all", &["ag-*"], 2),
            ("acme", &["ag-acme-*", "shop"], 3),
            ("vip", &["ag-acme-1"], 5),
            ("solo", &[], 7),
        ]);
        check(&tenants, "ag-x", "all", 2);
        check(&tenants, "ag-acme-2", "acme", 3);
        check(&tenants, "ag-acme-1", "vip", 5);
        check(&tenants, "shop", "acme", 3);
        check(&tenants, "solo", "solo", 7);
        check(&tenants, "other", "other", 1);
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in [
            ("*", "x"),
            ("a*", "a"),
            ("*b", "ab"),
            ("a*c", "abc"),
            ("a*b*c", "axbxbc"),
            ("**", "x"),
            ("*aa", "aaa"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "ab"), ("a*", "ba"), ("*b", "ba"), ("ab*ba", "aba"), ("a*x*c", "abc")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_zone_that_nobody_knows_is_an_error_that_names_the_tenant() {
        let in_zone = |zone: &str| TenantSettings {
            name: "acme".to_owned(),
            agent_groups: vec!["ag-*".to_owned()],
            weight: 1,
            in_flight_max: None,
            timezone: Some(zone.to_owned()),
            wake_on_failure: None,
        };
        let tokyo = Tenants::new(&[in_zone("Asia/Tokyo")]).unwrap().of(&AgentGroupId::new("ag-1").unwrap());
        assert_eq!(tokyo.timezone.as_ref().and_then(TimeZone::iana_name), Some("Asia/Tokyo"));
        let error = Tenants::new(&[in_zone("Mars/Base")]).unwrap_err().to_string();
        assert_eq!(error, r#""acme": "Mars/Base" is not a known IANA time zone"#);
    }

    #[test]
    fn a_weight_or_a_limit_of_nothing_counts_as_one() {
        let settings = TenantSettings {
            name: "t".to_owned(),
            agent_groups: vec!["*".to_owned()],
            weight: 0,
            in_flight_max: Some(0),
            wake_on_failure: None,
            timezone: None,
        };
        let tenant = Tenants::new(&[settings]).unwrap().of(&AgentGroupId::new("x").unwrap());
        assert_eq!((tenant.weight, tenant.in_flight_max), (1, 1));
    }
}
