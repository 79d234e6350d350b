//! Bytes of stored values: a frame {format u8, schema u16, crc32c u32} before named MessagePack.

use std::ops::Range;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// Format of the frame; a larger one is refused by name.
pub const FRAME_FORMAT: u8 = 1;
/// Bytes of the frame.
pub const FRAME_BYTES: usize = 7;
/// A larger buffer is not kept for the next value.
const SCRATCH_MAX_BYTES: usize = 16 * 1_024;

/// Why stored bytes cannot be read, or a value cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Fewer bytes than a frame.
    #[error("value of {0} bytes is shorter than its frame of {FRAME_BYTES} bytes")]
    Short(usize),
    /// The frame's format is newer than this program.
    #[error("value has format {0}, this program knows up to {FRAME_FORMAT}: use a newer program")]
    Newer(u8),
    /// The checksum over key and value does not hold.
    #[error("checksum does not hold: stored {stored:08x}, computed {computed:08x}")]
    Checksum {
        /// What the frame says.
        stored: u32,
        /// What key and value give.
        computed: u32,
    },
    /// The checksum holds, but the body does not decode.
    #[error("value does not decode: {0}")]
    Decode(String),
    /// The value does not encode.
    #[error("value does not encode: {0}")]
    Encode(String),
}

/// Arrays and maps within each other at most: each takes its part of the stack of whoever reads it.
pub const DEPTH_MAX: usize = 256;

/// Encodes as named MessagePack, without a frame.
///
/// # Errors
/// [`CodecError::Encode`] when the type refuses (for example a map of unknown length).
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    rmp_serde::to_vec_named(value).map_err(|e| CodecError::Encode(e.to_string()))
}

/// [`encode`] into bytes of exactly the length it takes: for what is small and not copied, half the allocations.
///
/// # Errors
/// As [`encode`].
pub fn encode_exact<T: Serialize>(value: &T) -> Result<Bytes, CodecError> {
    thread_local!(static SCRATCH: std::cell::Cell<Vec<u8>> = const { std::cell::Cell::new(Vec::new()) });
    // Taken, not borrowed: a `Serialize` that encodes something itself finds an empty one.
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let encoded = rmp_serde::encode::write_named(&mut scratch, value)
        .map(|()| Bytes::copy_from_slice(&scratch))
        .map_err(|e| CodecError::Encode(e.to_string()));
    if scratch.capacity() <= SCRATCH_MAX_BYTES {
        SCRATCH.set(scratch);
    }
    encoded
}

/// [`encode`] into a buffer that has room for `bytes`, so that a good guess saves growing it.
///
/// # Errors
/// As [`encode`].
pub fn encode_sized<T: Serialize>(value: &T, bytes: usize) -> Result<Vec<u8>, CodecError> {
    Ok(encode_around(value, bytes, &Bytes::new())?.0)
}

/// [`encode_sized`], and where in the encoding the bytes of `part` lie, if it is part of `value` and not empty.
///
/// # Errors
/// As [`encode`].
pub(super) fn encode_around<T: Serialize>(
    value: &T,
    bytes: usize,
    part: &Bytes,
) -> Result<(Vec<u8>, Option<Range<usize>>), CodecError> {
    let mut buffer = Noting { bytes: Vec::with_capacity(bytes), part, found: None };
    rmp_serde::encode::write_named(&mut buffer, value).map_err(|e| CodecError::Encode(e.to_string()))?;
    Ok((buffer.bytes, buffer.found))
}

/// A buffer that notes where one part, known by its address, was written.
struct Noting<'a> {
    bytes: Vec<u8>,
    part: &'a Bytes,
    found: Option<Range<usize>>,
}

impl std::io::Write for Noting<'_> {
    fn write(&mut self, written: &[u8]) -> std::io::Result<usize> {
        self.write_all(written)?;
        Ok(written.len())
    }

    fn write_all(&mut self, written: &[u8]) -> std::io::Result<()> {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(written);
        if !written.is_empty() && std::ptr::eq(written, self.part.as_ref()) {
            self.found = Some(from..self.bytes.len());
        }
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Decodes named MessagePack, without a frame; trailing bytes are refused, and values that are nested deeper than
/// [`DEPTH_MAX`].
///
/// # Errors
/// [`CodecError::Decode`] on anything that is not exactly one such value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut rest = bytes;
    let mut reader = rmp_serde::Deserializer::new(&mut rest);
    reader.set_max_depth(DEPTH_MAX);
    let value = T::deserialize(&mut reader).map_err(|e| CodecError::Decode(e.to_string()))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(CodecError::Decode(format!("{} bytes left over", rest.len())))
    }
}

