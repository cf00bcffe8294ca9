//! Answers: from bytes, streams and `Status` to HTTP responses.
//!
//! Knows headers and encodings. Must not know where the bytes come from.

use bytes::Bytes;
use corten_api::schema::proto;
use corten_api::status::Status;
use futures::{StreamExt, TryStreamExt};
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER, VARY, WARNING,
};
use http::{Response, StatusCode};

use crate::body::{Body, BoxError};
use crate::negotiate::{self, Media};
use crate::pretty::Pretty;

pub type Answer = Response<Body>;

/// Answers smaller than this are never compressed. Source: kube-apiserver, 128 KiB.
pub const GZIP_FROM_BYTES: usize = 128 * 1024;
/// Characters of all warnings of one answer, and of each once they are too many.
const MAX_WARNING_CHARS: usize = 4096;
const CUT_WARNING_CHARS: usize = 256;

/// JSON bytes as the answer.
#[must_use]
pub fn json(code: StatusCode, bytes: impl Into<Bytes>) -> Answer {
    with_type(code, "application/json", Body::from(bytes))
}

#[must_use]
pub fn with_type(code: StatusCode, content_type: &'static str, body: Body) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

#[must_use]
pub fn text(code: StatusCode, text: impl Into<String>) -> Answer {
    with_type(code, "text/plain; charset=utf-8", Body::from(text.into()))
}

/// What upstream's mux answers for a path it does not know.
#[must_use]
pub fn page_not_found() -> Answer {
    let mut response = text(StatusCode::NOT_FOUND, "404 page not found\n");
    response
        .headers_mut()
        .insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

#[must_use]
pub fn status(status: &Status) -> Answer {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(code, status.to_bytes());
    if let Some(seconds) = status.retry_after_seconds() {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Adds `Warning: 299 - "TEXT"` headers, each text once. Too many are cut down to their beginnings, and then left out.
/// Source: Kubernetes KEP 1693 and `endpoints/filters/warning.go`.
pub fn warn(response: &mut Answer, warnings: &[String]) {
    let count = |text: &str| text.chars().count();
    let mut texts: Vec<String> = Vec::new();
    let add = |texts: &mut Vec<String>, text: String| {
        if !text.is_empty() && !texts.contains(&text) {
            texts.push(text);
        }
    };
    for warning in warnings {
        add(&mut texts, warning.clone());
    }
    if texts.iter().map(|text| count(text)).sum::<usize>() > MAX_WARNING_CHARS {
        let whole = std::mem::take(&mut texts);
        for text in whole {
            add(&mut texts, text.chars().take(CUT_WARNING_CHARS).collect());
        }
    }
    let mut total = 0;
    for text in texts {
        total += count(&text);
        if total > MAX_WARNING_CHARS {
            break;
        }
        let quoted: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c]))
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

/// A `Status` in the media type the client asks for; JSON when it accepts none of ours.
#[must_use]
pub fn status_for(refusal: &Status, accept: Option<&str>) -> Answer {
    let media = negotiate::accept_plain(accept).unwrap_or(Media::Json);
    let answer = status(refusal);
    match answer.body().as_bytes().map(|json| rewritten(json, media)) {
        Some(Ok(bytes)) => with_media(answer, media, bytes),
        _ => answer,
    }
}

/// A JSON answer that has one form only, in the media type the client asks for.
///
/// # Errors
/// `NotAcceptable`.
pub async fn negotiated(answer: Answer, accept: Option<&str>) -> Result<Answer, Status> {
    if answer
        .headers()
        .get(CONTENT_TYPE)
        .is_none_or(|t| t != "application/json")
    {
        return Ok(answer);
    }
    let media =
        negotiate::accept_plain(accept).map_err(|_| Status::not_acceptable(&negotiate::MEDIA_TYPES))?;
    as_media(answer, media).await.map_err(Status::internal)
}

/// Rewrites a JSON answer in another media type. The whole answer is held once, as a document needs to be; lists in
/// protobuf are made where they are read and pass unchanged.
///
/// # Errors
/// The stream the body came from broke, or an object has no such form.
pub async fn as_media(answer: Answer, media: Media) -> Result<Answer, BoxError> {
    if media == Media::Json
        || answer
            .headers()
            .get(CONTENT_TYPE)
            .is_none_or(|t| t != "application/json")
    {
        return Ok(answer);
    }
    let (parts, body) = answer.into_parts();
    let json = body
        .into_stream()
        .try_fold(Vec::new(), |mut all, chunk| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        });
    let bytes = rewritten(&json.await?, media)?;
    Ok(with_media(
        Response::from_parts(parts, Body::empty()),
        media,
        bytes,
    ))
}

fn with_media(answer: Answer, media: Media, bytes: Bytes) -> Answer {
    let mut answer = answer.map(|_| Body::from(bytes));
    let content_type = HeaderValue::from_static(media.content_type());
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// A JSON document in another media type.
///
/// # Errors
/// It has no such form.
pub fn rewritten(json: &[u8], media: Media) -> Result<Bytes, BoxError> {
    Ok(match media {
        Media::Json => Bytes::copy_from_slice(json),
        Media::Yaml => {
            let value: serde_json::Value = serde_json::from_slice(json)?;
            serde_saphyr::to_string(&value)?.into()
        }
        Media::Protobuf => proto::from_json(json)?.into(),
    })
}

/// The answer, which keeps `held` until its body is sent or given up. A body that is there already needs nothing more.
#[must_use]
pub fn holding(response: Answer, held: impl Send + 'static) -> Answer {
    if response.body().as_bytes().is_some() {
        return response;
    }
    response.map(|body| {
        Body::stream(body.into_stream().map(move |chunk| {
            let _held = &held;
            chunk
        }))
    })
}

/// Puts line breaks into a JSON answer, as its chunks pass.
#[must_use]
pub fn pretty(response: Answer) -> Answer {
    if response
        .headers()
        .get(CONTENT_TYPE)
        .is_none_or(|t| t != "application/json")
    {
        return response;
    }
    let mut pretty = Pretty::default();
    without_length(response).map(|body| match body.as_bytes() {
        Some(bytes) => Body::from(pretty.push(bytes)),
        None => Body::stream(
            body.into_stream()
                .map(move |chunk| chunk.map(|bytes| Bytes::from(pretty.push(&bytes)))),
        ),
    })
}

/// What an aggregated server has said about the length of its answer holds no more once the answer is written differently.
fn without_length(mut response: Answer) -> Answer {
    response.headers_mut().remove(CONTENT_LENGTH);
    response
}

/// Compresses bodies of at least [`GZIP_FROM_BYTES`] and streamed lists. Watches must never come here: each of their
/// events has to leave at once.
#[must_use]
pub fn gzip(response: Answer) -> Answer {
    if response
        .body()
        .as_bytes()
        .is_some_and(|bytes| bytes.len() < GZIP_FROM_BYTES)
    {
        return response;
    }
    let (mut parts, body) = without_length(response).into_parts();
    parts
        .headers
        .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts
        .headers
        .append(VARY, HeaderValue::from_static("Accept-Encoding"));
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let chunks = body.into_stream().map(Some).chain(futures::stream::iter([None]));
    let compressed = chunks.scan(Some(encoder), |encoder, chunk| {
        futures::future::ready(encoder.take().map(|mut gz| -> Result<Bytes, BoxError> {
            use std::io::Write;
            match chunk {
                Some(chunk) => {
                    gz.write_all(&chunk?)?;
                    let out = std::mem::take(gz.get_mut());
                    *encoder = Some(gz);
                    Ok(out.into())
                }
                None => Ok(gz.finish()?.into()),
            }
        }))
    });
    let non_empty =
        compressed.filter(|chunk| futures::future::ready(!matches!(chunk, Ok(bytes) if bytes.is_empty())));
    Response::from_parts(parts, Body::stream(non_empty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_differently_has_another_length() {
        let proxied = || {
            let body = Body::stream(futures::stream::iter([Ok(Bytes::from_static(b"{}"))]));
            let mut answer = with_type(StatusCode::OK, "application/json", body);
            answer
                .headers_mut()
                .insert(CONTENT_LENGTH, HeaderValue::from_static("2"));
            answer
        };
        for answer in [gzip(proxied()), pretty(proxied())] {
            assert_eq!(answer.headers().get(CONTENT_LENGTH), None);
        }
    }
}
