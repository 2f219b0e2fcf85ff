//! Kafka's own id of a topic: what tells a topic from another that got its name later.
//!
//! A topic that is deleted and made again begins at offset 0, and may be longer than a table's offset before
//! anybody looks: its records would then be taken for what follows the old ones. Brokers since 2.8 give each
//! topic an id for life. The other way, a fingerprint of the last committed record that is compared on resume,
//! cannot tell when that record was compacted away, nor when the same records are sent again.
//!
//! librdkafka's one call for it, `DescribeTopics`, has no safe wrapper: this module is one of the two of the
//! workspace with `unsafe` (the other is `headers`). Every pointer that librdkafka hands out here is owned by a guard that gives it back,
//! none leaves the function it was made in, and strings are copied out while their owner lives.
//!
//! Brokers that give no ids (a zero id, or the question refused as not supported) leave topics untold apart, as
//! they were before.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr::{NonNull, null_mut};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings as native;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaRespErr;

/// A pointer that librdkafka gave, and how it is given back.
struct Owned<T> {
    pointer: NonNull<T>,
    give_back: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    fn new(pointer: *mut T, give_back: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        let pointer = NonNull::new(pointer)?;
        Some(Self { pointer, give_back })
    }

    fn as_ptr(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from librdkafka's maker of this type, is given back once, and nobody else has it.
        unsafe { (self.give_back)(self.pointer.as_ptr()) }
    }
}

/// Ids of topics, by name; of those that brokers give one. A topic that is not there is an error. Blocks for as
/// long as the brokers may take.
pub(crate) fn topic_ids<C: ClientContext>(
    client: &Client<C>,
    topics: &[String],
    within: Duration,
) -> Result<BTreeMap<String, String>, RDKafkaErrorCode> {
    let failed = || RDKafkaErrorCode::Fail;
    let names: Vec<CString> = topics
        .iter()
        .map(|topic| CString::new(topic.as_str()).map_err(|_| RDKafkaErrorCode::InvalidTopic))
        .collect::<Result<_, _>>()?;
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    if !may_answer(client, topics, within)? {
        return Ok(BTreeMap::new());
    }
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let millis = i32::try_from(within.as_millis()).unwrap_or(i32::MAX);
    let handle = client.native_ptr();
    // SAFETY: `handle` lives as long as `client`, which is borrowed until the end; `pointers` are those of strings in
    // `names`, which outlives the calls, and librdkafka copies them; the makers' results go to guards that are dropped
    // here, in the reverse order of making: the event first, the queue after it.
    unsafe {
        let collection = Owned::new(
            native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
            native::rd_kafka_TopicCollection_destroy,
        )
        .ok_or_else(failed)?;
        let options = Owned::new(
            native::rd_kafka_AdminOptions_new(
                handle,
                native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            ),
            native::rd_kafka_AdminOptions_destroy,
        )
        .ok_or_else(failed)?;
        native::rd_kafka_AdminOptions_set_request_timeout(options.as_ptr(), millis, null_mut(), 0);
        let queue = Owned::new(
            native::rd_kafka_queue_new(handle),
            native::rd_kafka_queue_destroy,
        )
        .ok_or_else(failed)?;
        native::rd_kafka_DescribeTopics(
            handle,
            collection.as_ptr(),
            options.as_ptr(),
            queue.as_ptr(),
        );
        // The request's own time-out answers first; this one only never lets a lost answer hang the caller.
        let event = native::rd_kafka_queue_poll(queue.as_ptr(), millis.saturating_add(1000));
        let event = Owned::new(event, native::rd_kafka_event_destroy)
            .ok_or(RDKafkaErrorCode::OperationTimedOut)?;
        told(&event)
    }
}

/// Whether the cluster's controller is one of its brokers: librdkafka puts the question to it, and waits in vain for
/// one that is not there (its own mock cluster names none).
fn may_answer<C: ClientContext>(
    client: &Client<C>,
    topics: &[String],
    within: Duration,
) -> Result<bool, RDKafkaErrorCode> {
    let first = topics.first().map(String::as_str);
    let metadata = client.fetch_metadata(first, within);
    let metadata = metadata.map_err(|error| {
        let code = error.rdkafka_error_code();
        code.unwrap_or(RDKafkaErrorCode::Fail)
    })?;
    let millis = i32::try_from(within.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the handle lives as long as `client`, which is borrowed; nothing is kept.
    let controller = unsafe { native::rd_kafka_controllerid(client.native_ptr(), millis) };
    // -1: not known in time, which is no answer.
    Ok(controller < 0 || metadata.brokers().iter().any(|b| b.id() == controller))
}

/// # Safety
/// The event must be an answer of `rd_kafka_DescribeTopics`.
unsafe fn told(
    event: &Owned<native::rd_kafka_event_t>,
) -> Result<BTreeMap<String, String>, RDKafkaErrorCode> {
    // SAFETY: what is read here belongs to the event, which is borrowed; the array has `count` elements, none is read
    // beyond it, and texts are copied.
    unsafe {
        match native::rd_kafka_event_error(event.as_ptr()) {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE => return Ok(BTreeMap::new()),
            code => return Err(code.into()),
        }
        let result = native::rd_kafka_event_DescribeTopics_result(event.as_ptr());
        if result.is_null() {
            return Err(RDKafkaErrorCode::Fail);
        }
        let mut count = 0;
        let first = native::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        let mut ids = BTreeMap::new();
        if first.is_null() {
            return Ok(ids);
        }
        for at in 0..count {
            let topic = *first.add(at);
            if topic.is_null() {
                continue;
            }
            let error = native::rd_kafka_TopicDescription_error(topic);
            if !error.is_null() {
                let code = native::rd_kafka_error_code(error);
                if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                    return Err(code.into());
                }
            }
            let name = text(native::rd_kafka_TopicDescription_name(topic));
            let id = native::rd_kafka_TopicDescription_topic_id(topic);
            let is_one = !id.is_null()
                && (native::rd_kafka_Uuid_most_significant_bits(id) != 0
                    || native::rd_kafka_Uuid_least_significant_bits(id) != 0);
            if let (Some(name), true) = (name, is_one)
                && let Some(id) = text(native::rd_kafka_Uuid_base64str(id))
            {
                ids.insert(name, id);
            }
        }
        Ok(ids)
    }
}

/// # Safety
/// The pointer must be null, or that of a string that lives during the call.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    // SAFETY: as the caller says.
    (!pointer.is_null()).then(|| {
        unsafe { CStr::from_ptr(pointer) }
            .to_string_lossy()
            .into_owned()
    })
}
