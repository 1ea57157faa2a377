//! Tokens for the control plane: a file with what is known of each, but not the tokens themselves.
//!
//! A token is `nr_<id>_<secret>`. The file keeps the SHA-256 of the secret, which is 256 random bits: nobody finds it out
//! from its hash, so that a slow hash is not needed.

use super::caller::{AuthKind, Caller, Scope, tenant_set};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nanorelay_actors::model::time::Timestamp;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use subtle::ConstantTimeEq;

/// The file's name in the data directory, unless the configuration says otherwise.
pub const TOKENS_FILE_NAME: &str = "nanorelay-tokens.json";
/// What every token begins with.
const PREFIX: &str = "nr_";
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Characters of an id.
const ID_CHARS: usize = 8;
/// Most tokens of one file.
pub const TOKENS_MAX: usize = 1000;
/// The longest name of a token, in bytes.
pub const NAME_BYTES_MAX: usize = 100;
/// The largest file of tokens that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// The version of the file that this one reads and writes.
const VERSION: u32 = 1;

/// Why the tokens cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// In words.
        reason: String,
    },
    /// What was asked for cannot be.
    #[error("{0}")]
    Refused(String),
}

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// Its public part.
    pub id: String,
    /// Whose it is, or what for.
    pub name: String,
    /// The SHA-256 of the secret, in hexadecimal digits.
    pub secret_sha256: String,
    /// What its bearer may do.
    pub scope: Scope,
    /// Whose sessions its bearer sees; `*` is everybody.
    pub tenants: Vec<String>,
    /// When it was made; RFC 3339 UTC.
    pub created_at: String,
    /// When it ends; RFC 3339 UTC. None when it lasts until it is revoked.
    pub expires_at: Option<String>,
}

impl TokenRecord {
    /// Whether it is over. One whose end cannot be read is.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.as_deref().is_some_and(|at| !Timestamp::parse(at).is_ok_and(|at| at > now))
    }

    /// Who bears it.
    pub(super) fn caller(&self, auth: AuthKind, csrf_token: Option<String>) -> Option<Caller> {
        let tenants = tenant_set(&self.tenants).ok()?;
        Some(Caller { name: self.name.clone(), scope: self.scope, tenants, auth, csrf_token })
    }
}

/// What a new token is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Whose it is, or what for.
    pub name: String,
    /// What its bearer may do.
    pub scope: Scope,
    /// Whose sessions its bearer sees; `*` is everybody.
    pub tenants: Vec<String>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    tokens: Vec<TokenRecord>,
}

/// What a file looked like when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

/// What was read of a file.
#[derive(Clone, Default)]
struct Loaded {
    stamp: Option<Stamp>,
    tokens: Arc<Vec<TokenRecord>>,
}

/// The file of tokens. It is read again when it has changed.
pub struct TokenFile {
    path: PathBuf,
    loaded: Mutex<Loaded>,
}

