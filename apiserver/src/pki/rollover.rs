//! New authorities beside the old ones, and a new key for tokens beside the old one: both are believed until the old is dropped.
//!
//! The old authority also signs the new one's key. Who trusts only the old certificate believes what the new one has
//! signed, by that certificate, which is sent along: so no client has to be told before. The old authority's key is destroyed
//! at once. A new key for tokens is shown to others a while before it signs.
//!
//! Decides on the contents of files, by name; the same on every server of a cluster. Must not know how they get there.
//!
//! Three authorities are replaced together: the cluster's (`ca`), that of the store's members (`peer-ca`) and the front proxy's
//! (`front-proxy-ca`). `ca.crt` and `ca.key` are the newest one, `ca-old.crt` is the one before, `ca-cross.crt` its word for
//! the newest.
//! `sa.key` signs until `sa-next-SECONDS.key` does, from that time on; `sa-old-SECONDS.pub` is believed and signs nothing.

use std::collections::BTreeMap;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::{AccountKey, BACKDATE, Ca, PkiError, certificates, files, front_proxy, name, peers, shared};

/// Contents by the names of files below `pki/`.
pub type Files = BTreeMap<String, String>;

/// One kind of authority.
struct Family {
    /// How its files begin.
    file: &'static str,
    /// How the names of its authorities begin.
    common_name: &'static str,
}

/// The first is there on every server.
const FAMILIES: [Family; 3] = [
    Family {
        file: "ca",
        common_name: "corten-ca",
    },
    Family {
        file: peers::CA_FILES,
        common_name: peers::CA_NAME,
    },
    Family {
        file: front_proxy::CA_FILES,
        common_name: front_proxy::CA_NAME,
    },
];

impl Family {
    fn peers() -> &'static Family {
        let [_, peers, _] = &FAMILIES;
        peers
    }

    fn certificate(&self) -> String {
        format!("{}.crt", self.file)
    }

    fn key(&self) -> String {
        format!("{}.key", self.file)
    }

    fn old(&self) -> String {
        format!("{}-old.crt", self.file)
    }

    fn cross(&self) -> String {
        format!("{}-cross.crt", self.file)
    }

    fn files(&self) -> [String; 4] {
        [self.certificate(), self.key(), self.old(), self.cross()]
    }
}

/// What the record of all this is sealed with in the store, once the peers' authority was replaced; see [`secrets`].
const SECRET: &str = "authorities.key";
const NEXT_PREFIX: &str = "sa-next-";
const NEXT_SUFFIX: &str = ".key";
const FORMER_PREFIX: &str = "sa-old-";
const FORMER_SUFFIX: &str = ".pub";
/// Most keys of before that are believed.
const MAX_FORMER: usize = 16;
/// What is being written, whole: after a crash it is written again.
const REDO: &str = "rollover.json";

