//! Recognising who asks: by a token, by the cookie of a login, by the machine that they are on, or by the application.

use super::{Authority, Plane};
use crate::control::http::caller::{AuthKind, Caller};
use crate::control::http::headers;
use crate::control::http::logins::Login;
use crate::control::http::problem::{Problem, ProblemKind};
use crate::control::http::tokens::{TokenError, TokenRecord};
use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use nanorelay_actors::clock::{Clock, SystemClock};
use std::net::{IpAddr, Ipv4Addr};

/// The scheme of the header `Authorization`.
const SCHEME: &str = "bearer";

impl Plane {
    /// Recognises who asks.
    pub fn recognise(&self, request: &HttpRequest) -> Result<Caller, Problem> {
        if let Authority::Application(authorizer) = &self.authority {
            return authorizer(request)
                .ok_or_else(|| unauthorized("the application does not know who this is"));
        }
        if let Some(token) = token_in(request)? {
            return caller_of(&self.find_token(request, token)?, AuthKind::Token, None);
        }
        if let Some(login) = self.shared.logins.find(request, SystemClock.now()) {
            return self.recognise_login(request, login);
        }
        let may_be_local = matches!(self.authority, Authority::TokensOrLocal);
        if may_be_local && headers::is_local(request) && self.tokens.is_absent() {
            headers::check_same_site(request)?;
            return Ok(Caller::local());
        }
        Err(unauthorized("there is no token in the request"))
    }

    /// Logs somebody in. Returns who it is, and the value of the cookie.
    pub fn log_in(&self, request: &HttpRequest, token: &str) -> Result<(Caller, String), Problem> {
        if matches!(self.authority, Authority::Application(_)) {
            let words = "the application that embeds the host recognises callers, there is no login";
            return Err(Problem::new(ProblemKind::NotFound, words));
        }
        let token = self.find_token(request, token)?;
        let (login, value) = self.shared.logins.begin(&token.id, SystemClock.now())?;
        Ok((caller_of(&token, AuthKind::Cookie, Some(login.csrf_token))?, value))
    }

    fn recognise_login(&self, request: &HttpRequest, login: Login) -> Result<Caller, Problem> {
        headers::check_same_site(request)?;
        if !request.method().is_safe() {
            login.check_csrf(request)?;
        }
        let now = SystemClock.now();
        let tokens = self.tokens.tokens().map_err(|error| self.unreadable(&error))?;
        let token = tokens.iter().find(|token| token.id == login.token_id && !token.has_expired(now));
        let token = token.ok_or_else(|| unauthorized("the token of this login was revoked or is over"))?;
        caller_of(token, AuthKind::Cookie, Some(login.csrf_token))
    }

    fn find_token(&self, request: &HttpRequest, text: &str) -> Result<TokenRecord, Problem> {
        let now = SystemClock.now();
        if let Some(token) = self.tokens.find(text, now).map_err(|error| self.unreadable(&error))? {
            return Ok(token);
        }
        let peer = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
        match self.shared.failures.count(peer, now) {
            Some(wait) => {
                let words = "too many wrong tokens from this address";
                Err(Problem::new(ProblemKind::TooManyRequests, words).retry_after(wait))
            }
            None => {
                slog::warn!(self.relay.logger(), "token refused"; "peer" => %peer);
                Err(unauthorized("the token is unknown, revoked or over"))
            }
        }
    }

    fn unreadable(&self, error: &TokenError) -> Problem {
        slog::error!(self.relay.logger(), "tokens cannot be read"; "error" => %error);
        Problem::new(ProblemKind::Unavailable, "the host cannot read its tokens, its log says why")
    }
}

fn unauthorized(words: &str) -> Problem {
    Problem::new(ProblemKind::Unauthorized, words)
}

fn caller_of(token: &TokenRecord, auth: AuthKind, csrf_token: Option<String>) -> Result<Caller, Problem> {
    let words = "the token has a tenant that cannot be one";
    token.caller(auth, csrf_token).ok_or_else(|| Problem::new(ProblemKind::Internal, words))
}

/// The token that a request brings.
fn token_in(request: &HttpRequest) -> Result<Option<&str>, Problem> {
    let mut values = request.headers().get_all(AUTHORIZATION);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::field("Authorization", "is there more than once"));
    }
    let parts = value.to_str().ok().and_then(|value| value.split_once(' '));
    match parts {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => Ok(Some(token.trim())),
        _ => Err(unauthorized("the header Authorization does not hold a bearer token")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn a_token_is_taken_from_one_header_of_the_bearer_scheme() {
        let of = |values: &[&str]| {
            let request = values
                .iter()
                .fold(TestRequest::default(), |request, value| request.append_header((AUTHORIZATION, *value)))
                .to_http_request();
            token_in(&request).map(|token| token.map(str::to_owned)).map_err(|problem| problem.kind())
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["Bearer nr_a_b"]), Ok(Some("nr_a_b".to_owned())));
        assert_eq!(of(&["bearer  nr_a_b "]), Ok(Some("nr_a_b".to_owned())));
        assert_eq!(of(&["Basic YTpi"]), Err(ProblemKind::Unauthorized));
        assert_eq!(of(&["nr_a_b"]), Err(ProblemKind::Unauthorized));
        assert_eq!(of(&["Bearer a", "Bearer b"]), Err(ProblemKind::InvalidRequest));
    }
}