impl TokenFile {
    /// The file at this path, which need not be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), loaded: Mutex::default() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is no such file. One that cannot be looked at may be there.
    pub fn is_absent(&self) -> bool {
        matches!(fs::symlink_metadata(&self.path), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// All tokens; none when there is no file.
    pub fn tokens(&self) -> Result<Arc<Vec<TokenRecord>>, TokenError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = match fs::metadata(&self.path) {
            Ok(metadata) => Stamp {
                inode: metadata.ino(),
                bytes: metadata.len(),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                *loaded = Loaded::default();
                return Ok(Arc::clone(&loaded.tokens));
            }
            Err(source) => return Err(self.failed(source)),
        };
        if loaded.stamp != Some(stamp) {
            // Until it can be read nobody is recognised: a token may just have been revoked.
            *loaded = Loaded::default();
            *loaded = Loaded { stamp: Some(stamp), tokens: Arc::new(self.read()?) };
        }
        Ok(Arc::clone(&loaded.tokens))
    }

    /// The token that this text is, unless it is unknown, revoked or over.
    pub fn find(&self, text: &str, now: Timestamp) -> Result<Option<TokenRecord>, TokenError> {
        let tokens = self.tokens()?;
        let Some((id, secret)) = parts(text) else { return Ok(None) };
        let hash = hash(secret);
        let known = tokens.iter().find(|token| token.id == id);
        // Without such an id something is compared, too: the time tells nothing.
        let expected = known.map_or("", |token| &token.secret_sha256);
        let is_equal = bool::from(hash.as_bytes().ct_eq(format!("{expected:0>64}").as_bytes()));
        Ok(known.filter(|token| is_equal && !token.has_expired(now)).cloned())
    }

    /// Makes a token. Returns its text, which is nowhere else, and what is kept of it.
    pub fn create(&self, new: NewToken, now: Timestamp) -> Result<(String, TokenRecord), TokenError> {
        check(&new, now)?;
        let _lock = self.lock()?;
        let mut tokens = self.read_if_there()?;
        if tokens.len() >= TOKENS_MAX {
            return Err(TokenError::Refused(format!("there are {TOKENS_MAX} tokens already, revoke some")));
        }
        if tokens.iter().any(|token| token.name == new.name) {
            let words = format!("there is a token with the name {:?} already", new.name);
            return Err(TokenError::Refused(words));
        }
        let random = |bytes: &mut [u8]| random(bytes).map_err(|source| self.failed(source));
        let (mut id, mut secret) = ([0; ID_CHARS], [0; SECRET_BYTES]);
        random(&mut id)?;
        random(&mut secret)?;
        let id: String = id
            .iter()
            .map(|byte| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::from(byte % 32)]))
            .collect();
        let secret = URL_SAFE_NO_PAD.encode(secret);
        let record = TokenRecord {
            id: id.clone(),
            name: new.name,
            secret_sha256: hash(&secret),
            scope: new.scope,
            tenants: new.tenants,
            created_at: now.to_iso(),
            expires_at: new.expires_at.map(Timestamp::to_iso),
        };
        tokens.push(record.clone());
        self.write(tokens)?;
        Ok((format!("{PREFIX}{id}_{secret}"), record))
    }

    /// Removes a token by its id. Returns what it was.
    pub fn revoke(&self, id: &str) -> Result<Option<TokenRecord>, TokenError> {
        let _lock = self.lock()?;
        let mut tokens = self.read_if_there()?;
        let Some(index) = tokens.iter().position(|token| token.id == id) else { return Ok(None) };
        let gone = tokens.remove(index);
        // The file stays, also without a token: without a file this machine's users may do everything.
        self.write(tokens)?;
        Ok(Some(gone))
    }

    fn read_if_there(&self) -> Result<Vec<TokenRecord>, TokenError> {
        if self.is_absent() { Ok(Vec::new()) } else { self.read() }
    }

    fn read(&self) -> Result<Vec<TokenRecord>, TokenError> {
        let wrong = |reason: String| TokenError::Content { path: self.path.clone(), reason };
        let metadata = fs::metadata(&self.path).map_err(|source| self.failed(source))?;
        if metadata.len() > FILE_BYTES_MAX {
            return Err(wrong(format!("has {} bytes, the limit is {FILE_BYTES_MAX}", metadata.len())));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(wrong("others may write it, `chmod go-w` it".to_owned()));
        }
        let text = fs::read_to_string(&self.path).map_err(|source| self.failed(source))?;
        let content: Content = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if content.version != VERSION {
            return Err(wrong(format!("version {} was written by a newer nanorelay", content.version)));
        }
        Ok(content.tokens)
    }

    /// Replaces the file in one step: a reader sees the old one or the new one, also after a power loss.
    fn write(&self, tokens: Vec<TokenRecord>) -> Result<(), TokenError> {
        let failed = |source| self.failed(source);
        let text = serde_json::to_string_pretty(&Content { version: VERSION, tokens })
            .map_err(|error| failed(io::Error::other(error)))?;
        let folder = self.folder();
        // Its mode is 0600 from its first moment.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        file.persist(&self.path).map_err(|error| failed(error.error))?;
        rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .and_then(rustix::fs::fsync)
            .map_err(|error| failed(error.into()))
    }

    /// One command changes the file at a time.
    fn lock(&self) -> Result<File, TokenError> {
        let mut path = self.path.clone().into_os_string();
        path.push(".lock");
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
            .and_then(|file| rustix::fs::flock(&file, FlockOperation::LockExclusive).map(|()| file))
            .map(File::from)
            .map_err(|error| self.failed(error.into()))
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    fn failed(&self, source: io::Error) -> TokenError {
        TokenError::Io { path: self.path.clone(), source }
    }
}

/// Refuses what cannot be a token.
fn check(new: &NewToken, now: Timestamp) -> Result<(), TokenError> {
    let refused = |words: String| Err(TokenError::Refused(words));
    if new.name.is_empty() || new.name.len() > NAME_BYTES_MAX || new.name.contains(char::is_control) {
        return refused(format!("a name has 1 to {NAME_BYTES_MAX} bytes and no control character"));
    }
    if new.tenants.is_empty() {
        return refused("a token needs at least one tenant, or *".to_owned());
    }
    if let Err(error) = tenant_set(&new.tenants) {
        return refused(format!("tenant: {error}"));
    }
    if new.expires_at.is_some_and(|at| at <= now) {
        return refused("the end lies in the past".to_owned());
    }
    Ok(())
}

