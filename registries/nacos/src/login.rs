//! Getting a token for a name and a password, over HTTP.
//!
//! The one question of Nacos that gRPC does not know. Must never say the password to anybody but the server.
//! Source: `POST /nacos/v1/auth/login`, `HttpLoginProcessor` of `nacos-client` 2.2.4.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time};

use crate::message::Login;

/// How long it may take.
const LOGIN: Duration = Duration::from_secs(4);
/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// The shortest time until a token is asked for anew, whatever the server says of it.
const FRESH_MIN: Duration = Duration::from_secs(5);
/// The longest.
const FRESH_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What lets us in.
pub(crate) struct Token {
    pub(crate) text: String,
    /// How long to use it before another one is asked for.
    pub(crate) fresh: Duration,
}

/// Asks the server at `server`, `host:port`, for a token.
pub(crate) async fn login(server: &str, name: &str, password: &str) -> Result<Token, String> {
    let asked = time::timeout(LOGIN, ask(server, name, password)).await;
    asked.unwrap_or_else(|_| Err("no answer to the login in time".to_owned()))
}

async fn ask(server: &str, name: &str, password: &str) -> Result<Token, String> {
    let failed = |error: &dyn std::fmt::Display| format!("the login failed: {error}");
    let stream = TcpStream::connect(server).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let form = format!("username={}&password={}", escape(name), escape(password));
    let request = Request::post("/nacos/v1/auth/login")
        .header(header::HOST, server)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(form)))
        .map_err(|error| failed(&error))?;
    let asking = async {
        let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.map_err(|error| failed(&error))?.to_bytes();
        if !status.is_success() {
            return Err(format!("the login was refused: {}", first_words(&body, status.as_u16())));
        }
        token(&body)
    };
    // The connection is moved along here, so that it ends with the question.
    tokio::select! {
        token = asking => token,
        error = async { drop(connection.await); std::future::pending::<Result<Token, String>>().await } => error,
    }
}

fn token(body: &[u8]) -> Result<Token, String> {
    let login: Login =
        serde_json::from_slice(body).map_err(|error| format!("the login's answer: {error}"))?;
    // A tenth is left over, for servers whose clock is ahead and for a login that has to be tried again.
    let fresh = Duration::from_secs(login.token_ttl / 10 * 9).clamp(FRESH_MIN, FRESH_MAX);
    Ok(Token { text: login.access_token, fresh })
}

/// What a refusal says to people: the first line of it, and no more.
fn first_words(body: &[u8], status: u16) -> String {
    let text = String::from_utf8_lossy(body);
    let line: String = text.lines().next().unwrap_or_default().chars().take(200).collect();
    format!("{status} {line}").trim_end().to_owned()
}

/// As a form writes it.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_before_it_ends_and_never_in_a_hurry() {
        let fresh = |body: &str| token(body.as_bytes()).map(|token| token.fresh.as_secs());
        assert_eq!(fresh(r#"{"accessToken":"t","tokenTtl":18000,"globalAdmin":true}"#), Ok(16_200));
        assert_eq!(fresh(r#"{"accessToken":"t"}"#), Ok(5));
        assert_eq!(fresh(r#"{"accessToken":"t","tokenTtl":18446744073709551615}"#), Ok(86_400));
        assert!(fresh("{}").is_err() && fresh("").is_err());
    }

    #[test]
    fn a_form_keeps_what_is_in_a_password() {
        assert_eq!(escape("a&b=c d%\u{e9}"), "a%26b%3Dc%20d%25%C3%A9");
    }
}
