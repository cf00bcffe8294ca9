//! The bucket against a small S3 server of this process, which takes no request that is not signed as it should be.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
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

fn credentials() -> Credentials {
    Credentials {
        access_key: "key".into(),
        secret_key: "secret".into(),
        session_token: Some("token".into()),
    }
}

fn serve() -> (SocketAddr, Objects) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("an address");
    let objects = Objects::default();
    let held = objects.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, address, &held);
        }
    });
    (address, objects)
}

/// One request and its answer.
fn answer(stream: TcpStream, address: SocketAddr, objects: &Objects) {
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
        match method.as_str() {
            "PUT" => {
                objects.insert(key, body);
                (200, Vec::new())
            }
            "DELETE" => {
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
        "HTTP/1.1 {code} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
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
