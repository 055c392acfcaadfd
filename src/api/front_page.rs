//! `GET /` of the clients' listener: what this server is and what it can be asked, for people in HTML and for programs in JSON.
//! Both are constants.

use crate::connection::{Answered, Reply};
use crate::http::encode::{Caching, Field, Response};
use crate::http::{Request, Status};

use super::encode::JSON;

/// For people.
const HTML: &str = include_str!("front_page.html");

/// For programs.
const SHORT: &str = concat!(
    r#"{"server":"boxoffice","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#"","about":"Sells tickets: a sale is at /v1/sales/NAME, a booking at /v1/sales/NAME/bookings/ID. The API in full, as "#,
    r#"OpenAPI 3.1, is at /openapi.json of the operators' listener.","problem":"/problems/sold-out"}"#
);

/// The page has no script and no style, and loads nothing.
const FIELDS_OF_HTML: &[Field<'_>] = &[
    ("Vary", "Accept"),
    (
        "Content-Security-Policy",
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
];

/// Answers with the page that the client prefers.
pub fn front_page(request: &Request<'_>, reply: Reply<'_>) -> Answered {
    let is_html = prefers_html(request.field_values("Accept"));
    let (content_type, fields, body) = match is_html {
        true => ("text/html; charset=utf-8", FIELDS_OF_HTML, HTML),
        false => (JSON, &FIELDS_OF_HTML[..1], SHORT),
    };
    reply.send(&Response {
        status: Status::Ok,
        content_type,
        caching: Caching::Day,
        fields,
        body: body.as_bytes(),
    })
}

/// Whether the values of Accept (RFC 9110 section 12.5.1) name HTML, and JSON with no greater weight. A wildcard names neither:
/// curl sends one.
fn prefers_html<'a>(values: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut html, mut json) = (0, 0);
    for range in values.flat_map(|value| value.split(|&byte| byte == b',')) {
        let mut parts = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let kind = parts.next().unwrap_or_default();
        let weight = match parts
            .find_map(|parameter| parameter.strip_prefix(b"q=").or(parameter.strip_prefix(b"Q=")))
        {
            Some(weight) => thousandths(weight),
            None => 1_000,
        };
        if kind.eq_ignore_ascii_case(b"text/html") {
            html = html.max(weight);
        } else if kind.eq_ignore_ascii_case(JSON.as_bytes()) {
            json = json.max(weight);
        }
    }
    html > 0 && html >= json
}

/// A weight, `0.8`, in thousandths (RFC 9110 section 12.4.2); what is none counts as 0.
fn thousandths(weight: &[u8]) -> u32 {
    let weight = std::str::from_utf8(weight).ok().and_then(|text| text.parse::<f32>().ok());
    weight.filter(|weight| (0.0..=1.0).contains(weight)).map_or(0, |weight| (weight * 1_000.0).round() as u32)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::{Route, openapi};

    fn prefers(values: &[&str]) -> bool {
        prefers_html(values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn browsers_get_html_and_programs_do_not() {
        for values in [
            &["text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"][..],
            &["text/html"],
            &["Text/HTML; charset=utf-8 ;q=0.5"],
            &["application/json;q=0.4", "*/*, text/html;q=0.4"],
        ] {
            assert!(prefers(values), "{values:?}");
        }
        for values in [
            &[][..],
            &[""],
            &["*/*"],
            &["text/*"],
            &["application/json"],
            &["application/json, text/html;q=0.9"],
            &["text/html;q=0"],
            &["text/html;q=0.000, */*"],
            &["text/html;q=high"],
            &["text/html;q=7"],
            &["text/htmlx, xtext/html"],
        ] {
            assert!(!prefers(values), "{values:?}");
        }
    }

    /// Every request of the description is in the table of the page, and no other.
    #[test]
    fn the_page_has_every_request() {
        let told: BTreeSet<&str> =
            HTML.split("<td><code>").skip(1).map(|rest| rest.split('<').next().unwrap()).collect();
        let described: BTreeSet<String> = openapi::methods(openapi::CLIENTS)
            .into_iter()
            .filter(|(path, _)| path != "/")
            .flat_map(|(path, methods)| methods.into_iter().map(move |method| format!("{method} {path}")))
            .filter(|request| !request.starts_with("HEAD ") && !request.starts_with("OPTIONS "))
            .collect();
        assert_eq!(told, described.iter().map(String::as_str).collect());
    }

    #[test]
    fn each_link_leads_to_a_route() {
        let short: serde_json::Value = serde_json::from_str(SHORT).unwrap();
        let links = [short["problem"].as_str().unwrap(), "/v1/sales/NAME", "/v1/sales/NAME/bookings/ID"];
        assert!(links[1..].iter().all(|path| short["about"].as_str().unwrap().contains(path)), "{short}");
        let of_page = HTML.split("href=\"/").skip(1).map(|rest| rest.split('"').next().unwrap());
        let of_page: Vec<String> = of_page.map(|path| format!("/{path}")).collect();
        assert!(!of_page.is_empty());
        for link in of_page.iter().map(String::as_str).chain(links) {
            assert!(Route::find(link).is_some(), "{link}");
        }
    }

    /// What the policy forbids is not there: the console of a browser stays empty.
    #[test]
    fn the_page_needs_nothing_that_its_policy_forbids() {
        for word in ["<script", "<style", "style=", "src=", "<form", "http:", "https:"] {
            assert!(!HTML.contains(word), "{word}");
        }
    }
}