#[derive(Debug, thiserror::Error)]
pub enum RolloverError {
    #[error("this server has no authority")]
    None,
    #[error("the certificate authority before this one is still trusted: finish that first")]
    Unfinished,
    #[error("only one certificate authority is trusted: there is nothing to finish")]
    Finished,
    #[error("the newest key signs only from {from}: until then there is nothing to do")]
    NotYet { from: OffsetDateTime },
    #[error("only one key for tokens is trusted: there is nothing to finish")]
    OneKey,
    #[error("{MAX_FORMER} former keys are trusted already: finish first")]
    TooManyKeys,
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// What is trusted and shown beside the newest certificate.
#[derive(Clone, Default)]
pub(super) struct Older {
    /// PEM; empty outside of a rollover.
    pub trusted: String,
    /// PEM of the certificate that leads from the newest authority to the one before.
    pub cross: String,
}

/// Whether a file is one of those that are rolled over.
fn is_rolled(name: &str) -> bool {
    FAMILIES
        .iter()
        .any(|family| family.files().iter().any(|own| own == name))
        || name == SECRET
        || name == AccountKey::FILE
        || is_next(name)
        || is_former(name)
}

fn is_next(name: &str) -> bool {
    starts_at(name).is_some()
}

/// When a key that waits begins to sign, in seconds since 1970.
fn starts_at(name: &str) -> Option<i64> {
    name.strip_prefix(NEXT_PREFIX)?
        .strip_suffix(NEXT_SUFFIX)?
        .parse()
        .ok()
}

fn is_former(name: &str) -> bool {
    name.starts_with(FORMER_PREFIX) && name.ends_with(FORMER_SUFFIX)
}

/// What the record of the files is sealed with, then what it may have been sealed with before. All servers have it, and no
/// rollover changes it: it comes from the key of the first authority of the peers, which it does not tell, and is kept in a
/// file of its own once that key is gone.
///
/// # Errors
/// What the file system reports; without any of these files there is no secret.
pub fn secrets(dir: &Path) -> Result<Vec<Vec<u8>>, PkiError> {
    if let Some(kept) = files::read_text(&dir.join(SECRET))? {
        return Ok(vec![kept.into_bytes()]);
    }
    let path = dir.join(format!("{}.key", peers::CA_FILES));
    let Some(key) = files::read_text(&path)? else {
        return Err(PkiError::Unusable {
            path,
            reason: "there is no such file".into(),
        });
    };
    Ok(vec![derived(&key).into_bytes(), key.into_bytes()])
}

fn derived(key: &str) -> String {
    let digest = Sha256::digest(format!("corten authorities\0{key}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is in force below `dir`.
///
/// # Errors
/// What the file system reports.
pub fn read(dir: &Path) -> Result<Files, PkiError> {
    let mut found = shared(dir)?;
    found.retain(|name, _| is_rolled(name));
    Ok(found)
}

/// Makes the files below `dir` those of `wanted`, whatever happens in between; an authority of which `wanted` has no
/// certificate stays as it is. Returns whether anything had to change.
///
/// # Errors
/// What the file system reports, and a name that is none of ours.
pub fn write(dir: &Path, wanted: &Files) -> Result<bool, PkiError> {
    let unusable = |reason: &str| PkiError::Unusable {
        path: dir.join(REDO),
        reason: reason.to_owned(),
    };
    if let Some(name) = wanted.keys().find(|name| !is_rolled(name)) {
        return Err(unusable(&format!("{name} is no file of a rollover")));
    }
    let [cluster, ..] = &FAMILIES;
    if !wanted.contains_key(&cluster.certificate()) || !wanted.contains_key(&cluster.key()) {
        return Err(unusable("it has no authority"));
    }
    write_whole(dir, wanted)
}

/// Of `files`, what a member needs that serves nobody but members.
#[must_use]
pub fn of_peers(files: &Files) -> Files {
    let own = Family::peers().files();
    let own = files.iter().filter(|(name, _)| own.contains(name));
    own.map(|(name, content)| (name.clone(), content.clone()))
        .collect()
}

/// [`write`] for such a member: `wanted` is what [`of_peers`] gave.
///
/// # Errors
/// What the file system reports; files without a usable authority of the peers, and any other file.
pub fn write_peers(dir: &Path, wanted: &Files) -> Result<bool, PkiError> {
    let family = Family::peers();
    let unusable = |reason: &str| PkiError::Unusable {
        path: dir.join(family.certificate()),
        reason: reason.to_owned(),
    };
    if of_peers(wanted) != *wanted {
        return Err(unusable(
            "it comes with files that are not of the peers' authority",
        ));
    }
    let authority =
        authority(wanted, family).ok_or_else(|| unusable("there is no authority in what was handed over"))?;
    authority.issuer()?;
    for pem in wanted.iter().filter(|(name, _)| name.ends_with(".crt")) {
        certificates(pem.1)?;
    }
    write_whole(dir, wanted)
}

fn write_whole(dir: &Path, wanted: &Files) -> Result<bool, PkiError> {
    let (found, mut wanted) = (read(dir)?, wanted.clone());
    for family in FAMILIES
        .iter()
        .filter(|family| !wanted.contains_key(&family.certificate()))
        .collect::<Vec<_>>()
    {
        let own = found.iter().filter(|(name, _)| family.files().contains(name));
        wanted.extend(own.map(|(name, content)| (name.clone(), content.clone())));
    }
    if found == wanted {
        return Ok(false);
    }
    let text = serde_json::to_vec(&wanted).map_err(|error| PkiError::Unusable {
        path: dir.join(REDO),
        reason: error.to_string(),
    })?;
    files::write_private(&dir.join(REDO), &text)?;
    recover(dir)?;
    Ok(true)
}

/// Brings what a crash has cut off to its end.
///
/// # Errors
/// What the file system reports.
pub fn recover(dir: &Path) -> Result<(), PkiError> {
    let redo = dir.join(REDO);
    let Some(text) = files::read_text(&redo)? else {
        return Ok(());
    };
    let wanted: Files = serde_json::from_str(&text).map_err(|error| PkiError::Unusable {
        path: redo.clone(),
        reason: error.to_string(),
    })?;
    for (name, content) in &wanted {
        let path = dir.join(name);
        if name.ends_with(".crt") || name.ends_with(FORMER_SUFFIX) {
            files::write_public(&path, content.as_bytes())?;
        } else {
            files::write_private(&path, content.as_bytes())?;
        }
    }
    for name in read(dir)?.keys().filter(|name| !wanted.contains_key(*name)) {
        files::remove(&dir.join(name))?;
    }
    files::remove(&redo)
}

/// Of the authority whose files begin with `file`.
pub(super) fn older(dir: &Path, file: &str) -> Result<Older, PkiError> {
    let read = |what: &str| files::read_text(&dir.join(format!("{file}-{what}.crt")));
    Ok(Older {
        trusted: read("old")?.unwrap_or_default(),
        cross: read("cross")?.unwrap_or_default(),
    })
}

fn authority(files: &Files, family: &Family) -> Option<Ca> {
    Some(Ca {
        cert_pem: files.get(&family.certificate())?.clone(),
        key_pem: files.get(&family.key())?.clone(),
        older: Older::default(),
    })
}

/// New authorities that sign from now on, beside the old ones.
///
/// # Errors
/// See [`RolloverError`].
pub fn rotate_authority(current: &Files, now: OffsetDateTime) -> Result<Files, RolloverError> {
    if FAMILIES.iter().any(|family| current.contains_key(&family.old())) {
        return Err(RolloverError::Unfinished);
    }
    let mut files = current.clone();
    let peers_key = current.get(&format!("{}.key", peers::CA_FILES));
    if let Some(key) = peers_key.filter(|_| !current.contains_key(SECRET)) {
        files.insert(SECRET.into(), derived(key));
    }
    for (place, family) in FAMILIES.iter().enumerate() {
        let Some(old) = authority(current, family) else {
            match place {
                0 => return Err(RolloverError::None),
                _ => continue,
            }
        };
        // Another name: whose certificate is whose shows, and no chain is ambiguous.
        let common_name = format!("{}-{}", family.common_name, now.unix_timestamp());
        let new = Ca::generate_as(&common_name, now)?;
        let cross = cross(&old, &new, &common_name, now)?;
        for (name, content) in [
            (family.old(), old.cert_pem),
            (family.cross(), cross),
            (family.certificate(), new.cert_pem),
            (family.key(), new.key_pem),
        ] {
            files.insert(name, content);
        }
    }
    Ok(files)
}

/// The newest authorities alone.
///
/// # Errors
/// See [`RolloverError`].
pub fn finish_authority(current: &Files) -> Result<Files, RolloverError> {
    let mut files = current.clone();
    for family in &FAMILIES {
        files.remove(&family.old());
        files.remove(&family.cross());
    }
    match files == *current {
        true => Err(RolloverError::Finished),
        false => Ok(files),
    }
}

/// The old authority's word for the new one's key. It ends with the old one.
fn cross(old: &Ca, new: &Ca, common_name: &str, now: OffsetDateTime) -> Result<String, PkiError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = name(common_name, &[])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - BACKDATE;
    let der = certificates(&old.cert_pem)?;
    let end = der
        .first()
        .and_then(|der| x509_parser::parse_x509_certificate(der).ok())
        .map(|(_, old)| old.validity().not_after.to_datetime());
    params.not_after = end.unwrap_or(now);
    let key = KeyPair::from_pem(&new.key_pem)?;
    Ok(params.signed_by(&key, &old.issuer()?)?.pem())
}

/// The certificates that are trusted, PEM, the newest first: the cluster's, the peers' and the front proxy's.
#[must_use]
pub fn trusted(files: &Files) -> [String; 3] {
    FAMILIES.each_ref().map(|family| {
        let texts = [family.certificate(), family.old()];
        texts.iter().filter_map(|name| files.get(name).cloned()).collect()
    })
}

/// The keys for tokens in a set of files: the ones that sign, by when they begin, then the public parts of former ones.
pub(super) fn account_keys(files: &Files) -> (Vec<(i64, &str)>, Vec<&str>) {
    let own = files.get(AccountKey::FILE).map(|pem| (i64::MIN, pem.as_str()));
    let next = files
        .iter()
        .filter_map(|(name, pem)| Some((starts_at(name)?, pem.as_str())));
    let mut signing: Vec<(i64, &str)> = own.into_iter().chain(next).collect();
    signing.sort_by_key(|(from, _)| *from);
    let former = files.iter().filter(|(name, _)| is_former(name));
    (signing, former.map(|(_, pem)| pem.as_str()).collect())
}

/// A new key, which others are shown at once and which signs from `from` on. What the old one has signed stays good.
///
/// # Errors
/// See [`RolloverError`].
pub fn rotate_account_key(
    current: &Files,
    now: OffsetDateTime,
    from: OffsetDateTime,
) -> Result<Files, RolloverError> {
    let mut files = settle(current, now, true)?;
    if files.keys().filter(|name| is_former(name)).count() >= MAX_FORMER {
        return Err(RolloverError::TooManyKeys);
    }
    let name = format!("{NEXT_PREFIX}{}{NEXT_SUFFIX}", from.unix_timestamp());
    files.insert(name, AccountKey::generate_pem()?);
    Ok(files)
}

/// The newest key alone: what others have signed is no good any more.
///
/// # Errors
/// See [`RolloverError`].
pub fn finish_account_key(current: &Files, now: OffsetDateTime) -> Result<Files, RolloverError> {
    let mut files = settle(current, now, false)?;
    files.retain(|name, _| !is_former(name));
    if files == *current {
        return Err(RolloverError::OneKey);
    }
    Ok(files)
}

/// The key that waits becomes the one that signs. `keep`: the public part of the one before is kept.
fn settle(current: &Files, now: OffsetDateTime, keep: bool) -> Result<Files, RolloverError> {
    let mut files = current.clone();
    let Some((name, from)) = current.keys().find_map(|name| Some((name, starts_at(name)?))) else {
        return Ok(files);
    };
    if from > now.unix_timestamp() {
        let from = OffsetDateTime::from_unix_timestamp(from).unwrap_or(now);
        return Err(RolloverError::NotYet { from });
    }
    let key = files.remove(name).expect("it was just found");
    if let Some(old) = files.insert(AccountKey::FILE.into(), key)
        && keep
    {
        let public = KeyPair::from_pem(&old).map_err(PkiError::from)?.public_key_pem();
        let mut at = now.unix_timestamp();
        let name = |at: i64| format!("{FORMER_PREFIX}{at}{FORMER_SUFFIX}");
        while files.contains_key(&name(at)) {
            at += 1;
        }
        files.insert(name(at), public);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Pki, ServerNames, issue_client};
    use super::*;
    use rustls::client::danger::ServerCertVerifier;
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

    fn names() -> ServerNames {
        ServerNames::new("cluster.local", [10, 96, 0, 1].into(), [])
    }

    fn roots(pem: &str) -> Arc<rustls::RootCertStore> {
        let mut roots = rustls::RootCertStore::empty();
        certificates(pem)
            .expect("PEM")
            .into_iter()
            .for_each(|der| roots.add(der).expect("root"));
        Arc::new(roots)
    }

    /// Whether a client that trusts `ca_pem` believes a server that shows `chain`.
    fn believes(ca_pem: &str, chain: &str) -> bool {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots(ca_pem), provider)
            .build()
            .expect("verifier");
        let chain: Vec<CertificateDer<'_>> = certificates(chain).expect("PEM");
        let name = ServerName::try_from("kubernetes.default.svc").expect("a name");
        verifier
            .verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now())
            .is_ok()
    }

    /// The same of a client's chain and a server.
    fn admits(ca_pem: &str, chain: &str) -> bool {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots(ca_pem), provider)
            .build()
            .expect("verifier");
        let chain = certificates(chain).expect("PEM");
        verifier
            .verify_client_cert(&chain[0], &chain[1..], UnixTime::now())
            .is_ok()
    }

