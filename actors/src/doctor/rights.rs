//! Who owns what, who may write what, and what does not belong to anybody.

use super::finding::{Finding, FindingId};
use crate::limits::DOCTOR_FINDINGS_MAX;
use crate::store::central::CentralSnapshot;
use crate::store::host_files::{self, FileType};
use std::path::Path;

/// What the host keeps for itself.
const PRIVATE_FILES: [&str; 5] =
    ["nanorelay.db", "nanorelay.db-wal", "nanorelay-tokens.json", "nanorelay-web.db", "nanorelay.sock"];
/// The host's own files that it must be able to write, where they are there.
const WRITTEN_FILES: [&str; 5] =
    ["v2.db", "v2-sessions", "nanorelay.db", "nanorelay.lock", "nanorelay-agents"];
/// Sessions whose names are told when there are many.
const NAMES_TOLD_MAX: usize = 5;

/// Looks at the directory and what the host keeps in it. Session folders are the agents': see [`super::sessions`].
pub(super) fn examine(data_dir: &Path, snapshot: &CentralSnapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(user(data_dir));
    findings.extend(not_writable(data_dir));
    findings.extend(private_files(data_dir));
    findings.extend(socket(data_dir));
    findings.extend(folders_without_rows(data_dir, snapshot));
    findings
}

fn user(data_dir: &Path) -> Option<Finding> {
    let owner = host_files::owner(data_dir)?;
    let ours = rustix::process::geteuid().as_raw();
    (owner != ours).then(|| {
        let words = format!("the data directory belongs to user {owner}, and user {ours} asks");
        let remedy = format!("run the doctor, and the host, as user {owner}: sudo -u '#{owner}' nanorelay …");
        Finding::warning(FindingId::User, "user", words, remedy)
    })
}

fn not_writable(data_dir: &Path) -> Vec<Finding> {
    let own = WRITTEN_FILES.iter().map(|name| data_dir.join(name)).filter(|path| path.exists());
    std::iter::once(data_dir.to_owned())
        .chain(own)
        .filter(|path| !host_files::may_write(path))
        .map(|path| {
            let words = "this user may not write to it";
            let remedy = "give it to the user of the host: chown -R, with the host stopped";
            Finding::error(FindingId::NotWritable, path.display().to_string(), words, remedy)
        })
        .collect()
}

fn private_files(data_dir: &Path) -> Vec<Finding> {
    // A directory that is closed to others closes everything in it.
    if host_files::mode(data_dir).is_some_and(|mode| mode & 0o011 == 0) {
        return Vec::new();
    }
    // The ledger holds names of chats, tokens are hashed; whoever may write to one of them is the operator.
    let exposed = |name: &str| {
        let mode = host_files::mode(&data_dir.join(name)).unwrap_or(0);
        let forbidden = if name.ends_with(".json") || name.ends_with(".sock") { 0o077 } else { 0o022 };
        mode & forbidden != 0
    };
    let finding = |name: &str| {
        let remedy = format!("chmod go= {}", data_dir.join(name).display());
        Finding::warning(FindingId::PrivateFile, name, "other users of this machine can use it", remedy)
    };
    PRIVATE_FILES.into_iter().filter(|name| exposed(name)).map(finding).collect()
}

fn socket(data_dir: &Path) -> Option<Finding> {
    let kind = host_files::kind(&data_dir.join("nanorelay.sock"))?;
    (kind != FileType::Socket).then(|| {
        let words = format!("it is no socket but a {kind:?}: no host can open its own there");
        Finding::error(FindingId::Socket, "nanorelay.sock", words, "find out who put it there, and remove it")
    })
}

/// Names only: nothing in a session folder is opened by its path.
fn folders_without_rows(data_dir: &Path, snapshot: &CentralSnapshot) -> Option<Finding> {
    let known: std::collections::HashSet<(&str, &str)> =
        snapshot.sessions.values().map(|facts| (facts.agent_group_id.as_str(), facts.id.as_str())).collect();
    let is_unknown = |group: &str, session: &str| !known.contains(&(group, session));
    let found = host_files::session_folders(data_dir, DOCTOR_FINDINGS_MAX, is_unknown);
    let mut strangers: Vec<String> =
        found.into_iter().map(|(group, session)| format!("{group}/{session}")).collect();
    if strangers.is_empty() {
        return None;
    }
    strangers.sort();
    let count = strangers.len();
    strangers.truncate(NAMES_TOLD_MAX);
    let more = if count > NAMES_TOLD_MAX { ", …" } else { "" };
    let words = format!("{count} session folders have no row in v2.db: {}{more}", strangers.join(", "));
    let remedy = "remove them if their sessions were deleted; restore v2.db if it is older than they are";
    Some(Finding::warning(FindingId::FolderWithoutRow, "v2-sessions", words, remedy))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use crate::doctor::examine as examine_all;
    use crate::settings::Settings;
    use crate::testing::{DataDir, SessionSpec};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn found(data: &DataDir, id: FindingId) -> Vec<Finding> {
        let findings = examine_all(data.path(), &Settings::default(), &mut |_, _| {});
        findings.into_iter().filter(|finding| finding.id == id).collect()
    }

    #[test]
    fn a_session_folder_without_a_row_is_named_and_other_folders_are_not() {
        let data = DataDir::new();
        let agent = data.session(SessionSpec::new("ag").chat("slack", "slack:C1"));
        let group = agent.folder().parent().unwrap().to_owned();
        fs::create_dir(group.join(".shared")).unwrap();
        assert_eq!(found(&data, FindingId::FolderWithoutRow), []);
        fs::create_dir(group.join("sess-lost")).unwrap();
        fs::write(group.join("sess-lost/outbound.db"), "").unwrap();
        let findings = found(&data, FindingId::FolderWithoutRow);
        assert!(
            findings[0].finding.contains("1 session folders have no row in v2.db: ag/sess-lost"),
            "{findings:?}"
        );
    }

    #[test]
    fn tokens_that_others_can_read_are_found_unless_the_directory_is_closed() {
        let data = DataDir::new();
        let tokens = data.path().join("nanorelay-tokens.json");
        fs::write(&tokens, "{}").unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        set(data.path(), 0o755);
        set(&tokens, 0o644);
        let findings = found(&data, FindingId::PrivateFile);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].remedy.as_deref().is_some_and(|remedy| remedy.starts_with("chmod go= ")));
        set(&tokens, 0o600);
        assert_eq!(found(&data, FindingId::PrivateFile), []);
        set(&tokens, 0o644);
        set(data.path(), 0o700);
        assert_eq!(found(&data, FindingId::PrivateFile), []);
    }

    #[test]
    fn a_file_in_the_place_of_the_socket_is_an_error_and_a_left_over_socket_is_none() {
        let data = DataDir::new();
        let path = data.path().join("nanorelay.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert_eq!(found(&data, FindingId::Socket), []);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(found(&data, FindingId::Socket)[0].level, Level::Error);
    }
}
