//! JWTs of others: the signature by one of their keys, and what their claims make of a user. Pure.
//!
//! RS256 and ES256 are believed. Source: RFC 7515, 7517, 7518; Kubernetes `plugin/pkg/authenticator/token/oidc`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::Value;

use super::config::Jwt;
use crate::User;
use crate::tokens::jws::Parts;

/// Most keys of one issuer that are kept.
const MAX_KEYS: usize = 64;

/// One public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// An uncompressed point of P-256.
    Ec(Vec<u8>),
}

/// The keys of an issuer by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(Vec<(String, Key)>);

impl Keys {
    /// From a JWKS. Keys of other kinds, or for encryption, are passed over.
    #[must_use]
    pub fn parse(document: &Value) -> Keys {
        let bytes = |value: &Value| URL_SAFE_NO_PAD.decode(value.as_str()?).ok();
        let read = |key: &Value| {
            if key["use"].as_str().is_some_and(|purpose| purpose != "sig") {
                return None;
            }
            let read = match key["kty"].as_str()? {
                "RSA" => Key::Rsa {
                    modulus: bytes(&key["n"])?,
                    exponent: bytes(&key["e"])?,
                },
                "EC" if key["crv"] == "P-256" => {
                    let (x, y) = (bytes(&key["x"])?, bytes(&key["y"])?);
                    let mut point = vec![4];
                    point.extend(x);
                    point.extend(y);
                    (point.len() == 65).then_some(Key::Ec(point))?
                }
                _ => return None,
            };
            Some((key["kid"].as_str().unwrap_or_default().to_owned(), read))
        };
        let all = document["keys"].as_array().into_iter().flatten();
        Keys(all.filter_map(read).take(MAX_KEYS).collect())
    }

    /// The claims, if one of these keys signed them. `Ok(None)`: no key fits, a newer set of keys might.
    ///
    /// # Errors
    /// Why the token is not believed, whatever keys there are.
    pub fn verify(&self, token: &str) -> Result<Option<Value>, &'static str> {
        let parts = Parts::of(token).ok_or("malformed token")?;
        let header: Value = decode(parts.header).ok_or("malformed token")?;
        let algorithm = header["alg"].as_str().unwrap_or_default();
        if !matches!(algorithm, "RS256" | "ES256") {
            return Err("unexpected signature algorithm");
        }
        // Extensions that must be understood are not: RFC 7515 §4.1.11.
        if !header["crit"].is_null() {
            return Err("malformed token");
        }
        let signature = URL_SAFE_NO_PAD
            .decode(parts.signature)
            .map_err(|_| "malformed token")?;
        let kid = header["kid"].as_str().unwrap_or_default();
        let fits = |(name, key): &&(String, Key)| {
            (kid.is_empty() || name == kid)
                && matches!(
                    (key, algorithm),
                    (Key::Rsa { .. }, "RS256") | (Key::Ec(_), "ES256")
                )
        };
        let message = parts.message.as_bytes();
        let signed = self.0.iter().filter(fits).any(|(_, key)| match key {
            Key::Rsa { modulus, exponent } => RsaPublicKeyComponents {
                n: modulus,
                e: exponent,
            }
            .verify(&RSA_PKCS1_2048_8192_SHA256, message, &signature)
            .is_ok(),
            Key::Ec(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(message, &signature)
                .is_ok(),
        });
        match signed {
            true => decode(parts.claims).map(Some).ok_or("malformed token"),
            false => Ok(None),
        }
    }
}

fn decode(part: &str) -> Option<Value> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok().filter(Value::is_object)
}

