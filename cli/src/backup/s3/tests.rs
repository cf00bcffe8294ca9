//! The bucket against a small S3 server of this process, which takes no request that is not signed as it should be.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use corten_store::backup;
use corten_store::{Config, Op, Store, Txn};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::Bucket;
use super::sign::{Credentials, Signed, headers, hex};
use crate::backup::place::Place;

const BUCKET: &str = "backups";
/// Objects of one page of a list.
const PAGE: usize = 2;

type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// Keys of parts on their way: not listed, as nobody sees them.
const PARTS: &str = "\0parts/";

trait Wire: Read + Write {}

impl<T: Read + Write> Wire for T {}

fn credentials() -> Credentials {
    Credentials {
        access_key: "key".into(),
        secret_key: "secret".into(),
        session_token: Some("token".into()),
    }
}

fn serve() -> (SocketAddr, Objects) {
    serve_over(|stream| Box::new(stream))
}

fn serve_over(wire: impl Fn(std::net::TcpStream) -> Box<dyn Wire> + Send + 'static) -> (SocketAddr, Objects) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("an address");
    let objects = Objects::default();
    let held = objects.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(wire(stream), address, &held);
        }
    });
    (address, objects)
}

/// One request and its answer.
fn answer(stream: Box<dyn Wire>, address: SocketAddr, objects: &Objects) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a request");
    let words: Vec<&str> = line.split(' ').collect();
    let (method, target) = (words[0].to_owned(), words[1].to_owned());
    let mut given = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).expect("a header");
        let Some((name, value)) = header.trim().split_once(": ") else {
            break;
        };
        given.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let header = |name: &str| given.get(name).cloned().unwrap_or_default();
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).expect("a body");
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8_lossy()
            .into_owned()
    };
    let path = decode(path);
    let query: Vec<(String, String)> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect();
    let pairs: Vec<(&str, &str)> = query.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let digest = hex(&Sha256::digest(&body));
    let signed = Signed {
        method: &method,
        host: &address.to_string(),
        path: &path,
        query: &pairs,
        payload: &digest,
    };
    let time = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", header("x-amz-date")).expect("a time");
    let time = time
        .to_datetime()
        .expect("whole")
        .to_zoned(jiff::tz::TimeZone::UTC);
    let now = time.expect("UTC has every time").timestamp();
    let expected = headers(&signed, &credentials(), "us-east-1", now);
    let proven = expected.iter().all(|(name, value)| header(name) == *value);
    let (code, said) = if proven {
        let mut objects = objects.lock();
        let key = path
            .strip_prefix(&format!("/{BUCKET}/"))
            .unwrap_or_default()
            .to_owned();
        let asked = |name: &str| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| *value)
        };
        match (method.as_str(), asked("uploadId")) {
            ("POST", None) if asked("uploads").is_some() => {
                let said = "<InitiateMultipartUploadResult><UploadId>u&amp;1</UploadId></InitiateMultipartUploadResult>";
                (200, said.into())
            }
            ("PUT", Some("u&1")) => {
                let number: u32 = asked("partNumber").expect("numbered").parse().expect("a number");
                objects.insert(format!("{PARTS}{number:05}"), body);
                (200, Vec::new())
            }
            ("POST", Some("u&1")) => {
                let list = String::from_utf8_lossy(&body).into_owned();
                let parts: Vec<_> = objects.extract_if(.., |key, _| key.starts_with(PARTS)).collect();
                let named = super::elements(&list, "ETag")
                    .filter(|tag| *tag == "\"tag\"")
                    .count();
                if named == parts.len() && !key.contains("refused") {
                    objects.insert(key, parts.into_iter().flat_map(|(_, part)| part).collect());
                    (200, Vec::new())
                } else {
                    objects.extend(parts);
                    (200, b"<Error><Code>InvalidPart</Code></Error>".to_vec())
                }
            }
            ("DELETE", Some("u&1")) => {
                objects.retain(|key, _| !key.starts_with(PARTS));
                (204, Vec::new())
            }
            ("PUT", _) => {
                objects.insert(key, body);
                (200, Vec::new())
            }
            ("DELETE", _) => {
                objects.remove(&key);
                (204, Vec::new())
            }
            _ if key.is_empty() => (200, list(&objects, asked("prefix"), asked("continuation-token"))),
            _ => match objects.get(&key) {
                Some(object) => {
                    let range = header("range");
                    let last = range
                        .strip_prefix("bytes=0-")
                        .and_then(|last| last.parse::<usize>().ok());
                    let end = last.map_or(object.len(), |last| object.len().min(last + 1));
                    (200, object[..end].to_vec())
                }
                None => (404, b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
            },
        }
    } else {
        let text = "<Error><Code>SignatureDoesNotMatch</Code><Message>not &amp; signed</Message></Error>";
        (403, text.as_bytes().to_vec())
    };
    let mut stream = reader.into_inner();
    let head = format!(
        "HTTP/1.1 {code} X\r\nContent-Length: {}\r\nETag: \"tag\"\r\nConnection: close\r\n\r\n",
        said.len()
    );
    // The client may have gone away.
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(&said));
}

