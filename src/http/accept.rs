//! What the values of Accept prefer (RFC 9110 section 12.5.1), for the few resources that come in two forms.

use super::Request;

/// The weight that a request gives a media type by its name, in thousandths; 0 if it does not name it. A wildcard names none:
/// curl sends one.
pub fn weight(request: &Request<'_>, media_type: &str) -> u32 {
    weight_in(request.field_values("Accept"), media_type)
}

fn weight_in<'a>(values: impl Iterator<Item = &'a [u8]>, media_type: &str) -> u32 {
    let ranges = values.flat_map(|value| value.split(|&byte| byte == b','));
    let weights = ranges.filter_map(|range| {
        let mut parts = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let is_named = parts.next()?.eq_ignore_ascii_case(media_type.as_bytes());
        let weight = parts.find_map(|part| part.strip_prefix(b"q=").or(part.strip_prefix(b"Q=")));
        is_named.then(|| weight.map_or(1_000, thousandths))
    });
    weights.max().unwrap_or(0)
}

/// A weight, `0.8`, in thousandths (section 12.4.2); what is none counts as 0.
fn thousandths(weight: &[u8]) -> u32 {
    let weight = std::str::from_utf8(weight).ok().and_then(|text| text.parse::<f32>().ok());
    weight.filter(|weight| (0.0..=1.0).contains(weight)).map_or(0, |weight| (weight * 1_000.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_the_greatest_weight_it_is_named_with() {
        let weight = |values: &[&str]| weight_in(values.iter().map(|value| value.as_bytes()), "text/html");
        for (values, expected) in [
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"][..], 1_000),
            (&["Text/HTML; charset=utf-8 ;q=0.5"], 500),
            (&["text/html;q=0.25", "*/*, text/html;Q=0.4"], 400),
            (&["text/html;version=1.0.0;q=0.3 , text/plain"], 300),
            (&[], 0),
            (&["", "*/*", "text/*", ","], 0),
            (&["application/json"], 0),
            (&["text/html;q=0"], 0),
            (&["text/html;q=0.000, */*"], 0),
            (&["text/html;q=high", "text/html;q=7", "text/html;q=-1", "text/html;q=NaN"], 0),
            (&["text/htmlx, xtext/html"], 0),
        ] {
            assert_eq!(weight(values), expected, "{values:?}");
        }
    }
}