    #[test]
    fn old_and_new_believe_each_other_until_the_end() {
        let dir = tempfile::tempdir().expect("a folder");
        let now = OffsetDateTime::now_utc();
        let open = || Pki::open(dir.path(), &names(), now).expect("opens");
        let files = || read(dir.path()).expect("read");
        let old = open();
        let rotated = rotate_authority(&files(), now).expect("rotates");
        assert!(write(dir.path(), &rotated).expect("written"));
        assert!(!write(dir.path(), &rotated).expect("nothing to do"));
        assert!(matches!(
            rotate_authority(&files(), now),
            Err(RolloverError::Unfinished)
        ));
        let both = open();
        assert_ne!(old.server.cert_pem, both.server.cert_pem, "signed by the new one");
        assert_ne!(old.admin.cert_pem, both.admin.cert_pem);
        assert_eq!(certificates(&both.ca.bundle()).expect("PEM").len(), 2);
        let shown = format!("{}{}", both.server.cert_pem, both.ca.older.cross);
        // Clients of before, of after, and those that know both.
        for trusted in [old.ca.cert_pem(), both.ca.cert_pem(), &both.ca.bundle()] {
            assert!(believes(trusted, &shown));
        }
        assert!(
            believes(&both.ca.bundle(), &old.server.cert_pem),
            "a server that does not know yet"
        );
        // Clients' certificates of before and of after, at servers of before and of after.
        let client = issue_client(&both.ca, "x", &[]).expect("issued");
        assert!(admits(&both.ca.bundle(), &old.admin.cert_pem));
        assert!(admits(&both.ca.bundle(), &client.cert_pem));
        assert!(
            admits(old.ca.cert_pem(), &client.cert_pem),
            "it brings the way along"
        );
        let finished = finish_authority(&files()).expect("finishes");
        assert!(write(dir.path(), &finished).expect("written"));
        assert!(matches!(finish_authority(&files()), Err(RolloverError::Finished)));
        let new = open();
        assert!(
            both.server.cert_pem.starts_with(&new.server.cert_pem),
            "nothing is issued again"
        );
        assert!(!believes(old.ca.cert_pem(), &new.server.cert_pem));
        assert!(!admits(&new.ca.bundle(), &old.admin.cert_pem));
        assert!(!believes(&new.ca.bundle(), &old.server.cert_pem));
        assert!(admits(&new.ca.bundle(), &client.cert_pem));
    }

