//! Signatures to the Standard Webhooks specification.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;

const PREFIX: &str = "whsec_";
/// Shorter keys can be guessed.
const KEY_BYTES_MIN: usize = 16;
/// Secrets that sign one request; more than an old and a new one are hardly meant.
const KEYS_MAX: usize = 8;

/// Why a text is no signing secret. The text itself is never repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// There is none.
    #[error("the secret is empty")]
    Empty,
    /// The form is wrong.
    #[error("a secret is \"whsec_\" and base64")]
    Form,
    /// The key is short.
    #[error("a secret has at least {KEY_BYTES_MIN} bytes")]
    Short,
    /// There are many.
    #[error("at most {KEYS_MAX} secrets are allowed")]
    TooMany,
}

/// The keys that sign each request. Several while secrets are rotated: the receiver accepts any of them.
#[derive(Clone)]
pub struct SigningKeys(Vec<Vec<u8>>);

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({} hidden)", self.0.len())
    }
}

impl SigningKeys {
    /// Reads one or more secrets, separated by white space.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let keys = text
            .split_whitespace()
            .map(|secret| {
                let encoded = secret.strip_prefix(PREFIX).ok_or(InvalidSecret::Form)?;
                let key = STANDARD.decode(encoded).map_err(|_| InvalidSecret::Form)?;
                if key.len() < KEY_BYTES_MIN { Err(InvalidSecret::Short) } else { Ok(key) }
            })
            .collect::<Result<Vec<_>, _>>()?;
        match keys.len() {
            0 => Err(InvalidSecret::Empty),
            1..=KEYS_MAX => Ok(Self(keys)),
            _ => Err(InvalidSecret::TooMany),
        }
    }

    /// The header's value: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`, for each key.
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let signatures: Vec<String> = self
            .0
            .iter()
            .filter_map(|key| Hmac::<Sha256>::new_from_slice(key).ok())
            .map(|mut mac| {
                mac.update(format!("{id}.{timestamp_s}.").as_bytes());
                mac.update(body);
                format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
            })
            .collect();
        signatures.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// The example of the specification's reference libraries.
    #[test]
    fn the_known_vector_is_reproduced() {
        let keys = SigningKeys::parse(SECRET).unwrap();
        let signature = keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn several_secrets_give_several_signatures() {
        let old = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let both = SigningKeys::parse(&format!("{SECRET} {old}\n")).unwrap().sign("a", 1, b"x");
        let parts: Vec<&str> = both.split(' ').collect();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[1], SigningKeys::parse(old).unwrap().sign("a", 1, b"x"));
    }

    #[test]
    fn other_texts_are_no_secrets() {
        assert_eq!(SigningKeys::parse(" ").unwrap_err(), InvalidSecret::Empty);
        assert_eq!(SigningKeys::parse("hunter2").unwrap_err(), InvalidSecret::Form);
        assert_eq!(SigningKeys::parse("whsec_%%%").unwrap_err(), InvalidSecret::Form);
        assert_eq!(SigningKeys::parse("whsec_AAAA").unwrap_err(), InvalidSecret::Short);
        assert_eq!(SigningKeys::parse(&[SECRET; 9].join(" ")).unwrap_err(), InvalidSecret::TooMany);
    }
}
