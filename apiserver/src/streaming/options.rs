//! What a request's query asks for: PodLogOptions, PodExecOptions, PodAttachOptions. Pure.

use corten_api::Status;
use corten_api::field::FieldErrors;
use corten_api::status::Qualified;
use corten_proto::tunnel::{Attach, Exec, Logs, Streams, Target};
use percent_encoding::percent_decode_str;

/// All values of the query, in order, decoded. `+` is a space.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: &str) -> Result<Query, Status> {
        let decode = |text: &str| {
            let text = text.replace('+', " ");
            let decoded = percent_decode_str(&text).decode_utf8().map(|t| t.into_owned());
            decoded.map_err(|_| Status::bad_request("the query is not UTF-8"))
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        Ok(Query(pairs.collect::<Result<_, Status>>()?))
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// The first value; an empty one counts as none.
    fn one<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next().filter(|v| !v.is_empty())
    }

    /// As the API machinery converts a query: everything but `false` and `0` is true.
    fn flag(&self, name: &str) -> bool {
        self.all(name)
            .next()
            .is_some_and(|v| !matches!(v.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        let parse = |text: &str| {
            let invalid = |e| Status::bad_request(format!("strconv.ParseInt: parsing \"{text}\": {e}"));
            text.parse::<i64>().map_err(|_| invalid("invalid syntax"))
        };
        self.one(name).map(parse).transpose()
    }
}

/// Source of the rules: Kubernetes `ValidatePodLogOptions`.
pub fn logs(query: &str, target: Target) -> Result<Logs, Status> {
    let query = Query::parse(query)?;
    let tail_lines = query.number("tailLines")?;
    let limit_bytes = query.number("limitBytes")?;
    let since_seconds = query.number("sinceSeconds")?;
    let since_time = query.one("sinceTime");
    let stream = query.one("stream").unwrap_or("All");
    let mut errors = FieldErrors::default();
    if let Some(lines) = tail_lines.filter(|n| *n < 0) {
        errors.invalid("tailLines", lines, "must be greater than or equal to 0");
    }
    if let Some(bytes) = limit_bytes.filter(|n| *n < 1) {
        errors.invalid("limitBytes", bytes, "must be greater than 0");
    }
    match (since_seconds, since_time) {
        (Some(_), Some(_)) => {
            errors.forbidden(
                "",
                "at most one of `sinceTime` or `sinceSeconds` may be specified",
            );
        }
        (Some(seconds), None) if seconds < 1 => {
            errors.invalid("sinceSeconds", seconds, "must be greater than 0");
        }
        (None, Some(time)) if time.parse::<jiff::Timestamp>().is_err() => {
            return Err(Status::bad_request(format!(
                "parsing time \"{time}\": it is not RFC 3339"
            )));
        }
        _ => {}
    }
    if !matches!(stream, "All" | "Stdout" | "Stderr") {
        errors.not_supported("stream", stream, &["All", "Stderr", "Stdout"]);
    } else if stream != "All" && tail_lines.is_some() {
        errors.forbidden(
            "",
            "`tailLines` and specific `stream` are mutually exclusive for now",
        );
    }
    if !errors.is_empty() {
        return Err(Status::invalid(
            Qualified::new("", "PodLogOptions"),
            &target.pod,
            &errors,
        ));
    }
    Ok(Logs {
        target,
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        since_seconds,
        since_time: since_time.map(str::to_string),
        timestamps: query.flag("timestamps"),
        tail_lines: tail_lines.and_then(|n| u64::try_from(n).ok()),
        limit_bytes: limit_bytes.and_then(|n| u64::try_from(n).ok()),
        stream: stream.to_string(),
    })
}

pub fn exec(query: &str, target: Target) -> Result<Exec, Status> {
    let query = Query::parse(query)?;
    let command: Vec<String> = query.all("command").map(str::to_string).collect();
    if command.is_empty() {
        return Err(Status::bad_request("you must specify at least 1 command"));
    }
    Ok(Exec {
        target,
        command,
        streams: streams(&query)?,
    })
}

pub fn attach(query: &str, target: Target) -> Result<Attach, Status> {
    Ok(Attach {
        target,
        streams: streams(&Query::parse(query)?)?,
    })
}

/// Source: the kubelet's remotecommand options, which drop stderr on a terminal.
fn streams(query: &Query) -> Result<Streams, Status> {
    let tty = query.flag("tty");
    let streams = Streams {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr") && !tty,
        tty,
    };
    if !streams.stdin && !streams.stdout && !streams.stderr {
        return Err(Status::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    Ok(streams)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: &str) {
        let told = match logs(
            query,
            Target {
                pod: "p".into(),
                ..Target::default()
            },
        ) {
            Ok(logs) => format!(
                "{:?} {:?} {} {}",
                logs.tail_lines, logs.since_seconds, logs.follow, logs.stream
            ),
            Err(status) => format!("{} {}", status.code, status.message),
        };
        assert!(told.starts_with(expected), "{told}");
    }

    #[test]
    fn log_options() {
        check("", "None None false All");
        check(
            "follow=true&tailLines=0&sinceSeconds=5",
            "Some(0) Some(5) true All",
        );
        check("follow=false&timestamps", "None None false All");
        check(
            "tailLines=-1",
            "422 PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater",
        );
        check(
            "limitBytes=0",
            "422 PodLogOptions \"p\" is invalid: limitBytes: Invalid value: 0: must be greater",
        );
        check("sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", "422 ");
        check(
            "tailLines=x",
            "400 strconv.ParseInt: parsing \"x\": invalid syntax",
        );
        check(
            "stream=Both",
            "422 PodLogOptions \"p\" is invalid: stream: Unsupported value: \"Both\"",
        );
    }

    #[test]
    fn exec_options() {
        let exec = |query| exec(query, Target::default());
        let given =
            exec("command=sh&command=-c&command=a%20b+c&stdin=true&stdout=1&tty=true&stderr=true").unwrap();
        assert_eq!(given.command, ["sh", "-c", "a b c"]);
        assert_eq!(
            given.streams,
            Streams {
                stdin: true,
                stdout: true,
                stderr: false,
                tty: true
            }
        );
        assert_eq!(
            exec("command=a").unwrap_err().message,
            "you must specify at least 1 of stdin, stdout, stderr"
        );
        assert_eq!(exec("stdin=true").unwrap_err().code, 400);
        assert_eq!(exec("command=%ff&stdin=true").unwrap_err().code, 400);
    }
}