/// Who verified claims make of their bearer.
///
/// # Errors
/// In upstream's words, as far as it has some.
pub fn user(jwt: &Jwt, claims: &Value, now: Timestamp) -> Result<User, String> {
    let said: Vec<&str> = match &claims["aud"] {
        Value::String(one) => vec![one],
        list => texts(list),
    };
    if !said
        .iter()
        .any(|audience| jwt.issuer.audiences.iter().any(|own| own == audience))
    {
        return Err(format!(
            "oidc: verify token: oidc: expected audience in {:?} got {said:?}",
            jwt.issuer.audiences
        ));
    }
    let at = |field: &str| claims[field].as_f64().map(|seconds| seconds as i64);
    let now = now.as_second();
    if at("exp").is_none_or(|until| now >= until) {
        return Err("oidc: verify token: oidc: token is expired".into());
    }
    // Source: go-oidc allows five minutes before.
    if at("nbf").is_some_and(|from| now.saturating_add(300) < from) {
        return Err("oidc: verify token: oidc: current time before the nbf (not before) time".into());
    }
    for rule in &jwt.claim_validation_rules {
        let Some(value) = claims[&rule.claim].as_str() else {
            return Err(format!(
                "oidc: required claim {} not present in ID token",
                rule.claim
            ));
        };
        if value != rule.required_value {
            return Err(format!(
                "oidc: required claim {} value does not match. Got = {value}, want = {}",
                rule.claim, rule.required_value
            ));
        }
    }
    let mappings = &jwt.claim_mappings;
    let claim = &mappings.username.claim;
    let name = claims[claim].as_str().unwrap_or_default();
    if name.is_empty() {
        return Err(format!(
            "oidc: parse username claims {claim:?}: claim not present"
        ));
    }
    // An address counts only once it was checked; an issuer that does not say so at all is believed.
    if claim == "email" && claims["email_verified"].as_bool() == Some(false) {
        return Err("oidc: email not verified".into());
    }
    let mut groups = Vec::new();
    if let Some(mapping) = &mappings.groups {
        let said = &claims[&mapping.claim];
        let list = match said {
            Value::Null => Vec::new(),
            Value::String(one) => vec![one.as_str()],
            Value::Array(all) if all.iter().all(Value::is_string) => texts(said),
            _ => {
                return Err(format!(
                    "oidc: parse groups claim {:?}: not a list of texts",
                    mapping.claim
                ));
            }
        };
        groups.extend(list.into_iter().map(|group| format!("{}{group}", mapping.prefix)));
    }
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let mut user = User::new(format!("{}{name}", mappings.username.prefix), &groups);
    if let Some(mapping) = &mappings.uid {
        let uid = claims[&mapping.claim].as_str();
        user.uid = uid
            .ok_or_else(|| format!("oidc: parse uid claim {:?}: claim not present", mapping.claim))?
            .to_owned();
    }
    if let Some(id) = claims["jti"].as_str().filter(|id| !id.is_empty()) {
        user.extra.insert(
            "authentication.kubernetes.io/credential-id".into(),
            vec![format!("JTI={id}")],
        );
    }
    Ok(user)
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::jws;
    use serde_json::json;

    fn issuer() -> Jwt {
        serde_json::from_value(json!({
            "issuer": {"url": "https://i", "audiences": ["k"]},
            "claimValidationRules": [{"claim": "hd", "requiredValue": "example"}],
            "claimMappings": {
                "username": {"claim": "email", "prefix": "o:"}, "groups": {"claim": "roles", "prefix": "g:"},
                "uid": {"claim": "sub"},
            },
        }))
        .expect("an issuer")
    }

    /// Changes claims that are good; `want` is `name uid groups` or the error.
    #[track_caller]
    fn check(changes: Value, want: &str) {
        let mut claims = json!({
            "iss": "https://i", "aud": ["x", "k"], "exp": 1000, "sub": "7", "email": "a@b", "hd": "example",
            "roles": ["r", "s"],
        });
        for (key, value) in changes.as_object().expect("an object") {
            claims[key] = value.clone();
        }
        let now = Timestamp::from_second(500).expect("a time");
        let got = match user(&issuer(), &claims, now) {
            Ok(user) => format!("{} {} {}", user.name, user.uid, user.groups.join(",")),
            Err(why) => why,
        };
        assert_eq!(got, want);
    }

    #[test]
    fn claims_make_users() {
        check(json!({}), "o:a@b 7 g:r,g:s,system:authenticated");
        check(
            json!({"roles": "one", "aud": "k"}),
            "o:a@b 7 g:one,system:authenticated",
        );
        check(
            json!({"roles": null, "email_verified": true}),
            "o:a@b 7 system:authenticated",
        );
        check(json!({"email_verified": false}), "oidc: email not verified");
        check(
            json!({"aud": "other"}),
            "oidc: verify token: oidc: expected audience in [\"k\"] got [\"other\"]",
        );
        check(json!({"exp": 500}), "oidc: verify token: oidc: token is expired");
        check(json!({"exp": null}), "oidc: verify token: oidc: token is expired");
        check(
            json!({"nbf": 900}),
            "oidc: verify token: oidc: current time before the nbf (not before) time",
        );
        check(
            json!({"hd": "elsewhere"}),
            "oidc: required claim hd value does not match. Got = elsewhere, want = example",
        );
        check(
            json!({"hd": null}),
            "oidc: required claim hd not present in ID token",
        );
        check(
            json!({"roles": [1]}),
            "oidc: parse groups claim \"roles\": not a list of texts",
        );
        check(
            json!({"email": 3}),
            "oidc: parse username claims \"email\": claim not present",
        );
    }

    #[test]
    fn es256_is_verified_by_the_key_of_its_name() {
        let pair = rcgen::KeyPair::generate().expect("key");
        let key = jws::Key::from_pkcs8(&pair.serialize_der()).expect("P-256");
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = key.public().coordinates();
        let jwk = |kid: &str| json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": kid, "x": text(x), "y": text(y)}]});
        let keys = Keys::parse(&jwk(key.public().id()));
        let token = key.sign(&json!({"iss": "https://i"})).expect("signed");
        assert_eq!(keys.verify(&token), Ok(Some(json!({"iss": "https://i"}))));
        assert_eq!(Keys::parse(&jwk("another")).verify(&token), Ok(None));
        assert_eq!(Keys::default().verify(&token), Ok(None));
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let claims = token.split('.').nth(1).expect("claims");
        assert_eq!(
            keys.verify(&format!("{none}.{claims}.")),
            Err("unexpected signature algorithm")
        );
        let hmac = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
        assert!(keys.verify(&format!("{hmac}.{claims}.AAAA")).is_err());
    }

    /// RFC 7515, appendix A.2.
    #[test]
    fn rs256_is_verified() {
        let keys = Keys::parse(&json!({"keys": [{"kty": "RSA", "e": "AQAB", "n":
            "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]}));
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        let claims = keys.verify(token).expect("well formed").expect("signed");
        assert_eq!(claims["iss"], "joe");
        let forged = token.replace("eyJpc3MiOiJqb2Ui", "eyJpc3MiOiJqYW4i");
        assert_eq!(keys.verify(&forged), Ok(None));
    }
}
