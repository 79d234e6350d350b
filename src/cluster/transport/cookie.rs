//! The shared secret of a cluster, and the proof that a peer has it.

use std::{fmt, path::Path};

use ring::{digest, hmac};

use super::random::{RandomError, random};

/// Least length of a cookie, in bytes: 128 bits.
pub const COOKIE_MIN_BYTES: usize = 16;

/// The shared secret of a cluster: at least 128 bits, never shown.
#[derive(Clone)]
pub struct Cookie {
    key: hmac::Key,
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie")
    }
}

/// Why there is no cookie.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CookieError {
    /// It is shorter than 128 bits.
    #[error("cookie has {} bits, at least 128 are needed: make one with \"openssl rand -hex 32\"", bytes * 8)]
    Short {
        /// Its length in bytes.
        bytes: usize,
    },
    /// It is not hexadecimal.
    #[error("cookie is not hexadecimal: make one with \"openssl rand -hex 32\"")]
    NotHex,
    /// The file cannot be read.
    #[error("cookie file {path} cannot be read: {source}")]
    File {
        /// The file.
        path: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl Cookie {
    /// A cookie of these bytes, drawn at random.
    ///
    /// # Errors
    /// [`CookieError::Short`] below 16 bytes.
    pub fn new(secret: &[u8]) -> Result<Self, CookieError> {
        if secret.len() < COOKIE_MIN_BYTES {
            return Err(CookieError::Short { bytes: secret.len() });
        }
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret) })
    }

    /// A cookie written in hexadecimal, with white space around it.
    ///
    /// # Errors
    /// [`CookieError`] when it is short or not hexadecimal.
    pub fn from_hex(text: &str) -> Result<Self, CookieError> {
        Self::new(&unhex(text.trim().as_bytes()).ok_or(CookieError::NotHex)?)
    }

    /// The cookie in a file, in hexadecimal.
    ///
    /// # Errors
    /// [`CookieError`] when it cannot be read, is short or not hexadecimal.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, CookieError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| CookieError::File { path: path.display().to_string(), source })?;
        Self::from_hex(&text)
    }

    /// A cookie of its own, for a cluster within one process.
    ///
    /// # Errors
    /// [`RandomError`] when the machine gives no random bytes.
    pub fn random() -> Result<Self, RandomError> {
        let secret: [u8; 32] = random()?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret) })
    }

    /// What only a holder of the cookie can say about `parts`.
    pub(super) fn proof(&self, parts: &[&[u8]]) -> [u8; 32] {
        let tag = hmac::sign(&self.key, &digest_of(parts));
        let mut proof = [0; 32];
        proof.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        proof
    }

    /// Whether `proof` is what a holder says about `parts`; takes the same time whatever differs.
    pub(super) fn proves(&self, parts: &[&[u8]], proof: &[u8]) -> bool {
        hmac::verify(&self.key, &digest_of(parts), proof).is_ok()
    }

    /// The cookie of ractor's own handshake below ours: derived, so that breaking one tells nothing of the other.
    pub(crate) fn of_ractor(&self) -> String {
        self.proof(&[b"stanchion ractor cookie"]).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Parts with their lengths, so that no two lists of parts are the same bytes.
fn digest_of(parts: &[&[u8]]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.chunks_exact(2);
    pairs.map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.last()?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_cookie_is_refused() {
        assert!(matches!(
            Cookie::from_hex("00112233445566778899aabbccddee"),
            Err(CookieError::Short { bytes: 15 })
        ));
        assert!(matches!(Cookie::from_hex("secret"), Err(CookieError::NotHex)));
        assert!(Cookie::from_hex(" 00112233445566778899aabbccddeeff\n").is_ok());
    }

    #[test]
    fn a_proof_holds_for_the_same_cookie_and_the_same_parts_only() {
        let (one, two) = (Cookie::new(&[1; 16]).unwrap(), Cookie::new(&[2; 16]).unwrap());
        let proof = one.proof(&[b"ab", b"c"]);
        assert!(one.proves(&[b"ab", b"c"], &proof));
        assert!(!one.proves(&[b"a", b"bc"], &proof));
        assert!(!two.proves(&[b"ab", b"c"], &proof));
        assert!(!one.proves(&[b"ab", b"c"], &proof[..31]));
    }

    #[test]
    fn a_cookie_is_never_shown() {
        assert_eq!(format!("{:?}", Cookie::new(&[7; 16]).unwrap()), "Cookie");
    }
}
