//! The payment provider: a stand-in that can be told to fail, until a real integration takes its place.

use greenroom::{Error, Result};

/// What the provider is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge<'a> {
    /// The same in every attempt of one payment, so that the provider charges once.
    pub(super) key: &'a str,
    /// Which attempt this is, from 1.
    pub(super) attempt: u32,
    /// How many attempts fail before one goes through.
    pub(super) fail_times: u32,
}

/// Charges the customer and answers the provider's reference. Retryable error while the provider
/// is told to fail.
pub(super) fn charge(charge: Charge<'_>) -> Result<String> {
    if charge.attempt <= charge.fail_times {
        return Err(Error::new(format!(
            "the payment provider did not answer (told to fail {} times, this was attempt {})",
            charge.fail_times, charge.attempt
        ))
        .code("payment_unavailable"));
    }
    Ok(format!("pay-{}", charge.key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fails_as_often_as_told_and_then_charges_under_one_reference() {
        let attempt = |attempt| charge(Charge { key: "order-3-9", attempt, fail_times: 2 });
        assert!(!attempt(1).unwrap_err().is_terminal());
        assert!(!attempt(2).unwrap_err().is_terminal());
        assert_eq!(attempt(3).unwrap(), "pay-order-3-9");
        assert_eq!(attempt(4).unwrap(), attempt(3).unwrap());
    }
}