/// Puts the frame before `body`; the checksum covers `key`, schema and body.
#[must_use]
pub fn frame(key: &[u8], schema: u16, body: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(FRAME_BYTES + body.len());
    framed.push(FRAME_FORMAT);
    framed.extend_from_slice(&schema.to_be_bytes());
    framed.extend_from_slice(&checksum(key, schema, body).to_be_bytes());
    framed.extend_from_slice(body);
    framed
}

/// Encodes `value` and puts the frame before it: as [`frame`] around [`encode`], without copying the body.
///
/// # Errors
/// As [`encode`].
pub fn encode_framed<T: Serialize>(key: &[u8], schema: u16, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut framed = Vec::with_capacity(128);
    framed.extend_from_slice(&[0; FRAME_BYTES]);
    rmp_serde::encode::write_named(&mut framed, value).map_err(|e| CodecError::Encode(e.to_string()))?;
    seal(key, schema, &mut framed);
    Ok(framed)
}

/// Fills the frame into the first [`FRAME_BYTES`] bytes of `framed`, which the caller left free: as [`frame`],
/// without copying the body. Fewer bytes than a frame are left as they are.
pub fn seal(key: &[u8], schema: u16, framed: &mut [u8]) {
    let Some((head, body)) = framed.split_first_chunk_mut::<FRAME_BYTES>() else { return };
    let [s0, s1] = schema.to_be_bytes();
    let [c0, c1, c2, c3] = checksum(key, schema, body).to_be_bytes();
    *head = [FRAME_FORMAT, s0, s1, c0, c1, c2, c3];
}

/// Checks the frame and answers the schema and the body.
///
/// # Errors
/// [`CodecError`] naming what does not hold.
pub fn unframe<'a>(key: &[u8], framed: &'a [u8]) -> Result<(u16, &'a [u8]), CodecError> {
    let Some((head, body)) = framed.split_first_chunk::<FRAME_BYTES>() else {
        return Err(CodecError::Short(framed.len()));
    };
    let [format, s0, s1, c0, c1, c2, c3] = *head;
    if format > FRAME_FORMAT {
        return Err(CodecError::Newer(format));
    }
    let schema = u16::from_be_bytes([s0, s1]);
    let stored = u32::from_be_bytes([c0, c1, c2, c3]);
    let computed = checksum(key, schema, body);
    if stored == computed { Ok((schema, body)) } else { Err(CodecError::Checksum { stored, computed }) }
}

/// [`unframe`], keeping the body's owner instead of copying it.
///
/// # Errors
/// [`CodecError`] naming what does not hold.
pub fn unframe_shared(key: &[u8], framed: &Bytes) -> Result<(u16, Bytes), CodecError> {
    let (schema, body) = unframe(key, framed)?;
    Ok((schema, framed.slice_ref(body)))
}

fn checksum(key: &[u8], schema: u16, body: &[u8]) -> u32 {
    let crc = crc32c::crc32c(key);
    let crc = crc32c::crc32c_append(crc, &schema.to_be_bytes());
    crc32c::crc32c_append(crc, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_encoding_gives_the_same_bytes() {
        let value = ("some text", vec![7u64; 100]);
        let plain = encode(&value).unwrap();
        assert_eq!(encode_sized(&value, 0).unwrap(), plain);
        assert_eq!(encode_exact(&value).unwrap(), plain);
        assert_eq!(encode_framed(b"key", 3, &value).unwrap(), frame(b"key", 3, &plain));
    }

    #[test]
    fn the_place_of_a_part_is_where_its_bytes_are() {
        let part = Bytes::from_static(b"part");
        let value = (Bytes::from_static(b"part of another"), part.clone(), 7);
        let (encoded, place) = encode_around(&value, 0, &part).unwrap();
        assert_eq!(encoded, encode(&value).unwrap());
        let place = place.unwrap();
        assert_eq!(&encoded[place.clone()], b"part");
        assert_eq!(place.end + 1, encoded.len(), "the second one, before the number");
        assert_eq!(encode_around(&value, 0, &Bytes::from_static(b"strange")).unwrap().1, None);
        assert_eq!(encode_around(&(Bytes::new(), 7), 0, &Bytes::new()).unwrap().1, None);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found() {
        let framed = frame(b"key", 3, b"some body");
        assert_eq!(unframe(b"key", &framed), Ok((3, b"some body".as_slice())));
        for bit in 8..framed.len() * 8 {
            let mut torn = framed.clone();
            torn[bit / 8] ^= 1 << (bit % 8);
            assert!(unframe(b"key", &torn).is_err(), "bit {bit}");
        }
        assert!(unframe(b"kez", &framed).is_err());
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7u32).unwrap();
        assert_eq!(decode::<u32>(&bytes), Ok(7));
        bytes.push(0);
        assert!(decode::<u32>(&bytes).is_err());
    }
}
