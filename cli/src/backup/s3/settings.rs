//! Where a bucket is and who may use it: `s3://BUCKET/PREFIX`, and what the AWS tools read from the environment.

use anyhow::{Context, Result, bail, ensure};

use super::sign::Credentials;

const SCHEME: &str = "s3://";
const DEFAULT_REGION: &str = "us-east-1";
/// As the AWS tools find it below the home folder.
const CREDENTIALS_FILE: &str = ".aws/credentials";

/// One bucket, and what is kept below a prefix of it.
#[derive(Clone)]
pub struct Bucket {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// As the `Host` header names it.
    pub(super) authority: String,
    pub(super) bucket: String,
    /// Empty, or ending in `/`.
    pub(super) prefix: String,
    /// The bucket is named in the path, not in the host.
    pub(super) path_style: bool,
    pub(super) region: String,
    pub(super) credentials: Credentials,
    /// In PEM, instead of those that the host trusts.
    pub(super) authorities: Option<Vec<u8>>,
    /// What is larger goes in parts.
    pub(super) part_bytes: u64,
}

impl std::fmt::Display for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.bucket, self.prefix)
    }
}

impl Bucket {
    /// Whether a place is named as a bucket.
    pub fn is_meant(place: &str) -> bool {
        place.starts_with(SCHEME)
    }

    /// Reads a place that [`Bucket::is_meant`]. `env` gives what the AWS tools read as well: `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, or a credentials file (`AWS_SHARED_CREDENTIALS_FILE`,
    /// `AWS_PROFILE`); `AWS_REGION`; `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL` for a store that is not Amazon's; and
    /// `AWS_CA_BUNDLE`, a file of authorities for one that the host does not trust.
    ///
    /// # Errors
    /// In words for the user.
    pub fn parse(place: &str, env: impl Fn(&str) -> Option<String>) -> Result<Bucket> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let path = place
            .strip_prefix(SCHEME)
            .context("a bucket is s3://BUCKET/PREFIX")?;
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        ensure!(
            (3..=63).contains(&bucket.len()) && bucket.bytes().all(valid),
            "{bucket:?} is no name of a bucket"
        );
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() {
            String::new()
        } else {
            format!("{prefix}/")
        };
        let region = env("AWS_REGION").or_else(|| env("AWS_DEFAULT_REGION"));
        let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
        let given = env("AWS_ENDPOINT_URL_S3").or_else(|| env("AWS_ENDPOINT_URL"));
        let path_style = given.is_some();
        let endpoint = given.unwrap_or_else(|| format!("https://{bucket}.s3.{region}.amazonaws.com"));
        let uri: http::Uri = endpoint.parse().with_context(|| format!("endpoint {endpoint}"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => bail!("endpoint {endpoint} is no http:// or https:// URL"),
        };
        ensure!(matches!(uri.path(), "" | "/"), "endpoint {endpoint} has a path");
        let authority = uri.authority().context("the endpoint names no host")?;
        let authorities = env("AWS_CA_BUNDLE").map(|path| {
            std::fs::read(&path).with_context(|| format!("read {path}, which AWS_CA_BUNDLE names"))
        });
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Bucket {
            tls,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            bucket: bucket.to_owned(),
            prefix,
            path_style,
            region,
            credentials: credentials(env)?,
            authorities: authorities.transpose()?,
            part_bytes: super::upload::PART_BYTES,
        })
    }
}

fn credentials(env: impl Fn(&str) -> Option<String>) -> Result<Credentials> {
    if let (Some(access_key), Some(secret_key)) = (env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY")) {
        return Ok(Credentials {
            access_key,
            secret_key,
            session_token: env("AWS_SESSION_TOKEN"),
        });
    }
    let path = match env("AWS_SHARED_CREDENTIALS_FILE") {
        Some(path) => path.into(),
        None => std::path::PathBuf::from(env("HOME").unwrap_or_default()).join(CREDENTIALS_FILE),
    };
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "read {}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SHARED_CREDENTIALS_FILE",
            path.display()
        )
    })?;
    let profile = env("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    from_file(&text, &profile).with_context(|| format!("{} has no keys of profile {profile}", path.display()))
}

/// The keys of one profile of a credentials file.
fn from_file(text: &str, profile: &str) -> Option<Credentials> {
    let mut inside = false;
    let (mut access_key, mut secret_key, mut session_token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = name.trim() == profile;
        }
        let Some((name, value)) = line.split_once('=').filter(|_| inside) else {
            continue;
        };
        let value = Some(value.trim().to_owned());
        match name.trim() {
            "aws_access_key_id" => access_key = value,
            "aws_secret_access_key" => secret_key = value,
            "aws_session_token" => session_token = value,
            _ => (),
        }
    }
    Some(Credentials {
        access_key: access_key?,
        secret_key: secret_key?,
        session_token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(place: &str, vars: &[(&str, &str)]) -> Result<Bucket> {
        let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Bucket::parse(place, move |name| {
            vars.iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
        })
    }

    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "s")];

    #[track_caller]
    fn check(place: &str, more: &[(&str, &str)], expected: &str) {
        let vars = [&KEYS, more].concat();
        let found = match parse(place, &vars) {
            Ok(found) => format!(
                "{} {}:{} {} {}{} {}",
                found.tls,
                found.host,
                found.port,
                found.authority,
                found.bucket,
                found.path_style,
                found.prefix
            ),
            Err(error) => format!("{error:#}"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_bucket_is_found_where_the_aws_tools_find_it() {
        check(
            "s3://backups/prod",
            &[("AWS_REGION", "eu-west-1")],
            "true backups.s3.eu-west-1.amazonaws.com:443 backups.s3.eu-west-1.amazonaws.com backupsfalse prod/",
        );
        check(
            "s3://backups",
            &[("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000")],
            "false 127.0.0.1:9000 127.0.0.1:9000 backupstrue ",
        );
        check(
            "s3://backups/a//",
            &[("AWS_ENDPOINT_URL", "https://minio.example")],
            "true minio.example:443 minio.example backupstrue a/",
        );
        check("s3://B/x", &[], "\"B\" is no name of a bucket");
        check(
            "s3://backups",
            &[("AWS_ENDPOINT_URL", "minio:9000")],
            "endpoint minio:9000 is no http:// or https:// URL",
        );
    }

    #[test]
    fn keys_may_stand_in_a_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("credentials");
        let text =
            "[other]\naws_access_key_id = x\n[default]\naws_access_key_id = a\naws_secret_access_key=b=c\n";
        std::fs::write(&path, text).expect("write");
        let file = ("AWS_SHARED_CREDENTIALS_FILE", path.to_str().expect("UTF-8"));
        let found = parse("s3://backups", &[file]).expect("found").credentials;
        assert_eq!(
            (found.access_key.as_str(), found.secret_key.as_str()),
            ("a", "b=c")
        );
        let missing = parse("s3://backups", &[file, ("AWS_PROFILE", "other")]);
        assert!(missing.is_err_and(|error| format!("{error:#}").contains("profile other")));
    }
}
