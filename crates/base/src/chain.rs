//! An error in one line.

/// An error with everything behind it: `open x: permission denied`.
///
/// For logs and for whoever runs the program; what strangers are told is the error's own sentence alone.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
