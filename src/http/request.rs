//! A request as the API sees it: borrowed from the bytes that arrived, whole body included.

/// The methods that are known here; what each target allows is the API's to say. Any other is refused at the head: what
/// would follow it is not known either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD: answered with the fields of GET and no body.
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// OPTIONS
    Options,
    /// PATCH: taken by no target.
    Patch,
    /// TRACE: taken by no target.
    Trace,
    /// QUERY: taken by no target.
    Query,
}

impl Method {
    pub(super) fn from_name(name: &str) -> Option<Method> {
        // Methods are case-sensitive (RFC 9110 section 9.1).
        Some(match name.as_bytes() {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            b"PATCH" => Method::Patch,
            b"TRACE" => Method::Trace,
            b"QUERY" => Method::Query,
            _ => return None,
        })
    }

    /// Whether it asks for no change (RFC 9110 section 9.2.1). What the target makes of it is another
    /// matter: `GET /buy/{sale}` books.
    pub fn is_safe(self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Options | Method::Trace | Method::Query)
    }
}

/// The two versions spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: closes unless asked to keep alive.
    Http10,
    /// HTTP/1.1: keeps alive unless asked to close.
    Http11,
}

/// One request. Everything is borrowed: keep what outlives the call by copying it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What is asked.
    pub method: Method,
    /// The method as it was sent.
    pub method_name: &'a str,
    /// The path, still percent-encoded, with its leading slash; `*` for `OPTIONS *`. Valid by RFC 3986.
    pub path: &'a str,
    /// What follows the first `?`, still percent-encoded.
    pub query: Option<&'a str>,
    /// Of the request.
    pub version: Version,
    /// The decoded body, at most as many bytes as the limit `body-bytes` allows.
    pub body: &'a [u8],
    /// Whether it has If-Match or If-None-Match, which are rare: see [`precondition`](super::precondition).
    pub is_conditional: bool,
    /// Whether it has a Content-Range: its body is a part of something (RFC 9110 section 14.4).
    pub is_partial: bool,
    pub(crate) fields: &'a [httparse::Header<'a>],
}

impl<'a> Request<'a> {
    /// The value of the first field of that name (in any case), without the white space around it. Where a
    /// second one matters, look at [`Request::field_values`].
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.field_values(name).next()
    }

    /// The values of every field of that name, in their order.
    pub fn field_values<'n>(&self, name: &'n str) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a, 'n> {
        self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }
}

/// A request that outlives the bytes that it came in: for a service on another thread.
#[derive(Clone, Debug)]
pub struct KeptRequest {
    /// As of the request.
    pub path: String,
    method: Method,
    method_name: String,
    query: Option<String>,
    version: Version,
    body: Vec<u8>,
    is_conditional: bool,
    is_partial: bool,
    fields: Vec<(String, Vec<u8>)>,
}

impl Request<'_> {
    /// Copies it.
    pub fn keep(&self) -> KeptRequest {
        KeptRequest {
            path: self.path.to_owned(),
            method: self.method,
            method_name: self.method_name.to_owned(),
            query: self.query.map(str::to_owned),
            version: self.version,
            body: self.body.to_owned(),
            is_conditional: self.is_conditional,
            is_partial: self.is_partial,
            fields: self.fields.iter().map(|field| (field.name.to_owned(), field.value.to_owned())).collect(),
        }
    }
}

impl KeptRequest {
    /// Shows it to `look`.
    pub fn with<R>(&self, look: impl FnOnce(&Request<'_>) -> R) -> R {
        let fields: Vec<_> =
            self.fields.iter().map(|(name, value)| httparse::Header { name, value }).collect();
        look(&Request {
            method: self.method,
            method_name: &self.method_name,
            path: &self.path,
            query: self.query.as_deref(),
            version: self.version,
            body: &self.body,
            is_conditional: self.is_conditional,
            is_partial: self.is_partial,
            fields: &fields,
        })
    }
}
