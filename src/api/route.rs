//! Paths to routes: which resource a target names, and which methods it takes. Knows no bodies and no ledger.

/// A resource of the client listener; names and ids are as they came, not checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'p> {
    /// `/buy/{sale}`.
    Buy {
        /// The sale.
        sale: &'p str,
    },
    /// `/v1/sales/{sale}`.
    Sale {
        /// The sale.
        sale: &'p str,
    },
    /// `/v1/sales/{sale}/bookings`.
    Bookings {
        /// The sale.
        sale: &'p str,
    },
    /// `/v1/sales/{sale}/bookings/{id}`.
    Booking {
        /// The sale.
        sale: &'p str,
        /// The booking.
        id: &'p str,
    },
    /// `/v1/sales/{sale}/bookings/{id}/confirm`.
    Confirm {
        /// The sale.
        sale: &'p str,
        /// The booking.
        id: &'p str,
    },
    /// `/v1/sales/{sale}/bookings/{id}/extend`.
    Extend {
        /// The sale.
        sale: &'p str,
        /// The booking.
        id: &'p str,
    },
    /// `/v1/sales/{sale}/bookings/{id}/release`.
    Release {
        /// The sale.
        sale: &'p str,
        /// The booking.
        id: &'p str,
    },
    /// `/v1/sales/{sale}/bookings/{id}/hold`.
    Hold {
        /// The sale.
        sale: &'p str,
        /// The booking.
        id: &'p str,
    },
    /// `/problems/{name}`.
    Problem {
        /// The problem's name.
        name: &'p str,
    },
    /// `/`.
    FrontPage,
}

/// What is before the first slash, and what follows it if there is one.
fn segment(path: &str) -> (&str, Option<&str>) {
    match path.bytes().position(|byte| byte == b'/') {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    }
}

impl<'p> Route<'p> {
    /// The resource at `path` (the target without its query), or `None` if there is none.
    pub fn find(path: &'p str) -> Option<Route<'p>> {
        if let Some(rest) = path.strip_prefix("/buy/") {
            let (sale, rest) = segment(rest);
            return rest.is_none().then_some(Route::Buy { sale });
        }
        if let Some(rest) = path.strip_prefix("/problems/") {
            let (name, rest) = segment(rest);
            return rest.is_none().then_some(Route::Problem { name });
        }
        let Some(rest) = path.strip_prefix("/v1/sales/") else {
            return (path == "/").then_some(Route::FrontPage);
        };
        let (sale, rest) = segment(rest);
        let Some(rest) = rest else { return Some(Route::Sale { sale }) };
        let rest = rest.strip_prefix("bookings")?;
        if rest.is_empty() {
            return Some(Route::Bookings { sale });
        }
        let (id, rest) = segment(rest.strip_prefix('/')?);
        match rest {
            None => Some(Route::Booking { sale, id }),
            Some("confirm") => Some(Route::Confirm { sale, id }),
            Some("extend") => Some(Route::Extend { sale, id }),
            Some("release") => Some(Route::Release { sale, id }),
            Some("hold") => Some(Route::Hold { sale, id }),
            Some(_) => None,
        }
    }

    /// The value of `Allow`: the methods that the resource takes.
    pub fn allow(self) -> &'static str {
        match self {
            // No HEAD: it must not buy, and its fields could not be those of a GET that does.
            Route::Buy { .. } => "GET, POST, OPTIONS",
            Route::Sale { .. } | Route::Problem { .. } | Route::FrontPage => "GET, HEAD, OPTIONS",
            Route::Bookings { .. }
            | Route::Confirm { .. }
            | Route::Extend { .. }
            | Route::Release { .. }
            | Route::Hold { .. } => "POST, OPTIONS",
            Route::Booking { .. } => "GET, HEAD, PUT, DELETE, OPTIONS",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_route() {
        let cases = [
            ("/buy/ticket", Some(Route::Buy { sale: "ticket" })),
            ("/buy/", Some(Route::Buy { sale: "" })),
            ("/v1/sales/a", Some(Route::Sale { sale: "a" })),
            ("/v1/sales/a/bookings", Some(Route::Bookings { sale: "a" })),
            ("/v1/sales/a/bookings/", Some(Route::Booking { sale: "a", id: "" })),
            ("/v1/sales/a/bookings/b", Some(Route::Booking { sale: "a", id: "b" })),
            ("/v1/sales/a/bookings/b/confirm", Some(Route::Confirm { sale: "a", id: "b" })),
            ("/v1/sales/a/bookings/b/extend", Some(Route::Extend { sale: "a", id: "b" })),
            ("/v1/sales/a/bookings/b/release", Some(Route::Release { sale: "a", id: "b" })),
            ("/v1/sales/a/bookings/b/hold", Some(Route::Hold { sale: "a", id: "b" })),
            ("/problems/sold-out", Some(Route::Problem { name: "sold-out" })),
            ("/", Some(Route::FrontPage)),
        ];
        for (path, route) in cases {
            assert_eq!(Route::find(path), route, "{path}");
        }
    }

    #[test]
    fn finds_nothing_elsewhere() {
        for path in [
            "//",
            "",
            "/buy",
            "/buy/a/b",
            "/v1/sales",
            "/v1/sales/a/",
            "/v1/sales/a/b",
            "/v1/sales/a/bookingsb",
            "/v1/sales/a/bookings/b/c",
            "/v1/sales/a/bookings/b/confirm/",
            "/v1/sales/a/bookings/b/confirm/c",
            "/problems/a/b",
            "/V1/sales/a",
        ] {
            assert_eq!(Route::find(path), None, "{path}");
        }
    }
}
