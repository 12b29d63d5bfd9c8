//! The currencies there are: ISO 4217, active codes with minor units, as of 2026.

use utoipa::openapi::{ObjectBuilder, RefOr, Schema, schema::Type};

/// In alphabetical order.
const CODES: [&str; 155] = [
    "AED", "AFN", "ALL", "AMD", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BHD", "BIF", "BMD", "BND",
    "BOB", "BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF", "CHF", "CLP", "CNY", "COP", "CRC", "CUP", "CVE",
    "CZK", "DJF", "DKK", "DOP", "DZD", "EGP", "ERN", "ETB", "EUR", "FJD", "FKP", "GBP", "GEL", "GHS", "GIP", "GMD",
    "GNF", "GTQ", "GYD", "HKD", "HNL", "HTG", "HUF", "IDR", "ILS", "INR", "IQD", "IRR", "ISK", "JMD", "JOD", "JPY",
    "KES", "KGS", "KHR", "KMF", "KPW", "KRW", "KWD", "KYD", "KZT", "LAK", "LBP", "LKR", "LRD", "LSL", "LYD", "MAD",
    "MDL", "MGA", "MKD", "MMK", "MNT", "MOP", "MRU", "MUR", "MVR", "MWK", "MXN", "MYR", "MZN", "NAD", "NGN", "NIO",
    "NOK", "NPR", "NZD", "OMR", "PAB", "PEN", "PGK", "PHP", "PKR", "PLN", "PYG", "QAR", "RON", "RSD", "RUB", "RWF",
    "SAR", "SBD", "SCR", "SDG", "SEK", "SGD", "SHP", "SLE", "SOS", "SRD", "SSP", "STN", "SVC", "SYP", "SZL", "THB",
    "TJS", "TMT", "TND", "TOP", "TRY", "TTD", "TWD", "TZS", "UAH", "UGX", "USD", "UYU", "UZS", "VED", "VES", "VND",
    "VUV", "WST", "XAF", "XCD", "XCG", "XOF", "XPF", "YER", "ZAR", "ZMW", "ZWG",
];

/// Refuses a code that names no currency.
pub(super) fn known(code: &str, _: &()) -> garde::Result {
    match CODES.binary_search(&code) {
        Ok(_) => Ok(()),
        Err(_) => Err(garde::Error::new("not an ISO 4217 currency code in upper case, such as EUR")),
    }
}

/// The codes as an OpenAPI enumeration.
pub(super) fn schema() -> RefOr<Schema> {
    let codes = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(CODES));
    codes.description(Some("ISO 4217, upper case.")).examples(["EUR"]).build().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_well_formed() {
        assert!(CODES.is_sorted_by(|a, b| a < b));
        assert!(CODES.iter().all(|code| code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase())));
    }

    #[test]
    fn only_codes_in_upper_case_are_known() {
        assert!(known("EUR", &()).is_ok() && known("JPY", &()).is_ok());
        for wrong in ["eur", "EU", "ABC", "", "EURO", "€"] {
            assert!(known(wrong, &()).is_err(), "{wrong}");
        }
    }
}
