//! What the server says of itself: an OpenAPI description for clients, and one for operators. Tests hold both against
//! the code, and `tests/integration/openapi.rs` against the answers.

/// What clients can ask, and each answer.
pub const CLIENTS: &str = include_str!("openapi.json");

/// The same for operators.
pub const OPERATORS: &str = include_str!("openapi-admin.json");

/// The paths that a description has, each with its methods, as tests compare them.
#[cfg(test)]
pub(crate) fn methods(description: &str) -> std::collections::BTreeMap<String, Vec<String>> {
    let description: serde_json::Value = serde_json::from_str(description).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let members = |item: &serde_json::Value| -> Vec<String> {
        let names = item.as_object().unwrap().keys();
        let methods = names.filter(|&name| name != "parameters").map(|name| name.to_uppercase());
        sorted(&methods.collect::<Vec<_>>().join(", "))
    };
    paths.iter().map(|(path, item)| (path.clone(), members(item))).collect()
}

/// The methods of an `Allow`, in alphabetical order.
#[cfg(test)]
pub(crate) fn sorted(allow: &str) -> Vec<String> {
    let mut methods: Vec<_> = allow.split(", ").map(str::to_owned).collect();
    methods.sort_unstable();
    methods
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::api::{Problem, Route};

    fn read(description: &str) -> Value {
        serde_json::from_str(description).unwrap()
    }

    /// The path of a route, as a description has it. A new route does not compile until it is here.
    fn template(route: Route<'_>) -> &'static str {
        match route {
            Route::Buy { .. } => "/buy/{sale}",
            Route::Sale { .. } => "/v1/sales/{sale}",
            Route::Bookings { .. } => "/v1/sales/{sale}/bookings",
            Route::Booking { .. } => "/v1/sales/{sale}/bookings/{id}",
            Route::Confirm { .. } => "/v1/sales/{sale}/bookings/{id}/confirm",
            Route::Extend { .. } => "/v1/sales/{sale}/bookings/{id}/extend",
            Route::Release { .. } => "/v1/sales/{sale}/bookings/{id}/release",
            Route::Hold { .. } => "/v1/sales/{sale}/bookings/{id}/hold",
            Route::Problem { .. } => "/problems/{name}",
            Route::FrontPage => "/",
        }
    }

    #[test]
    fn every_route_is_described_with_its_methods_and_no_other_is() {
        let (sale, id, name) = ("s", "b", "p");
        let routes = [
            Route::Buy { sale },
            Route::Sale { sale },
            Route::Bookings { sale },
            Route::Booking { sale, id },
            Route::Confirm { sale, id },
            Route::Extend { sale, id },
            Route::Release { sale, id },
            Route::Hold { sale, id },
            Route::Problem { name },
            Route::FrontPage,
        ];
        for route in routes {
            let found = Route::find(template(route)).unwrap();
            assert_eq!(std::mem::discriminant(&found), std::mem::discriminant(&route), "{route:?}");
        }
        let mut described = methods(CLIENTS);
        // HEAD is described there as what it is: refused.
        let buy = described.get_mut("/buy/{sale}").unwrap();
        buy.retain(|method| method != "HEAD");
        let served = routes.map(|route| (template(route).to_owned(), sorted(route.allow())));
        assert_eq!(described, served.into());
    }

    #[test]
    fn every_problem_is_in_both_descriptions() {
        let all: BTreeSet<String> =
            Problem::ALL.iter().map(|problem| format!("/problems/{}", problem.name)).collect();
        for description in [CLIENTS, OPERATORS] {
            let schemas = &read(description)["components"]["schemas"];
            for schema in ["Problem", "ProblemPage"] {
                let types = schemas[schema]["properties"]["type"]["enum"].as_array().unwrap();
                let types: BTreeSet<_> = types.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
                assert_eq!(types, all, "{schema}");
            }
        }
    }

    /// Each answer with problems names those of its own status.
    #[test]
    fn problems_are_described_with_the_status_they_have() {
        for description in [CLIENTS, OPERATORS] {
            let description = read(description);
            let mut told = BTreeSet::new();
            for (name, response) in description["components"]["responses"].as_object().unwrap() {
                let schema = &response["content"]["application/problem+json"]["schema"];
                let Some(narrow) = schema.pointer("/allOf/1/properties") else { continue };
                let status = narrow["status"]["const"].as_u64().unwrap();
                let types = match &narrow["type"]["enum"] {
                    Value::Null => vec![narrow["type"]["const"].clone()],
                    types => types.as_array().unwrap().clone(),
                };
                for kind in types {
                    let problem = kind.as_str().unwrap().strip_prefix("/problems/").and_then(Problem::find);
                    let problem = problem.unwrap_or_else(|| panic!("{name}: no problem {kind}"));
                    // What is wrong with HTTP itself has the status of its reason.
                    let is_of_http = problem == Problem::HTTP;
                    assert!(is_of_http || u64::from(problem.status().code()) == status, "{name}: {kind}");
                    let retry = response["headers"].get("Retry-After").is_some();
                    assert!(retry || !problem.retry_after(), "{name}: {kind} without Retry-After");
                    told.insert(problem.name);
                }
            }
            let of_operators = [
                Problem::TOTAL_TOO_LOW,
                Problem::EMPTY_WINDOW,
                Problem::SALE_NOT_CLOSED,
                Problem::SALE_UNSOUND,
                Problem::UNAUTHORIZED,
                Problem::FORBIDDEN,
                Problem::TOKEN_NEEDED,
                Problem::AUDIT_TOO_LARGE,
                Problem::PROFILE_RUNNING,
                Problem::PROFILE_FAILED,
            ]
            .map(|problem| problem.name);
            match description["components"].get("securitySchemes") {
                Some(_) => assert!(of_operators.iter().all(|name| told.contains(name)), "{told:?}"),
                None => {
                    let all: BTreeSet<_> = Problem::ALL.iter().map(|problem| problem.name).collect();
                    assert_eq!(told, &all - &of_operators.into());
                }
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(value: &Value, document: &Value) {
            if let Some(reference) = value.get("$ref") {
                let pointer = reference.as_str().and_then(|text| text.strip_prefix('#')).unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            match value {
                Value::Object(members) => members.values().for_each(|value| walk(value, document)),
                Value::Array(values) => values.iter().for_each(|value| walk(value, document)),
                _ => {}
            }
        }
        for description in [CLIENTS, OPERATORS] {
            let description = read(description);
            walk(&description, &description);
            assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
        }
    }

    #[test]
    fn the_alphabet_and_the_bounds_are_those_of_the_code() {
        use crate::limits;
        for description in [CLIENTS, OPERATORS] {
            let description = read(description);
            let id = &description["components"]["schemas"]["Id"];
            assert_eq!(id["maxLength"], limits::IDENTIFIER_BYTES_MAX);
            let sale = &description["components"]["schemas"]["Sale"]["properties"];
            assert_eq!(sale["total"]["maximum"], limits::STOCK_MAX);
        }
        let clients = read(CLIENTS);
        let wish = &clients["components"]["schemas"]["Wish"]["properties"];
        assert_eq!(wish["quantity"]["maximum"], limits::QUANTITY_MAX);
        let operators = read(OPERATORS);
        let terms = &operators["components"]["schemas"]["Terms"]["properties"];
        assert_eq!(terms["total"]["maximum"], limits::STOCK_MAX);
        assert_eq!(terms["hold_seconds"]["maximum"], limits::HOLD_MS_MAX / 1000);
        assert_eq!(terms["hold_max_seconds"]["maximum"], limits::HOLD_MS_MAX / 1000);
        let body = |path: &str| {
            let path = &clients["paths"][format!("/v1/sales/{{sale}}/bookings/{{id}}/{path}")];
            path["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"].clone()
        };
        assert_eq!(body("extend")["seconds"]["maximum"], limits::HOLD_MS_MAX / 1000);
        assert_eq!(body("release")["remaining"]["maximum"], limits::QUANTITY_MAX);
        let told = &operators["components"]["schemas"]["Bookings"]["properties"]["bookings"];
        assert_eq!(told["maxItems"], limits::BUYER_BOOKINGS_MAX);
        let (buyer, booking) = ("/components/schemas/Buyer", "/components/schemas/Booking");
        for schema in [buyer, booking] {
            assert_eq!(
                operators.pointer(schema).unwrap(),
                clients.pointer(schema).unwrap(),
                "as clients get it"
            );
        }
        let seconds = &operators["paths"]["/debug/profile"]["post"]["parameters"][0]["schema"];
        assert_eq!(seconds["maximum"], limits::PROFILE_SECONDS_MAX);
    }
}
