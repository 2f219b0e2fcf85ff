//! The headers of a message.
//!
//! rdkafka's own reading of them panics where a name is not UTF-8, and names are bytes that any producer chooses. So
//! this is the workspace's second module with `unsafe` (the first is `ids`): it borrows what the message owns, and
//! hands out nothing that outlives a call.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::ptr::{null, null_mut};

use rdkafka::bindings as native;
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;

/// Takes each header of a message, in its order. What is not UTF-8 in a name is U+FFFD.
pub(crate) fn each(message: &BorrowedMessage<'_>, take: impl FnMut(&str, Option<&[u8]>)) {
    let mut headers = null_mut();
    // SAFETY: the message lives for the call, and so do the headers, which it owns.
    unsafe {
        let code = native::rd_kafka_message_headers(message.ptr(), &raw mut headers);
        if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && !headers.is_null() {
            each_of(headers, take);
        }
    }
}

/// # Safety
///
/// The headers are librdkafka's, and live for the call.
unsafe fn each_of(
    headers: *const native::rd_kafka_headers_t,
    mut take: impl FnMut(&str, Option<&[u8]>),
) {
    for at in 0.. {
        let (mut name, mut value, mut size) = (null(), null::<c_void>(), 0);
        // SAFETY: three places for what it tells; that there is no such header is an answer.
        let code = unsafe {
            native::rd_kafka_header_get_all(
                headers,
                at,
                &raw mut name,
                &raw mut value,
                &raw mut size,
            )
        };
        if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
            return;
        }
        // SAFETY: names end with a zero byte, and of a value that is not null so many bytes are there.
        let (name, value) = unsafe {
            let value =
                (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
            (CStr::from_ptr(name), value)
        };
        take(&name.to_string_lossy(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_may_be_a_name() {
        let mut found = Vec::new();
        // SAFETY: headers made here, given names that end with zero bytes and values of the lengths told, and given back.
        unsafe {
            let headers = native::rd_kafka_headers_new(2);
            for (name, value) in [
                (c"trace", Some(b"1".as_slice())),
                (c"a\xff\xfeb", Some(&[0, 255])),
                (c"trace", None),
                (c"", Some(b"")),
            ] {
                let size = isize::try_from(value.map_or(0, <[u8]>::len)).unwrap();
                let value = value.map_or(null(), <[u8]>::as_ptr).cast();
                native::rd_kafka_header_add(headers, name.as_ptr(), -1, value, size);
            }
            each_of(headers, |name, value| {
                found.push((name.to_owned(), value.map(<[u8]>::to_vec)));
            });
            native::rd_kafka_headers_destroy(headers);
        }
        let expected = [
            ("trace", Some(b"1".as_slice())),
            ("a\u{fffd}\u{fffd}b", Some(&[0, 255])),
            ("trace", None),
            ("", Some(b"")),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)));
        assert_eq!(found, expected);
    }
}
