//! Whose fault an error of DataFusion is, and which of our own errors it carries.

use std::error::Error as StdError;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use drumline_lake::ErrorKind;
use object_store::Error as StoreError;
use parquet::errors::ParquetError;

use crate::Error;
use crate::memory::Exhausted;

impl From<DataFusionError> for Error {
    /// An error of ours that was carried through DataFusion comes out as itself; others are classified.
    fn from(error: DataFusionError) -> Self {
        if let Some(own) = own_error(&error) {
            return own;
        }
        let (kind, message) = (kind_of(&error), message_of(&error));
        if let Some(exhausted) = Exhausted::read(&message) {
            return Self::OutOfMemory { exhausted };
        }
        let exhausted = matches!(error.find_root(), DataFusionError::ResourcesExhausted(_));
        let hint =
            exhausted.then(|| "give the workers more memory, or read less at once".to_owned());
        Self::Failed {
            kind,
            message,
            hint,
            worker: None,
        }
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}

fn own_error(error: &DataFusionError) -> Option<Error> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(own) = error.downcast_ref::<Error>() {
            return Some(again(own));
        }
        if let Some(lake) = error.downcast_ref::<drumline_lake::Error>() {
            return Some(Error::Failed {
                kind: lake.kind(),
                message: lake.to_string(),
                hint: lake.hint(),
                worker: None,
            });
        }
        next = error.source();
    }
    None
}

/// The error once more: DataFusion shares errors between partitions, so it cannot be moved out.
fn again(error: &Error) -> Error {
    match error {
        Error::WorkerLost { worker, reason } => Error::WorkerLost {
            worker: worker.clone(),
            reason: reason.clone(),
        },
        Error::WorkerRefused { worker, reason } => Error::WorkerRefused {
            worker: worker.clone(),
            reason: reason.clone(),
        },
        Error::DeadlineExceeded { limit } => Error::DeadlineExceeded { limit: *limit },
        Error::OutOfMemory { exhausted } => Error::OutOfMemory {
            exhausted: exhausted.clone(),
        },
        other => Error::Failed {
            kind: other.kind(),
            message: other.to_string(),
            hint: other.hint(),
            worker: other.worker().map(str::to_owned),
        },
    }
}

/// How the library words the one failure that means "the coordinator's call has not arrived here".
const PLAN_NEVER_ARRIVED: &str = "Worker::execute_task timed-out";

/// How a store's passing failure is worded where a file's footer could not be read: its cause is text by then.
const STORE_FAILED: &str = "Object Store error: Generic ";

/// The deepest cause that says anything decides.
fn kind_of(error: &DataFusionError) -> ErrorKind {
    let mut kind = ErrorKind::User;
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(said) = kind_of_link(error) {
            kind = said;
        }
        next = error.source();
    }
    kind
}

fn kind_of_link(error: &(dyn StdError + 'static)) -> Option<ErrorKind> {
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        return match error {
            DataFusionError::Internal(_)
            | DataFusionError::ExecutionJoin(_)
            | DataFusionError::Substrait(_)
            | DataFusionError::Ffi(_) => Some(ErrorKind::Bug),
            DataFusionError::Execution(message) if message.starts_with(PLAN_NEVER_ARRIVED) => {
                Some(ErrorKind::Retryable)
            }
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<ArrowError>() {
        return match error {
            ArrowError::IpcError(_)
            | ArrowError::SchemaError(_)
            | ArrowError::CDataInterface(_) => Some(ErrorKind::Bug),
            _ => None,
        };
    }
    if let Some(ParquetError::General(message)) = error.downcast_ref::<ParquetError>() {
        return message
            .contains(STORE_FAILED)
            .then_some(ErrorKind::Retryable);
    }
    if let Some(error) = error.downcast_ref::<StoreError>() {
        return Some(match error {
            StoreError::Generic { .. } | StoreError::JoinError { .. } => ErrorKind::Retryable,
            _ => ErrorKind::User,
        });
    }
    error
        .downcast_ref::<std::io::Error>()
        .map(|_| ErrorKind::Retryable)
}

/// The root's message: the layers above it only say which of DataFusion's error types it went through.
fn message_of(error: &DataFusionError) -> String {
    error.find_root().message().into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn lost() -> Error {
        Error::WorkerLost {
            worker: "w1".to_owned(),
            reason: "refused".to_owned(),
        }
    }

    #[test]
    fn a_lost_worker_is_found_under_every_wrapping() {
        let wrapped = DataFusionError::Shared(Arc::new(DataFusionError::Context(
            "while reading".to_owned(),
            Box::new(DataFusionError::ArrowError(
                Box::new(ArrowError::ExternalError(Box::new(DataFusionError::from(
                    lost(),
                )))),
                None,
            )),
        )));
        let error = Error::from(wrapped);
        assert!(
            matches!(error, Error::WorkerLost { ref worker, .. } if worker == "w1"),
            "{error:?}"
        );
        assert_eq!(error.kind(), ErrorKind::Retryable);
    }

    #[test]
    fn faults_of_the_data_belong_to_the_user() {
        let divide = DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None);
        let error = Error::from(divide);
        assert_eq!(error.kind(), ErrorKind::User);
        assert_eq!(error.to_string(), "Divide by zero error");
    }

    #[test]
    fn faults_of_a_store_can_be_retried_unless_the_object_is_gone() {
        let generic = StoreError::Generic {
            store: "GCS",
            source: "503".into(),
        };
        let error = Error::from(DataFusionError::ObjectStore(Box::new(generic)));
        assert_eq!(error.kind(), ErrorKind::Retryable);
        let gone = StoreError::NotFound {
            path: "a/b".to_owned(),
            source: "404".into(),
        };
        let error = Error::from(DataFusionError::ObjectStore(Box::new(gone)));
        assert_eq!(error.kind(), ErrorKind::User);
        // Of a footer.
        let of_footer = |store: StoreError| {
            let store = DataFusionError::ObjectStore(Box::new(store));
            let message = format!("Failed to fetch metadata for file x.parquet: {store}");
            let parquet = ParquetError::General(message);
            Error::from(DataFusionError::ParquetError(Box::new(parquet))).kind()
        };
        let passing = StoreError::Generic {
            store: "GCS",
            source: "503".into(),
        };
        assert_eq!(of_footer(passing), ErrorKind::Retryable);
        let gone = StoreError::NotFound {
            path: "a/b".to_owned(),
            source: "404".into(),
        };
        assert_eq!(of_footer(gone), ErrorKind::User);
    }

    #[test]
    fn a_failed_invariant_is_a_bug() {
        let error = Error::from(DataFusionError::Internal("no such column".to_owned()));
        assert_eq!(error.kind(), ErrorKind::Bug);
    }
}
