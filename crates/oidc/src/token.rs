//! What makes an identity token good (OpenID Connect Core 1.0, section 3.1.3.7).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use subtle::ConstantTimeEq as _;

use crate::keys::{Algorithm, Key};
use crate::{Error, Result};

/// Bytes of a token.
pub(crate) const TOKEN_BYTES_MAX: usize = 64 << 10;
/// Clocks of two machines differ by so many seconds at most.
const SKEW_S: i64 = 60;
/// A token that was made longer ago was not made for this sign-in.
const AGE_S_MAX: i64 = 600;
/// Bytes of a subject (Core 1.0, section 2).
const SUBJECT_BYTES_MAX: usize = 255;

/// Who signed in, as the provider says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The provider's name for them, which never changes.
    pub subject: String,
    /// Their address, which the provider has verified.
    pub email: String,
}

/// What a token must be for.
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) now_s: i64,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    nonce: Option<String>,
    #[serde(flatten)]
    address: Address,
}

/// The address of whoever signed in, where it is told.
#[derive(Deserialize)]
pub(crate) struct Address {
    email: Option<String>,
    email_verified: Option<Verified>,
}

/// Whom a good token names, with or without their address.
pub(crate) struct Named {
    pub(crate) subject: String,
    pub(crate) address: Address,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Some providers send the word in quotes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Verified {
    Is(bool),
    Said(String),
}

/// A token whose parts were taken apart, and nothing else.
pub(crate) struct Token<'a> {
    header: Header,
    signed: &'a str,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self> {
        let broken = |what: &str| Error::token(format!("its {what} cannot be read"));
        if text.len() > TOKEN_BYTES_MAX {
            return Err(Error::token(format!("it has {} bytes, {TOKEN_BYTES_MAX} allowed", text.len())));
        }
        let (signed, signature) = text.rsplit_once('.').ok_or_else(|| broken("form"))?;
        let (header, payload) = signed.split_once('.').ok_or_else(|| broken("form"))?;
        let bytes = |part: &str, what: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| broken(what));
        let header = serde_json::from_slice(&bytes(header, "header")?).map_err(|_| broken("header"))?;
        let (payload, signature) = (bytes(payload, "claims")?, bytes(signature, "signature")?);
        Ok(Self { header, signed, payload, signature })
    }

    /// Whether one of these keys is the one that it names: if not, the provider may have newer ones.
    pub(crate) fn is_known(&self, keys: &[Key]) -> bool {
        self.header.kid.is_none() || keys.iter().any(|key| key.name == self.header.kid)
    }

    /// Whom it names, if it is good.
    pub(crate) fn verify(&self, keys: &[Key], expected: &Expected<'_>) -> Result<Named> {
        let name = &self.header.alg;
        let algorithm = Algorithm::parse(name)
            .ok_or_else(|| Error::token(format!("it is signed by {name:?}, allowed: RS256, PS256, ES256, EdDSA")))?;
        if self.header.crit.is_some() {
            return Err(Error::token("it asks for extensions (crit), of which none is known"));
        }
        let is_meant = |key: &&Key| self.header.kid.is_none() || key.name == self.header.kid;
        let meant: Vec<&Key> = keys.iter().filter(is_meant).filter(|key| key.is_for(algorithm)).collect();
        let [key] = meant.as_slice() else {
            let name = self.header.kid.as_deref().unwrap_or("");
            return Err(Error::token(format!("the provider has {} keys {name:?} for {algorithm:?}", meant.len())));
        };
        if !key.verifies(algorithm, self.signed.as_bytes(), &self.signature) {
            return Err(Error::token("its signature is not the provider's"));
        }
        let claims: Claims = serde_json::from_slice(&self.payload)
            .map_err(|error| Error::token(format!("its claims cannot be read: {error}")))?;
        claims.check(expected)?;
        Ok(Named { subject: claims.sub, address: claims.address })
    }
}

impl Claims {
    fn check(&self, expected: &Expected<'_>) -> Result<()> {
        let Expected { issuer, client, nonce, now_s } = *expected;
        let refuse = |why: String| Err(Error::token(why));
        if self.iss != issuer {
            return refuse(format!("it comes from {:?}, not from {issuer:?}", self.iss));
        }
        let audiences = match &self.aud {
            Audience::One(one) => std::slice::from_ref(one),
            Audience::Many(many) => many.as_slice(),
        };
        let is_ours = audiences.iter().any(|audience| audience == client);
        let is_shared = audiences.len() > 1;
        match &self.azp {
            _ if !is_ours => return refuse(format!("it is for {audiences:?}, not for {client:?}")),
            None if is_shared => return refuse(format!("it is for {audiences:?}, and does not say for whom of them")),
            Some(azp) if azp != client => return refuse(format!("it was made for {azp:?}, not for {client:?}")),
            _ => {}
        }
        if self.exp.saturating_add(SKEW_S) <= now_s {
            return refuse(format!("it expired {} s ago", now_s.saturating_sub(self.exp)));
        }
        let begins = self.nbf.unwrap_or(self.iat).max(self.iat);
        if begins > now_s.saturating_add(SKEW_S) {
            return refuse(format!("it begins in {} s: the clocks differ", begins.saturating_sub(now_s)));
        }
        if self.iat < now_s - AGE_S_MAX {
            return refuse(format!("it was made {} s ago", now_s.saturating_sub(self.iat)));
        }
        let said = self.nonce.as_deref().unwrap_or_default();
        if !bool::from(said.as_bytes().ct_eq(nonce.as_bytes())) {
            return refuse("its nonce is not the one of this sign-in".to_owned());
        }
        if self.sub.is_empty() || self.sub.len() > SUBJECT_BYTES_MAX {
            return refuse(format!("its subject has {} bytes, 1 to {SUBJECT_BYTES_MAX} allowed", self.sub.len()));
        }
        Ok(())
    }
}

impl Address {
    /// Whether it is there at all.
    pub(crate) fn is_told(&self) -> bool {
        self.email.is_some()
    }

    /// Whoever has it, if it is verified.
    pub(crate) fn identity(self, subject: String) -> Result<Identity> {
        let email = self.email.ok_or_else(|| Error::token("it names no address (email), nor does the provider"))?;
        let is_verified = match self.email_verified {
            Some(Verified::Is(is)) => is,
            Some(Verified::Said(said)) => said == "true",
            None => false,
        };
        match is_verified {
            true => Ok(Identity { subject, email }),
            false => Err(Error::Unverified { email }),
        }
    }
}