    #[test]
    fn a_crash_in_the_middle_is_brought_to_its_end() {
        let dir = tempfile::tempdir().expect("a folder");
        let now = OffsetDateTime::now_utc();
        Pki::open(dir.path(), &names(), now).expect("opens");
        let rotated = rotate_authority(&read(dir.path()).expect("read"), now).expect("rotates");
        // Written so far: the key alone.
        let text = serde_json::to_vec(&rotated).expect("JSON");
        files::write_private(&dir.path().join(REDO), &text).expect("written");
        files::write_private(&dir.path().join("ca.key"), rotated["ca.key"].as_bytes()).expect("written");
        Pki::open(dir.path(), &names(), now).expect("opens");
        assert_eq!(read(dir.path()).expect("read"), rotated);
        assert!(!dir.path().join(REDO).exists());
    }

    #[test]
    fn all_authorities_go_together_and_the_secret_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let now = OffsetDateTime::now_utc();
        Pki::open(dir.path(), &names(), now).expect("opens");
        peers::PeerPki::ensure_ca(dir.path(), now).expect("an authority");
        super::super::FrontProxy::open(dir.path(), now).expect("an authority");
        let first = read(dir.path()).expect("read");
        let secret = secrets(dir.path()).expect("a secret").remove(0);
        let rotated = rotate_authority(&first, now).expect("rotates");
        assert!(write(dir.path(), &rotated).expect("written"));
        assert_eq!(
            secrets(dir.path()).expect("a secret"),
            std::slice::from_ref(&secret)
        );
        for (before, after) in trusted(&first).iter().zip(trusted(&rotated)) {
            assert!(after.ends_with(before.as_str()) && after.len() > before.len());
        }
        let gone = &first["peer-ca.key"];
        assert!(
            rotated.values().all(|content| content != gone),
            "the old key is destroyed"
        );
        let finished = finish_authority(&rotated).expect("finishes");
        assert!(write(dir.path(), &finished).expect("written"));
        let again = rotate_authority(&finished, now).expect("a second time");
        assert!(write(dir.path(), &again).expect("written"));
        assert_eq!(secrets(dir.path()).expect("a secret"), [secret]);
        // A record of before knows the cluster's authority alone.
        let mut less = finished.clone();
        less.retain(|name, _| !name.starts_with("peer-ca") && !name.starts_with("front-proxy-ca"));
        assert!(write(dir.path(), &less).expect("written"));
        let found = read(dir.path()).expect("read");
        assert_eq!(found["peer-ca.key"], again["peer-ca.key"]);
        assert_eq!(found["ca.key"], finished["ca.key"]);
    }

    #[test]
    fn a_member_that_serves_members_only_gets_their_authority_alone() {
        let dirs = [0, 1].map(|_| tempfile::tempdir().expect("a folder"));
        let [server, witness] = dirs.each_ref().map(tempfile::TempDir::path);
        let now = OffsetDateTime::now_utc();
        Pki::open(server, &names(), now).expect("opens");
        peers::PeerPki::ensure_ca(server, now).expect("an authority");
        let first = read(server).expect("read");
        assert!(write_peers(witness, &of_peers(&first)).expect("written"));
        let shown = |tls: &peers::PeerTls, member| {
            tls.renew(witness, member, now).expect("renewed");
            files::read_text(&witness.join("peer.crt"))
                .expect("read")
                .expect("a certificate")
        };
        let tls = peers::PeerTls::default();
        let before = shown(&tls, 2);
        let rotated = rotate_authority(&first, now).expect("rotated");
        assert!(write_peers(witness, &of_peers(&rotated)).expect("written"));
        assert!(!write_peers(witness, &of_peers(&rotated)).expect("the same again"));
        assert_ne!(shown(&tls, 2), before, "issued anew");
        let finished = finish_authority(&rotated).expect("finished");
        assert!(write_peers(witness, &of_peers(&finished)).expect("written"));
        assert!(!witness.join("peer-ca-old.crt").exists());
        let kept = read(witness).expect("read");
        assert!(
            kept.keys().all(|name| name.starts_with("peer-ca")),
            "{:?}",
            kept.keys()
        );
        // Neither more than that, nor less, nor nonsense.
        let mut torn = of_peers(&first);
        torn.insert("peer-ca.key".into(), "nonsense".into());
        for wanted in [rotated, Files::new(), torn] {
            assert!(write_peers(witness, &wanted).is_err());
        }
        assert_eq!(read(witness).expect("read"), kept);
    }

    #[test]
    fn keys_for_tokens_wait_sign_and_go() {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).expect("a time");
        let first: Files = [(
            AccountKey::FILE.to_owned(),
            AccountKey::generate_pem().expect("key"),
        )]
        .into();
        let two = rotate_account_key(&first, at(100), at(160)).expect("rotated");
        assert_eq!(two.keys().collect::<Vec<_>>(), ["sa-next-160.key", "sa.key"]);
        assert_eq!(account_keys(&two).0.len(), 2);
        for early in [
            rotate_account_key(&two, at(120), at(180)),
            finish_account_key(&two, at(159)),
        ] {
            assert!(matches!(early, Err(RolloverError::NotYet { .. })));
        }
        let three = rotate_account_key(&two, at(200), at(260)).expect("rotated");
        assert_eq!(
            three.keys().collect::<Vec<_>>(),
            ["sa-next-260.key", "sa-old-200.pub", "sa.key"]
        );
        assert_eq!(three["sa.key"], two["sa-next-160.key"]);
        let last = finish_account_key(&three, at(300)).expect("finished");
        assert_eq!(last.keys().collect::<Vec<_>>(), ["sa.key"]);
        assert_eq!(last["sa.key"], three["sa-next-260.key"]);
        assert!(matches!(
            finish_account_key(&last, at(300)),
            Err(RolloverError::OneKey)
        ));
    }
}
