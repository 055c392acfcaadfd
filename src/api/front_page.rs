//! `GET /` of the clients' listener: what this server is and what it can be asked, for people in HTML and for programs in JSON.
//! Both are constants.

use crate::connection::{Answered, Reply};
use crate::http::encode::{Caching, Field, Response};
use crate::http::{Request, Status, accept};

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
    let is_html = prefers_html(request);
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

/// Whether Accept names HTML, and JSON with no greater weight.
fn prefers_html(request: &Request<'_>) -> bool {
    let html = accept::weight(request, "text/html");
    html > 0 && html >= accept::weight(request, JSON)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::{Route, openapi};

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
