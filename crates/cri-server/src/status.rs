//! The one place where error kinds become gRPC codes. It decides nothing else about an error.

use tonic::{Code, Status};
use types::{Error, ErrorKind};

/// Bytes of a message that is sent. It travels in an HTTP/2 header, percent-encoded, and clients bound
/// their header lists (Go's default is 16 MiB, hyper's 16 KiB).
const MESSAGE_MAX: usize = 4096;

/// The gRPC code for a kind of failure.
pub fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::Internal => Code::Internal,
    }
}

/// The status that a caller gets: the code, and the whole chain of the error in one line.
pub fn of(error: &Error) -> Status {
    Status::new(code(error.kind()), one_line(&error.chain()))
}

/// The answer of an RPC that CRI v1 has and this version does not serve.
pub fn unimplemented(rpc: &str) -> Status {
    Status::unimplemented(format!("{rpc} is not served by this version of corten"))
}

/// `text` without control characters, cut at a bound.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MESSAGE_MAX));
    for c in text.chars() {
        if line.len() + c.len_utf8() > MESSAGE_MAX {
            line.push('…');
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_code_of_its_name() {
        for (kind, expected) in [
            (ErrorKind::NotFound, Code::NotFound),
            (ErrorKind::InvalidArgument, Code::InvalidArgument),
            (ErrorKind::AlreadyExists, Code::AlreadyExists),
            (ErrorKind::FailedPrecondition, Code::FailedPrecondition),
            (ErrorKind::PermissionDenied, Code::PermissionDenied),
            (ErrorKind::ResourceExhausted, Code::ResourceExhausted),
            (ErrorKind::DeadlineExceeded, Code::DeadlineExceeded),
            (ErrorKind::Unavailable, Code::Unavailable),
            (ErrorKind::Cancelled, Code::Cancelled),
            (ErrorKind::Unimplemented, Code::Unimplemented),
            (ErrorKind::Internal, Code::Internal),
        ] {
            assert_eq!(of(&Error::new(kind, "x")).code(), expected);
            assert_eq!(format!("{kind:?}"), format!("{expected:?}"));
        }
    }

    #[test]
    fn the_message_is_the_whole_chain_on_one_line() {
        let error = Error::new(ErrorKind::NotFound, "no such\nfile").context("cannot start container \"a\"");
        let status = of(&error);
        assert_eq!(status.message(), "cannot start container \"a\": no such file");
        assert_eq!(status.code(), Code::NotFound);
    }

    #[test]
    fn a_message_of_any_length_fits_a_header() {
        let status = of(&Error::internal("é".repeat(1 << 20)));
        assert!(status.message().len() <= MESSAGE_MAX + '…'.len_utf8());
        assert!(status.message().ends_with('…'));
    }

    #[test]
    fn what_is_not_served_names_the_rpc() {
        let status = unimplemented("CheckpointPod");
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().starts_with("CheckpointPod "));
    }
}
