//! The `webhook` channel: each delivery as a POST, signed to the Standard Webhooks specification.

mod address;
mod answer;
mod limits;
mod signature;

pub use address::{UrlProblem, check_url};
pub use signature::{InvalidSecret, SigningKeys};

use super::payload::{self, FileReader};
use crate::config::WebhookConfig;
use address::{PublicResolver, RefusedAddress};
use async_trait::async_trait;
use nanorelay_actors::channel::adapter::{Channel, Delivery, Idempotency};
use nanorelay_actors::clock::SharedClock;
use nanorelay_actors::model::error::{Receipt, SendError};
use reqwest::{Client, Response, Url};
use sha2::{Digest, Sha256};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// The most that all attachments of one message may have, in bytes: they travel inside the JSON body.
pub const ATTACHMENT_BYTES_TOTAL_MAX: u64 = 1 << 20;
/// The most that is read of an answer's body, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The longest that a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Deliveries whose attachments are read at the same time.
const PARALLEL_READS: usize = 4;
/// A longer idempotency key is hashed before it becomes the `webhook-id`.
const ID_BYTES_MAX: usize = 128;

/// Why a webhook cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The URL is refused.
    #[error(transparent)]
    Url(#[from] UrlProblem),
    /// TLS cannot be set up.
    #[error("cannot set up tls: {0}")]
    Tls(#[from] rustls::Error),
    /// The HTTP client cannot be made.
    #[error("cannot make the http client: {0}")]
    Client(#[from] reqwest::Error),
}

/// Sends deliveries to one URL.
pub struct WebhookChannel {
    client: Client,
    url: Url,
    keys: SigningKeys,
    files: FileReader,
    clock: SharedClock,
}

impl WebhookChannel {
    /// Makes a client of its own: no redirects, no proxy, no silent repetition, and a resolver that refuses
    /// internal addresses unless they are allowed.
    pub fn new(config: &WebhookConfig, clock: SharedClock) -> Result<Self, WebhookError> {
        let url = check_url(&config.url, config.allow_private)?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls_config()?)
            .dns_resolver(Arc::new(PublicResolver { allow_private: config.allow_private }))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT.min(config.timeout))
            .timeout(config.timeout)
            .user_agent(concat!("nanorelay/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, url, keys: config.keys.clone(), files: FileReader::new(PARALLEL_READS), clock })
    }

    async fn body(&self, delivery: &Delivery) -> Result<String, SendError> {
        let total: u64 = delivery.attachments.iter().map(|file| file.size()).sum();
        if total > ATTACHMENT_BYTES_TOTAL_MAX {
            let reason = format!(
                "attachments are too large for a webhook: {total} bytes, the limit is {ATTACHMENT_BYTES_TOTAL_MAX}"
            );
            return Err(SendError::Permanent { reason });
        }
        let files = self.files.read(delivery, true).await?;
        payload::to_json(delivery, &files)
    }
}

#[async_trait]
impl Channel for WebhookChannel {
    fn idempotency(&self) -> Idempotency {
        Idempotency::NativeKey
    }

    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        let body = self.body(delivery).await?;
        let id = webhook_id(&delivery.idempotency_key);
        let timestamp_s = self.clock.now().as_ms().div_euclid(1000);
        let request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", timestamp_s)
            .header("webhook-signature", self.keys.sign(&id, timestamp_s, body.as_bytes()))
            .body(body);
        let response = request.send().await.map_err(|error| classify_failure(&error))?;
        let now = self.clock.now();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let limit = limits::learned(header, now);
        let by_limit = || limit.filter(|limit| limit.remaining == 0).map(|limit| limit.resets_at.since(now));
        let retry_after =
            header("retry-after").and_then(|text| answer::retry_after(text, now)).or_else(by_limit);
        answer::classify(response.status().as_u16(), retry_after)?;
        let platform_message_id = answer::message_id(&read_bounded(response).await);
        Ok(Receipt { platform_message_id, limit })
    }
}

/// A key of its own for each message, safe in a header and without the dot that separates signed parts.
fn webhook_id(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.len() <= ID_BYTES_MAX && key.chars().all(plain) {
        return key.to_owned();
    }
    format!("msg_{}", &payload::hex(&Sha256::digest(key))[..40])
}

fn tls_config() -> Result<rustls::ClientConfig, rustls::Error> {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // The provider is named here: a process-wide default would be the embedding program's business.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The first bytes of the body. The message is accepted already: an answer that breaks off changes nothing.
async fn read_bounded(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < ANSWER_BYTES_MAX
        && let Ok(Some(piece)) = response.chunk().await
    {
        let room = ANSWER_BYTES_MAX - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    body
}

/// A request without an answer. Neither the URL nor anything of an answer goes into the reason: the agent gets
/// to read it.
fn classify_failure(error: &reqwest::Error) -> SendError {
    let chain = || std::iter::successors(error.source(), |error: &&(dyn Error + 'static)| (**error).source());
    if let Some(refused) = chain().find_map(|error| error.downcast_ref::<RefusedAddress>()) {
        return SendError::Permanent { reason: refused.to_string() };
    }
    let cause = chain().last().map_or_else(|| "no details".to_owned(), ToString::to_string);
    let transient =
        |what: &str| SendError::Transient { retry_after: None, reason: format!("{what}: {cause}") };
    if error.is_connect() {
        return transient("cannot connect");
    }
    if error.is_builder() {
        return SendError::Permanent { reason: format!("the request cannot be built: {cause}") };
    }
    let what =
        if error.is_timeout() { "no answer in time" } else { "the connection broke before the answer" };
    SendError::Ambiguous { reason: format!("{what}: {cause}") }
}

#[cfg(test)]
mod tests;
