//! What every answer carries, and what the headers of a request say of where it comes from.

use super::problem::{Problem, ProblemKind};
use actix_web::HttpRequest;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Uri;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use std::net::IpAddr;

/// The header that names a request, in the answer and in the log.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest name of a request that is taken over from the request, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// What browsers may do with an answer. Pages load nothing from elsewhere, run no script of their own text, and stand in
/// no frame.
const FIXED: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Adds to every answer what all have in common.
pub(super) async fn finish(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let id = request_id(request.headers());
    let mut response = next.call(request).await?.map_into_boxed_body();
    let headers = response.headers_mut();
    for (name, value) in FIXED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    headers.insert(REQUEST_ID, id);
    Ok(response)
}

/// The name that the request brings, when it is a plain short one; otherwise a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_plain = |value: &&HeaderValue| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    let random = || format!("{:016x}", fastrand::u64(..));
    headers.get(REQUEST_ID).filter(is_plain).cloned().unwrap_or_else(|| {
        // Hexadecimal digits are fit for a header.
        HeaderValue::from_str(&random()).unwrap_or(HeaderValue::from_static("unknown"))
    })
}

/// What proxies add. A request with one of these comes from somewhere else, whatever its connection says.
const OF_PROXIES: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

/// Whether a request comes from this machine and means it: a page of another site that has made its name lead to this
/// machine still sends its own name.
pub(super) fn is_local(request: &HttpRequest) -> bool {
    if OF_PROXIES.iter().any(|name| request.headers().contains_key(*name)) {
        return false;
    }
    let from_here = request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    from_here && host(request).is_some_and(|host| is_loopback_name(host_name(host)))
}

/// The host that a request names, with its port.
fn host(request: &HttpRequest) -> Option<&str> {
    match request.headers().get(header::HOST) {
        Some(value) => value.to_str().ok(),
        // HTTP/2 says it there.
        None => request.uri().authority().map(|authority| authority.as_str()),
    }
}

/// A host without its port.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    }
}

fn is_loopback_name(name: &str) -> bool {
    let is_address = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    is_address || name.eq_ignore_ascii_case("localhost")
}

/// Refuses what a browser sends for a page of another site. Only needed where a browser is recognised without its page
/// having to say anything: by a cookie, or by the machine that it runs on.
pub(super) fn check_same_site(request: &HttpRequest) -> Result<(), Problem> {
    let refused = |words: &str| Err(Problem::new(ProblemKind::CrossSite, words));
    let text = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
    match text("sec-fetch-site") {
        None | Some("same-origin" | "none") => {}
        Some(_) => return refused("the browser says that a page of another site has sent it"),
    }
    let Some(origin) = text("origin") else { return Ok(()) };
    let origin_host = origin.parse::<Uri>().ok().and_then(|uri| uri.authority().map(ToString::to_string));
    match (origin_host, host(request)) {
        (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
        _ => refused("it comes from a page of another origin"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn request(peer: &str, headers: &[(&'static str, &'static str)]) -> HttpRequest {
        let request = TestRequest::default().peer_addr(peer.parse().unwrap());
        headers.iter().fold(request, |request, header| request.insert_header(*header)).to_http_request()
    }

    #[test]
    fn only_this_machine_under_a_loopback_name_is_local() {
        for host in ["localhost", "LOCALHOST:8420", "127.0.0.1:8420", "127.1.2.3", "[::1]:8420", "[::1]"] {
            assert!(is_local(&request("127.0.0.1:5", &[("host", host)])), "{host}");
            assert!(is_local(&request("[::1]:5", &[("host", host)])), "{host}");
            assert!(!is_local(&request("192.0.2.1:5", &[("host", host)])), "{host}");
        }
        for host in
            ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8420", "10.0.0.1", "", "["]
        {
            assert!(!is_local(&request("127.0.0.1:5", &[("host", host)])), "{host}");
        }
        for header in OF_PROXIES {
            let headers = [("host", "localhost"), (header, "192.0.2.1")];
            assert!(!is_local(&request("127.0.0.1:5", &headers)), "{header}");
        }
        assert!(is_local(&request("[::ffff:127.0.0.1]:5", &[("host", "localhost")])), "a mapped address");
    }

    #[test]
    fn what_a_page_of_another_site_sends_is_refused() {
        let host = ("host", "127.0.0.1:8420");
        for headers in [
            &[host][..],
            &[host, ("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:8420")],
            &[host, ("sec-fetch-site", "none")],
        ] {
            assert!(check_same_site(&request("127.0.0.1:5", headers)).is_ok(), "{headers:?}");
        }
        for headers in [
            [host, ("sec-fetch-site", "cross-site")],
            [host, ("sec-fetch-site", "same-site")],
            [host, ("origin", "http://evil.example")],
            [host, ("origin", "http://127.0.0.1:9000")],
            [host, ("origin", "null")],
        ] {
            assert!(check_same_site(&request("127.0.0.1:5", &headers)).is_err(), "{headers:?}");
        }
    }

    #[test]
    fn the_name_of_a_request_is_taken_over_only_when_it_is_plain() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_static(value));
            request_id(&headers)
        };
        assert_eq!(of("abc-1"), "abc-1");
        for odd in ["", "two words"] {
            assert_eq!(of(odd).len(), 16, "{odd}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
