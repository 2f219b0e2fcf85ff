//! Log files as they lie on disk: plain, gzip or zstd.

use std::borrow::Cow;
use std::io::{self, Read};

/// The file's content; what packs it is told by its first bytes.
pub(super) fn unpack(bytes: &[u8]) -> io::Result<Cow<'_, [u8]>> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut content = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut content)?;
        Ok(Cow::Owned(content))
    } else if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Ok(Cow::Owned(zstd::decode_all(bytes)?))
    } else {
        Ok(Cow::Borrowed(bytes))
    }
}
