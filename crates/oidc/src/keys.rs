//! The keys that a provider signs with, as it publishes them (RFC 7517, RFC 7518).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

/// Keys of one provider; it has a few, and an old one or two.
const KEYS_MAX: usize = 64;

/// How a token is signed. What is not listed is refused, `none` and secrets shared with the provider among it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Ps256,
    Es256,
    EdDsa,
}

impl Algorithm {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// A set of keys as it is sent.
#[derive(Deserialize)]
pub(crate) struct KeySet {
    keys: Vec<Sent>,
}

#[derive(Deserialize, Default)]
struct Sent {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// A key that tokens may be signed with.
pub(crate) struct Key {
    pub(crate) name: Option<String>,
    algorithm: Option<String>,
    material: Material,
}

enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl KeySet {
    /// Those that tokens may be signed with. Other keys may be there for other purposes.
    pub(crate) fn usable(self) -> Vec<Key> {
        self.keys.into_iter().take(KEYS_MAX).filter_map(Sent::read).collect()
    }
}

impl Sent {
    fn read(self) -> Option<Key> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes = |text: &Option<String>| text.as_ref().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let material = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Material::Rsa { n: bytes(&self.n)?, e: bytes(&self.e)? },
            ("EC", Some("P-256")) => {
                // An uncompressed point (SEC 1): 4, then both coordinates.
                let (x, y) = (bytes(&self.x)?, bytes(&self.y)?);
                Material::P256([&[4], x.as_slice(), &y].concat())
            }
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes(&self.x)?),
            _ => return None,
        };
        Some(Key { name: self.kid, algorithm: self.alg, material })
    }
}

impl Key {
    /// Whether this key may sign in this way.
    pub(crate) fn is_for(&self, algorithm: Algorithm) -> bool {
        let said = self.algorithm.as_deref().is_none_or(|name| Algorithm::parse(name) == Some(algorithm));
        let fits = match (&self.material, algorithm) {
            (Material::Rsa { .. }, Algorithm::Rs256 | Algorithm::Ps256)
            | (Material::P256(_), Algorithm::Es256)
            | (Material::Ed25519(_), Algorithm::EdDsa) => true,
            (Material::Rsa { .. } | Material::P256(_) | Material::Ed25519(_), _) => false,
        };
        said && fits
    }

    /// Whether the signature is one of this message.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let rsa = |parameters: &'static RsaParameters, n: &[u8], e: &[u8]| {
            RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
        };
        let verified = match (&self.material, algorithm) {
            (Material::Rsa { n, e }, Algorithm::Rs256) => rsa(&RSA_PKCS1_2048_8192_SHA256, n, e),
            (Material::Rsa { n, e }, Algorithm::Ps256) => rsa(&RSA_PSS_2048_8192_SHA256, n, e),
            (Material::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            (Material::Ed25519(point), Algorithm::EdDsa) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature)
            }
            (Material::Rsa { .. } | Material::P256(_) | Material::Ed25519(_), _) => return false,
        };
        verified.is_ok()
    }
}
