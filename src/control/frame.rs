//! Frames of the socket: a length (u32, big endian) and that many bytes of named MessagePack.

use serde::{Deserialize, Serialize};
use stanchion_actors::store::{CodecError, decode, encode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{problem::Problem, request::Request};

/// Largest request, in bytes.
pub const REQUEST_MAX_BYTES: usize = 8 << 20;
/// Largest line of an answer, in bytes.
pub(super) const ANSWER_MAX_BYTES: usize = 256 << 20;

/// One frame of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Answer {
    /// One JSON object.
    Line(String),
    /// There are no further lines.
    Done,
    /// Nothing more comes, for this reason.
    Problem(Problem),
}

/// Why there is no frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The other side is gone, or the system refuses.
    #[error("the connection ended: {0}")]
    Io(#[from] std::io::Error),
    /// It is larger than allowed.
    #[error("a frame of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// It is not what was expected.
    #[error("a frame does not decode: {0}")]
    Malformed(#[from] CodecError),
}

/// Reads a request from the bytes of a frame.
///
/// # Errors
/// [`FrameError`].
pub fn decode_request(bytes: &[u8]) -> Result<Request, FrameError> {
    Ok(decode(bytes)?)
}

/// Reads a part of an answer from the bytes of a frame.
///
/// # Errors
/// [`FrameError`].
pub fn decode_answer(bytes: &[u8]) -> Result<Answer, FrameError> {
    Ok(decode(bytes)?)
}

pub(super) async fn write_frame<T: Serialize>(
    to: &mut (impl AsyncWrite + Unpin),
    value: &T,
) -> Result<(), FrameError> {
    let bytes = encode(value)?;
    let too_large = FrameError::TooLarge { bytes: bytes.len(), limit: ANSWER_MAX_BYTES };
    let len = u32::try_from(bytes.len()).map_err(|_| too_large)?;
    to.write_all(&len.to_be_bytes()).await?;
    to.write_all(&bytes).await?;
    to.flush().await?;
    Ok(())
}

/// The bytes of the next frame; room is made as bytes come, not as the length claims.
pub(super) async fn read_frame(
    from: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Vec<u8>, FrameError> {
    let mut len = [0; 4];
    from.read_exact(&mut len).await?;
    let len = u32::from_be_bytes(len);
    if len as usize > limit {
        return Err(FrameError::TooLarge { bytes: len as usize, limit });
    }
    let mut bytes = Vec::new();
    let read = from.take(u64::from(len)).read_to_end(&mut bytes).await?;
    if read < len as usize {
        return Err(FrameError::Io(std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cases() -> ProptestConfig {
        let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000);
        ProptestConfig { cases, ..ProptestConfig::default() }
    }

    fn requests() -> impl Strategy<Value = Request> {
        prop_oneof![
            ".{0,20}".prop_map(|run| Request::Show { run }),
            ("[a-z]{1,9}", ".{0,9}", proptest::option::of(any::<u64>()))
                .prop_map(|(kind, key, at)| Request::EntityShow { kind, key, at }),
            ("[a-z]{1,9}", ".{0,9}").prop_map(|(kind, key)| Request::EntityPurge { kind, key }),
            (".{0,20}", proptest::option::of(".{0,9}")).prop_map(|(run, step)| Request::Retry { run, step }),
            (".{0,20}", any::<bool>()).prop_map(|(to, force)| Request::Backup { to, force }),
        ]
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn a_request_comes_back_as_it_went(request in requests()) {
            prop_assert_eq!(decode_request(&encode(&request).unwrap()).unwrap(), request);
        }

        #[test]
        fn random_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_request(&bytes);
            let _ = decode_answer(&bytes);
        }

        #[test]
        fn changed_requests_never_panic(request in requests(), at in any::<usize>(), byte in any::<u8>(), cut in any::<usize>()) {
            let mut bytes = encode(&request).unwrap();
            let len = bytes.len();
            bytes[at % len] = byte;
            let _ = decode_request(&bytes);
            bytes.truncate(cut % len);
            let _ = decode_request(&bytes);
        }

        #[test]
        fn a_stream_of_random_bytes_ends_in_an_error_or_a_frame(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let read = runtime.block_on(read_frame(&mut bytes.as_slice(), REQUEST_MAX_BYTES));
            if let Ok(frame) = read {
                prop_assert!(frame.len() <= REQUEST_MAX_BYTES);
            }
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_any_room_is_made() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = runtime.block_on(read_frame(&mut [0xFF, 0xFF, 0xFF, 0xFF, 0].as_slice(), 100));
        assert!(matches!(read, Err(FrameError::TooLarge { limit: 100, .. })));
    }
}