/// The id and the secret of a token's text.
fn parts(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix(PREFIX)?.split_once('_')
}

fn hash(secret: &str) -> String {
    format!("{:x}", Sha256::digest(secret))
}

/// Fills `bytes` with what nobody can guess.
pub(super) fn random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    fn file() -> (tempfile::TempDir, TokenFile) {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::new(folder.path().join("tokens.json"));
        (folder, file)
    }

    fn new(name: &str) -> NewToken {
        NewToken {
            name: name.to_owned(),
            scope: Scope::Operate,
            tenants: vec!["acme".to_owned()],
            expires_at: None,
        }
    }

    #[test]
    fn a_token_is_found_by_its_whole_text_only_and_its_secret_is_not_in_the_file() {
        let (_folder, file) = file();
        assert!(file.is_absent() && file.tokens().unwrap().is_empty());
        let (text, record) = file.create(new("ann"), NOW).unwrap();
        file.create(new("bob"), NOW).unwrap();
        assert_eq!(file.find(&text, NOW).unwrap().as_ref(), Some(&record));
        let stored = fs::read_to_string(file.path()).unwrap();
        let secret = parts(&text).unwrap().1;
        assert!(!stored.contains(secret) && stored.contains(&record.secret_sha256));
        for wrong in [
            "",
            "nr_",
            "nr__",
            &text[3..],
            &text[..text.len() - 1],
            &format!("{text}x"),
            &text.to_uppercase(),
            &format!("nr_{}_", record.id),
            &format!("nr_zzzzzzzz_{secret}"),
            &format!("nr_{}_{}", record.id, record.secret_sha256),
        ] {
            assert_eq!(file.find(wrong, NOW).unwrap(), None, "{wrong}");
        }
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_revoked_or_expired_token_is_nobodys_and_the_file_stays() {
        let (_folder, file) = file();
        let (text, record) = file.create(new("ann"), NOW).unwrap();
        let ends = NOW.plus(Duration::from_secs(60));
        let (short, _) = file.create(NewToken { expires_at: Some(ends), ..new("bob") }, NOW).unwrap();
        assert!(file.find(&short, NOW).unwrap().is_some());
        assert_eq!(file.find(&short, ends).unwrap(), None);
        assert_eq!(file.revoke(&record.id).unwrap(), Some(record.clone()));
        assert_eq!(file.find(&text, NOW).unwrap(), None);
        assert_eq!(file.revoke(&record.id).unwrap(), None);
        assert!(!file.is_absent());
    }

    #[test]
    fn a_file_that_another_program_has_changed_is_read_again() {
        let (_folder, file) = file();
        let (text, record) = file.create(new("ann"), NOW).unwrap();
        assert!(file.find(&text, NOW).unwrap().is_some());
        TokenFile::new(file.path()).revoke(&record.id).unwrap();
        assert_eq!(file.find(&text, NOW).unwrap(), None);
    }

    #[test]
    fn a_file_that_is_damaged_or_that_others_may_write_lets_nobody_in() {
        let (_folder, file) = file();
        let (text, _) = file.create(new("ann"), NOW).unwrap();
        assert!(file.find(&text, NOW).unwrap().is_some());
        fs::set_permissions(file.path(), PermissionsExt::from_mode(0o666)).unwrap();
        assert!(file.find(&text, NOW).is_err() && file.find(&text, NOW).is_err());
        fs::set_permissions(file.path(), PermissionsExt::from_mode(0o600)).unwrap();
        assert!(file.find(&text, NOW).unwrap().is_some());
        for damaged in ["", "{}", "[]", r#"{"version":2,"tokens":[]}"#, r#"{"version":1,"tokens":[],"x":1}"#]
        {
            fs::write(file.path(), damaged).unwrap();
            assert!(file.find(&text, NOW).is_err() && !file.is_absent(), "{damaged}");
            assert!(file.create(new("bob"), NOW).is_err(), "what is there is not written over: {damaged}");
        }
    }

    #[test]
    fn what_cannot_be_a_token_is_refused_in_words() {
        let (_folder, file) = file();
        file.create(new("ann"), NOW).unwrap();
        for (wrong, words) in [
            (new(""), "1 to 100 bytes"),
            (new(&"x".repeat(101)), "1 to 100 bytes"),
            (new("a\nb"), "control character"),
            (new("ann"), "already"),
            (NewToken { tenants: Vec::new(), ..new("b") }, "at least one tenant"),
            (NewToken { tenants: vec![String::new()], ..new("b") }, "tenant: id is empty"),
            (NewToken { expires_at: Some(NOW), ..new("b") }, "lies in the past"),
        ] {
            let error = file.create(wrong, NOW).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(file.tokens().unwrap().len(), 1);
    }
}
