//! Random bytes of the machine.

use ring::rand::{SecureRandom, SystemRandom};

/// The machine gives no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the machine gives no random bytes")]
pub struct RandomError;

/// So many random bytes, fit for secrets.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| RandomError)?;
    Ok(bytes)
}

/// A number in `0.0..1.0`, for jitter; the middle when there are no random bytes.
pub(crate) fn draw() -> f64 {
    random::<4>().map_or(0.5, |bytes| f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0))
}
