//! Why an operator's request is not done, as the answer says.

use super::profile::ProfileError;
use crate::api::Problem;
use crate::protocol::CallError;

/// A request that can't be done, as the answer says.
pub(super) struct ApiError {
    pub(super) problem: Problem,
    pub(super) detail: Option<String>,
}

impl ApiError {
    pub(super) fn new(problem: Problem, detail: impl Into<String>) -> ApiError {
        ApiError { problem, detail: Some(detail.into()) }
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> ApiError {
        ApiError { problem, detail: None }
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> ApiError {
        let problem = match error {
            CallError::Refused(_) => Problem::LEDGER_UNAVAILABLE,
            CallError::Unsound(_) => Problem::SALE_UNSOUND,
            CallError::Unknown(_) | CallError::Garbled(_) => Problem::OUTCOME_UNKNOWN,
        };
        ApiError::new(problem, error.to_string())
    }
}

impl From<ProfileError> for ApiError {
    fn from(error: ProfileError) -> ApiError {
        let problem = match error {
            ProfileError::Running => Problem::PROFILE_RUNNING,
            ProfileError::Take(_) | ProfileError::Draw(_) => Problem::PROFILE_FAILED,
        };
        ApiError::new(problem, error.to_string())
    }
}
