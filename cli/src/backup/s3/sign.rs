//! AWS Signature Version 4, as S3 checks it. Plain functions. Source: Amazon S3 API reference, "Authenticating Requests:
//! Using the Authorization Header".

use std::fmt::Write as _;

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use sha2::{Digest, Sha256};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Everything but what RFC 3986 calls unreserved.
const ENCODED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// The same, of a path.
const ENCODED_PATH: AsciiSet = ENCODED.remove(b'/');

/// Who signs.
#[derive(Clone)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: String,
    /// Of temporary credentials.
    pub session_token: Option<String>,
}

/// What of a request is signed.
pub struct Signed<'a> {
    pub method: &'a str,
    pub host: &'a str,
    /// Not encoded, starting with `/`.
    pub path: &'a str,
    /// Not encoded.
    pub query: &'a [(&'a str, &'a str)],
    /// SHA-256 of the body, in hex.
    pub payload: &'a str,
}

/// The path as it is sent.
pub fn encode_path(path: &str) -> String {
    utf8_percent_encode(path, &ENCODED_PATH).to_string()
}

/// The query as it is sent, in the order in which it is signed.
pub fn encode_query(query: &[(&str, &str)]) -> String {
    let encode = |text: &str| utf8_percent_encode(text, &ENCODED).to_string();
    let mut pairs: Vec<(String, String)> = query.iter().map(|(k, v)| (encode(k), encode(v))).collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join("&")
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// The headers that prove the request, beside `host`.
pub fn headers(
    request: &Signed<'_>,
    credentials: &Credentials,
    region: &str,
    now: Timestamp,
) -> Vec<(&'static str, String)> {
    let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut headers = vec![
        ("host", request.host.to_owned()),
        ("x-amz-content-sha256", request.payload.to_owned()),
        ("x-amz-date", time.clone()),
    ];
    if let Some(token) = &credentials.session_token {
        headers.push(("x-amz-security-token", token.clone()));
    }
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{}\n", value.trim()))
        .collect();
    let canonical = [
        request.method,
        &encode_path(request.path),
        &encode_query(request.query),
        &lines,
        &names,
        request.payload,
    ]
    .join("\n");
    let scope = format!("{}/{region}/s3/aws4_request", &time[..8]);
    let digest = hex(&Sha256::digest(canonical));
    let text = [ALGORITHM, &time, &scope, &digest].join("\n");
    let first = format!("AWS4{}", credentials.secret_key);
    let key = [&time[..8], region, "s3", "aws4_request"]
        .iter()
        .fold(first.into_bytes(), |key, part| mac(&key, part));
    let signature = hex(&mac(&key, &text));
    let access_key = &credentials.access_key;
    let authorization =
        format!("{ALGORITHM} Credential={access_key}/{scope},SignedHeaders={names},Signature={signature}");
    headers.remove(0);
    headers.push(("authorization", authorization));
    headers
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// The examples of the S3 API reference.
    #[track_caller]
    fn check(query: &[(&str, &str)], signature: &str) {
        let credentials = Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        };
        let request = Signed {
            method: "GET",
            host: "examplebucket.s3.amazonaws.com",
            path: "/",
            query,
            payload: EMPTY,
        };
        let now = "2013-05-24T00:00:00Z".parse().expect("a time");
        let headers = headers(&request, &credentials, "us-east-1", now);
        let (_, found) = headers.last().expect("signed");
        assert!(found.ends_with(&format!(",Signature={signature}")), "{found}");
        assert!(found.contains("Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"));
    }

    #[test]
    fn signs_as_the_reference_says() {
        check(
            &[("lifecycle", "")],
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        );
        check(
            &[("prefix", "J"), ("max-keys", "2")],
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        );
    }
}
