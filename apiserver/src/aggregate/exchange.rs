//! One request to an aggregated API server and its answer, watches and upgrades included.
//!
//! The server there learns who asks from headers that it takes from our certificate alone; what a client wrote into such
//! headers is dropped. Source: client-go's `transport.SetAuthProxyHeaders`, kube-aggregator's `handler_proxy.go`.

use std::time::Duration;

use corten_api::Status;
use futures::TryStreamExt;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Remote;
use crate::Inner;
use crate::body::{Body, BoxError, RequestBody};
use crate::identity::User;
use crate::outbound::connect;
use crate::proxy::OF_A_CONNECTION;
use crate::respond::{self, Answer};

/// Time for a connection to an aggregated server.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// Time until an answer begins; what follows may take as long as it likes, for it may be a watch.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
const PREFIX: &str = "x-remote-";
const EXTRA: &str = "x-remote-extra-";
/// What a header's name may hold beside letters and digits. Source: client-go's `headerKeyEscape`.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'*')
    .remove(b'+')
    .remove(b'^')
    .remove(b'|')
    .remove(b'`')
    .remove(b'\'');

/// Sends the request on as `user` and returns what comes back.
///
/// # Errors
/// Never a Status of ours but for what upstream answers in plain text.
pub async fn exchange(
    inner: &Inner,
    remote: &Remote,
    user: &User,
    parts: Parts,
    body: RequestBody,
) -> Result<Answer, Status> {
    let unavailable = || respond::text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable\n");
    if !remote.available {
        return Ok(unavailable());
    }
    let tls = match &remote.tls {
        Ok(tls) => tls.clone(),
        Err(error) => {
            tracing::warn!(
                apiservice = remote.name,
                error,
                "an aggregated server cannot be reached"
            );
            return Ok(unavailable());
        }
    };
    let asked = async {
        let connected = tokio::time::timeout(DIAL_LIMIT, connect(inner, &remote.place, tls)).await;
        let (wire, _) = connected.map_err(|_| "context deadline exceeded".to_owned())??;
        let (mut sender, connection) = http1::handshake(TokioIo::new(wire))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to an aggregated server ended");
            }
        });
        let (request, upgrade) = onward(remote, user, parts, body).map_err(|error| error.to_string())?;
        let answer = tokio::time::timeout(ANSWER_LIMIT, sender.send_request(request)).await;
        let answer = answer.map_err(|_| "context deadline exceeded".to_owned())?;
        Ok::<_, String>((answer.map_err(|error| error.to_string())?, upgrade))
    };
    match asked.await {
        Ok((answer, upgrade)) => Ok(finish(answer, upgrade)),
        Err(why) => {
            tracing::warn!(
                apiservice = remote.name,
                why,
                "an aggregated server did not answer"
            );
            let text = format!("error trying to reach service: {why}\n");
            Ok(respond::text(StatusCode::SERVICE_UNAVAILABLE, text))
        }
    }
}

type Upgrade = Option<hyper::upgrade::OnUpgrade>;

fn onward(
    remote: &Remote,
    user: &User,
    mut parts: Parts,
    body: RequestBody,
) -> Result<(Request<RequestBody>, Upgrade), BoxError> {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::try_from(path)?;
    let mut headers = std::mem::take(&mut parts.headers);
    let protocol = headers.get(header::UPGRADE).cloned();
    for name in &OF_A_CONNECTION {
        headers.remove(name);
    }
    // Credentials were for us.
    headers.remove(header::AUTHORIZATION);
    let claimed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(PREFIX) || name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in claimed {
        headers.remove(name);
    }
    identify(&mut headers, user)?;
    headers.insert(header::HOST, HeaderValue::from_str(&remote.place.server_name())?);
    let mut upgrade = None;
    let method = parts.method.clone();
    if let Some(protocol) = protocol {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, protocol);
        upgrade = Some(hyper::upgrade::on(Request::from_parts(parts, ())));
    }
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok((request, upgrade))
}

/// Writes who asks into the headers.
fn identify(headers: &mut HeaderMap, user: &User) -> Result<(), BoxError> {
    let mut add = |name: &str, value: &str| -> Result<(), BoxError> {
        let name = HeaderName::from_bytes(name.as_bytes())?;
        headers.append(name, HeaderValue::from_bytes(value.as_bytes())?);
        Ok(())
    };
    add("x-remote-user", &user.name)?;
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid)?;
    }
    for group in &user.groups {
        add("x-remote-group", group)?;
    }
    for (key, values) in &user.extra {
        let name = format!("{EXTRA}{}", utf8_percent_encode(&key.to_lowercase(), KEPT));
        for value in values {
            add(&name, value)?;
        }
    }
    Ok(())
}

fn finish(mut response: Response<Incoming>, upgrade: Upgrade) -> Answer {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = upgrade
    {
        let server = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let (Ok(client), Ok(server)) = (client.await, server.await) {
                let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
                    tracing::debug!(%error, "an upgraded connection to an aggregated server ended");
                }
            }
        });
        return response.map(|_| Body::empty());
    }
    let (mut parts, body) = response.into_parts();
    for name in &OF_A_CONNECTION {
        parts.headers.remove(name);
    }
    let chunks = body.into_data_stream();
    let body = Body::stream(chunks.map_err(|error| Box::new(error) as BoxError));
    Response::from_parts(parts, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_written_as_aggregated_servers_read_them() {
        let mut user = User::new("jane", &["a", "b"]);
        user.uid = "u1".into();
        user.extra
            .insert("Example.com/Scopes".into(), vec!["x".into(), "y".into()]);
        let mut headers = HeaderMap::new();
        identify(&mut headers, &user).expect("readable");
        let all = |name: &str| -> Vec<&str> {
            headers
                .get_all(name)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .collect()
        };
        assert_eq!(all("x-remote-user"), ["jane"]);
        assert_eq!(all("x-remote-uid"), ["u1"]);
        assert_eq!(all("x-remote-group"), ["a", "b", "system:authenticated"]);
        assert_eq!(all("x-remote-extra-example.com%2fscopes"), ["x", "y"]);
    }
}
