//! What comes over the network and is no proper request, too much, or too slow.

use super::server::Served;
use crate::support::http::{connect, get, read_answer};
use std::io::Write;

fn raw(host: &Served, request: &str) -> u16 {
    let mut stream = connect(&host.address);
    // The host may answer and close before it has read everything.
    let _ = stream.write_all(request.as_bytes());
    read_answer(stream).status
}

#[test]
fn requests_that_two_readers_could_understand_differently_are_refused() {
    let host = Served::start();
    let post = "POST /v1/pauses HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    for request in [
        "GET /v1/me HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n".to_owned(),
        format!("{post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Content-Length: 4\r\nContent-Length: 5\r\n\r\n{{}}  "),
        "GET /v1/me\r\n\r\n".to_owned(),
    ] {
        assert_eq!(raw(&host, &request), 400, "{request}");
    }
    get(&host.address, "/v1/me").expect(200);
    host.stop();
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let host = Served::start();
    let post = "POST /v1/pauses HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n";
    assert_eq!(raw(&host, &format!("{post}Content-Length: 99999999999\r\n\r\n")), 413);
    let repeatable = format!("{post}Idempotency-Key: k\r\nContent-Length: 99999999999\r\n\r\n");
    assert_eq!(raw(&host, &repeatable), 413);
    let nested = format!("{{\"scope\":{}", "[".repeat(60_000));
    assert_eq!(raw(&host, &format!("{post}Content-Length: {}\r\n\r\n{nested}", nested.len())), 400);
    get(&host.address, "/v1/me").expect(200);
    host.stop();
}

#[test]
fn hundreds_of_silent_connections_keep_nobody_from_an_answer_and_hold_up_no_end() {
    let host = Served::start();
    let silent: Vec<_> = (0..300).map(|_| connect(&host.address)).collect();
    let half: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = connect(&host.address);
            stream.write_all(b"GET /v1/me HTTP/1.1\r\nHost: ").unwrap();
            stream
        })
        .collect();
    get(&host.address, "/v1/me").expect(200);
    let mut following = connect(&host.address);
    following.write_all(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    get(&host.address, "/livez").expect(200);
    host.stop();
    drop((silent, half, following));
}
