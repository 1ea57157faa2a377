//! What a check of a contract found.

use std::fmt;

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The adapter keeps it.
    Kept,
    /// It does not; with what was seen.
    Broken(String),
    /// It could not be checked; with the reason.
    Skipped(String),
}

/// One case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseReport {
    /// What an adapter must keep, as a sentence.
    pub claim: &'static str,
    /// How it ended.
    pub verdict: Verdict,
}

/// All cases. Shown, it is a list with one line for each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// In the order in which they were checked.
    pub cases: Vec<CaseReport>,
}

impl Report {
    /// The verdict on a claim.
    ///
    /// # Panics
    /// When there is no such claim.
    #[track_caller]
    pub fn verdict(&self, claim: &str) -> &Verdict {
        let case = self.cases.iter().find(|case| case.claim == claim);
        &case.unwrap_or_else(|| panic!("there is no claim {claim:?} in\n{self}")).verdict
    }

    /// The claims that are broken.
    pub fn broken(&self) -> Vec<&'static str> {
        let is_broken = |case: &&CaseReport| matches!(case.verdict, Verdict::Broken(_));
        self.cases.iter().filter(is_broken).map(|case| case.claim).collect()
    }

    /// Nothing is broken.
    ///
    /// # Panics
    /// When something is; the message is the whole report.
    #[track_caller]
    pub fn assert_kept(&self) {
        assert!(self.broken().is_empty(), "the adapter does not keep its contract\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for CaseReport { claim, verdict } in &self.cases {
            match verdict {
                Verdict::Kept => writeln!(f, "kept     {claim}")?,
                Verdict::Broken(what) => writeln!(f, "BROKEN   {claim}: {what}")?,
                Verdict::Skipped(reason) => writeln!(f, "skipped  {claim}: {reason}")?,
            }
        }
        Ok(())
    }
}