fn list(objects: &BTreeMap<String, Vec<u8>>, prefix: Option<&str>, after: Option<&str>) -> Vec<u8> {
    let mut keys = objects
        .iter()
        .filter(|(key, _)| key.starts_with(prefix.unwrap_or_default()) && key.as_str() > after.unwrap_or(""));
    let page: Vec<_> = keys.by_ref().take(PAGE).collect();
    let more = keys.next().is_some();
    let items: String = page
        .iter()
        .map(|(key, object)| {
            format!(
                "<Contents><Key>{key}</Key><Size>{}</Size></Contents>",
                object.len()
            )
        })
        .collect();
    let next = page
        .last()
        .filter(|_| more)
        .map(|(key, _)| format!("<NextContinuationToken>{key}</NextContinuationToken>"))
        .unwrap_or_default();
    format!("<ListBucketResult>{items}{next}</ListBucketResult>").into_bytes()
}

fn bucket(address: SocketAddr, secret: &str) -> Bucket {
    let vars = [
        ("AWS_ACCESS_KEY_ID", "key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
        ("AWS_SESSION_TOKEN", "token".to_owned()),
        ("AWS_ENDPOINT_URL_S3", format!("http://{address}")),
    ];
    let env = move |name: &str| {
        vars.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.clone())
    };
    Bucket::parse("s3://backups/one cluster/", env).expect("a bucket")
}

#[tokio::test]
async fn backups_are_kept_in_a_bucket() {
    let (address, objects) = serve();
    objects.lock().insert("another/thing".into(), vec![1]);
    let place = Place::Bucket(Box::new(bucket(address, "secret")));
    assert!(place.list().await.expect("listed").is_empty());

    let store = Store::open(Config::in_memory()).await.expect("open");
    for n in 0..3 {
        let op = Op::Put {
            key: format!("/k/{n}").into(),
            value: vec![n; 400_000].into(),
        };
        store.txn(Txn::new(vec![], vec![op])).await.expect("written");
    }
    for taken_at in 100..105 {
        let mut partial = place.begin().expect("begun");
        for chunk in backup::chunks(store.identity(), &store.snapshot(), taken_at) {
            partial.write(&chunk).expect("written");
        }
        let (at, about) = place.keep(partial).await.expect("kept");
        assert!(at.starts_with("s3://backups/one cluster/19700101T0001"), "{at}");
        assert_eq!(about.keys, 3);
    }
    assert_eq!(place.thin_out(3).await.expect("thinned"), 2);
    let kept = place.list().await.expect("listed");
    assert_eq!(kept.len(), 3);
    for (kept, taken_at) in kept.iter().zip(102..) {
        assert_eq!(place.about(kept).await.expect("said").taken_at, taken_at);
        assert_eq!(place.verify(kept).await.expect("whole").keys, 3);
    }
    assert_eq!(objects.lock().len(), 4, "what is not ours is not touched");

    // One byte of an object.
    let name = format!("one cluster/{}", kept[0].name);
    objects.lock().get_mut(&name).expect("it is there")[700_000] ^= 1;
    let error = place.verify(&kept[0]).await.expect_err("damaged");
    assert!(format!("{error:#}").contains("wrong checksum"), "{error:#}");
    store.close().await;
}

#[tokio::test]
async fn what_the_store_refuses_is_told() {
    let (address, _) = serve();
    let error = bucket(address, "guessed").list().await.expect_err("refused");
    let text = format!("{error:#}");
    assert!(text.ends_with("403 SignatureDoesNotMatch not & signed"), "{text}");
    let missing = bucket(address, "secret").get("none", None, &mut Vec::new()).await;
    let text = format!("{:#}", missing.expect_err("not there"));
    assert!(text.contains("404 NoSuchKey"), "{text}");
}

#[tokio::test]
async fn what_is_large_goes_in_parts_and_leaves_none_behind() {
    let (address, objects) = serve();
    let bucket = Bucket {
        part_bytes: 300_000,
        ..bucket(address, "secret")
    };
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("large");
    let content: Vec<u8> = (0..1_000_001u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(&file, &content).expect("written");
    bucket.put("large", &file).await.expect("put");
    assert!(
        objects.lock().get("one cluster/large") == Some(&content),
        "put together in order"
    );
    let error = bucket
        .put("refused", &file)
        .await
        .expect_err("after a good status");
    assert!(format!("{error:#}").contains("InvalidPart"), "{error:#}");
    let left: Vec<String> = objects.lock().keys().cloned().collect();
    assert_eq!(left, ["one cluster/large"]);
}

#[tokio::test]
async fn a_bucket_is_reached_over_tls_by_whom_its_authority_is_named() {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .expect("fits");
    let config = Arc::new(config);
    let (address, objects) = serve_over(move |stream| {
        let connection = rustls::ServerConnection::new(config.clone()).expect("a connection");
        Box::new(rustls::StreamOwned::new(connection, stream))
    });
    let over_tls = |authorities| Bucket {
        tls: true,
        authorities,
        ..bucket(address, "secret")
    };
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("small");
    std::fs::write(&file, b"content").expect("written");
    let trusted = over_tls(Some(own.cert.pem().into_bytes()));
    trusted.put("small", &file).await.expect("put");
    assert_eq!(objects.lock()["one cluster/small"], b"content");
    let mut read = Vec::new();
    trusted.get("small", None, &mut read).await.expect("got");
    assert_eq!(read, b"content");
}
