//! Logins of the dashboard: a random cookie stands for a token for some hours. They are in memory: after a restart people
//! log in again. A login is worth what its token is worth at the moment, nothing once that is revoked.

use super::problem::{Problem, ProblemKind};
use super::tokens;
use actix_web::HttpRequest;
use actix_web::http::header::COOKIE;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nanorelay_actors::model::time::Timestamp;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use subtle::ConstantTimeEq;

/// How long a login lasts.
pub(super) const LOGIN_TIME: Duration = Duration::from_secs(12 * 3600);
/// Logins at a time; the oldest ends for one more.
const LOGINS_MAX: usize = 1000;
/// The header that repeats the CSRF token.
pub(super) const CSRF_HEADER: &str = "x-csrf-token";
/// Random bytes of a cookie and of a CSRF token.
const RANDOM_BYTES: usize = 32;

type Key = [u8; 32];

/// Who is logged in.
pub(super) struct Logins {
    /// Of each relay its own: cookies do not tell ports apart.
    cookie_name: String,
    /// By the hash of the cookie: what a look into the memory finds is no cookie, and a lookup tells nothing of its time.
    logins: Mutex<HashMap<Key, Login>>,
}

/// One login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    /// The id of the token.
    pub token_id: String,
    /// What changing requests must repeat.
    pub csrf_token: String,
    expires_at: Timestamp,
}

impl Default for Logins {
    fn default() -> Self {
        let cookie_name = format!("nanorelay_{:08x}", fastrand::u32(..));
        Self { cookie_name, logins: Mutex::default() }
    }
}

impl Logins {
    /// Logs somebody in. Returns the login and its cookie's value.
    pub fn begin(&self, token_id: &str, now: Timestamp) -> Result<(Login, String), Problem> {
        let (value, csrf_token) = (random_text()?, random_text()?);
        let login = Login { token_id: token_id.to_owned(), csrf_token, expires_at: now.plus(LOGIN_TIME) };
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        logins.retain(|_, login| login.expires_at > now);
        if logins.len() >= LOGINS_MAX
            && let Some(oldest) = logins.iter().min_by_key(|(_, login)| login.expires_at).map(|(key, _)| *key)
        {
            logins.remove(&oldest);
        }
        logins.insert(key_of(&value), login.clone());
        Ok((login, value))
    }

    /// The login of a request's cookie.
    pub fn find(&self, request: &HttpRequest, now: Timestamp) -> Option<Login> {
        let value = self.cookie_in(request)?;
        let logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        logins.get(&key_of(value)).filter(|login| login.expires_at > now).cloned()
    }

    /// Logs out whoever sent a request.
    pub fn end(&self, request: &HttpRequest) {
        if let Some(value) = self.cookie_in(request) {
            self.logins.lock().unwrap_or_else(PoisonError::into_inner).remove(&key_of(value));
        }
    }

    /// What `Set-Cookie` says for a value; the cookie goes to the paths below the one where the control plane is mounted. An
    /// empty value takes the cookie away.
    pub fn cookie(&self, request: &HttpRequest, value: &str, path: &str) -> String {
        let name = &self.cookie_name;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-._~%".contains(c);
        let path = if path.chars().all(is_plain) { path } else { "/" };
        let seconds = if value.is_empty() { 0 } else { LOGIN_TIME.as_secs() };
        // Over plain HTTP a browser would not keep a secure one.
        let secure = if request.connection_info().scheme() == "https" { "; Secure" } else { "" };
        format!("{name}={value}; HttpOnly; SameSite=Strict; Path={path}; Max-Age={seconds}{secure}")
    }

    /// The value of a request's cookie of this name.
    fn cookie_in<'a>(&self, request: &'a HttpRequest) -> Option<&'a str> {
        let headers = request.headers().get_all(COOKIE).filter_map(|value| value.to_str().ok());
        let mut pairs = headers.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| name.trim() == self.cookie_name).map(|(_, value)| value.trim())
    }
}

impl Login {
    /// Refuses a changing request that does not repeat the CSRF token: only pages of this host know it.
    pub fn check_csrf(&self, request: &HttpRequest) -> Result<(), Problem> {
        let said = request.headers().get(CSRF_HEADER).map(|value| value.as_bytes()).unwrap_or_default();
        if bool::from(said.ct_eq(self.csrf_token.as_bytes())) {
            return Ok(());
        }
        Err(Problem::new(ProblemKind::CsrfToken, "the header X-CSRF-Token is missing or wrong"))
    }
}

fn key_of(value: &str) -> Key {
    Sha256::digest(value).into()
}

fn random_text() -> Result<String, Problem> {
    let mut bytes = [0; RANDOM_BYTES];
    tokens::random(&mut bytes).map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    fn with_cookie(logins: &Logins, value: &str) -> HttpRequest {
        let cookies = format!("a=b; {}={value}; c=d", logins.cookie_name);
        TestRequest::default().insert_header((COOKIE, cookies)).to_http_request()
    }

    #[test]
    fn a_login_lasts_for_its_hours_or_until_its_end() {
        let logins = Logins::default();
        let (login, value) = logins.begin("t1", NOW).unwrap();
        let request = with_cookie(&logins, &value);
        assert_eq!(logins.find(&request, NOW), Some(login.clone()));
        assert_eq!(logins.find(&request, NOW.plus(LOGIN_TIME)), None);
        assert_eq!(logins.find(&with_cookie(&logins, "x"), NOW), None);
        assert_eq!(logins.find(&with_cookie(&Logins::default(), &value), NOW), None, "of another relay");
        logins.end(&request);
        assert_eq!(logins.find(&request, NOW), None);
    }

    #[test]
    fn one_login_too_many_ends_the_oldest() {
        let logins = Logins::default();
        let (_, first) = logins.begin("t1", NOW).unwrap();
        let later = NOW.plus(Duration::from_secs(1));
        let (_, second) = logins.begin("t1", later).unwrap();
        for _ in 2..=LOGINS_MAX {
            logins.begin("t2", later).unwrap();
        }
        assert_eq!(logins.find(&with_cookie(&logins, &first), later), None);
        assert!(logins.find(&with_cookie(&logins, &second), later).is_some());
        assert_eq!(logins.logins.lock().unwrap().len(), LOGINS_MAX);
    }

    #[test]
    fn a_change_must_repeat_the_csrf_token() {
        let logins = Logins::default();
        let (login, _) = logins.begin("t1", NOW).unwrap();
        let saying =
            |value: &str| TestRequest::default().insert_header((CSRF_HEADER, value)).to_http_request();
        assert!(login.check_csrf(&saying(&login.csrf_token)).is_ok());
        assert!(login.check_csrf(&saying("x")).is_err());
        assert!(login.check_csrf(&TestRequest::default().to_http_request()).is_err());
    }

    #[test]
    fn the_cookie_is_kept_from_scripts_and_other_sites_and_is_secure_over_tls() {
        let logins = Logins::default();
        let plain = logins.cookie(&TestRequest::default().to_http_request(), "v", "/agents/");
        for part in ["HttpOnly", "SameSite=Strict", "Path=/agents/", "Max-Age=43200"] {
            assert!(plain.contains(part), "{plain}");
        }
        assert!(!plain.contains("Secure"));
        let request = TestRequest::default().insert_header(("x-forwarded-proto", "https")).to_http_request();
        assert!(logins.cookie(&request, "v", "/").contains("Secure"));
        assert!(logins.cookie(&request, "", "/").contains("Max-Age=0"));
    }
}
