//! Why boxoffice answers otherwise than nginx, as nginx 1.22 does with its defaults.

pub(super) const LINE_FEED: &str = "nginx takes a bare line feed for the end of a line, as section 2.2 allows: where another \
    program does not, one of them sees a field that the other one took for a part of a value";
pub(super) const EMPTY_LINES: &str = "nginx skips empty lines without end; section 2.2 asks for one, and a client that sends \
    them is to meet a limit";
pub(super) const HTTP_0_9: &str =
    "nginx takes it for HTTP/0.9, and answers without a head; boxoffice speaks no HTTP/0.9";
pub(super) const CARRIAGE_RETURN: &str = "nginx skips carriage returns before a request; section 2.2 knows a bare one only \
    as something to refuse";
pub(super) const CONTROL_BYTES: &str = "nginx passes on every control byte but NUL, CR and LF; RFC 9110 section 5.5 calls \
    them invalid, and logs and terminals read them";
pub(super) const DROPPED_FIELD: &str = "nginx drops the line and serves the rest; whoever is behind or before it may have \
    read it as a field, and section 5 knows no such line";
pub(super) const SPACES: &str = "nginx takes more spaces than the one that section 3 has, which calls leniency here a way to \
    smuggle";
pub(super) const TABS: &str =
    "nginx knows no tab around a value; section 5.1 has it among optional white space";
pub(super) const METHODS: &str = "nginx takes upper-case letters alone for a method, and calls all else, and CONNECT, \
    malformed; RFC 9110 section 9.1 asks for 501 where a method is not known";
pub(super) const EARLY: &str = "nginx refuses at the first lower-case letter of a method; boxoffice judges a whole head, so \
    that the outcome does not depend on how it was cut";
pub(super) const MINOR_VERSIONS: &str = "nginx takes every HTTP/1.x for HTTP/1.1, as RFC 9110 section 2.5 advises; there is \
    none above 1.1, so that who sends one is no client";
pub(super) const VERSION_STATUS: &str = "both refuse; boxoffice says by 505 that it is the version";
pub(super) const SCHEMES: &str = "nginx takes every scheme and port in a target; boxoffice serves http alone, and of https says (421) that the connection is not secured";
pub(super) const TARGET_BYTES: &str = "nginx passes on bytes that RFC 3986 wants escaped, and programs disagree on what \
    they mean: a fragment, a slash, an end";
pub(super) const ASTERISK: &str = "nginx knows no asterisk form, which section 3.2.4 has for OPTIONS";
pub(super) const NUL_ESCAPE: &str = "nginx refuses an escaped NUL, since it opens files by the path; boxoffice compares the \
    path and finds nothing by that name";
pub(super) const HOSTS: &str = "nginx takes nearly every text for a host; section 3.2 asks to refuse one that is invalid, \
    since caches and rules for hosts are keyed by it";
pub(super) const ENCODING_STATUS: &str =
    "both refuse; which of 400 and 501 is a matter of which fault is seen first";
pub(super) const SIZE_STATUS: &str =
    "both refuse; nginx calls a number that does not fit its own integers malformed";
pub(super) const EXPECTATIONS: &str = "nginx ignores every expectation but 100-continue; RFC 9110 section 10.1.1 has 417 \
    for it, and a client that waits for something else is told so";
pub(super) const EXPECTATION_TWICE: &str = "nginx refuses a second Expect field as a duplicate; its values are a list \
    (RFC 9110 section 5.3), in which 100-continue may stand twice";
pub(super) const EXPECTATION_STATUS: &str =
    "both refuse; nginx knows a second Expect field as a duplicate only";
pub(super) const CHUNKS: &str = "nginx reads chunk lines leniently: bare line feeds, and any bytes in extensions and \
    trailers; where two programs differ on where a chunk ends, one reads a request where the other reads data";
pub(super) const CHUNK_ZEROS: &str =
    "nginx takes leading zeros without end; boxoffice takes as many digits as 64 bits have";
pub(super) const BUFFERS: &str = "nginx holds whole lines in buffers of 8 KiB, the first one of 1 KiB, and calls a field that \
    is larger malformed; boxoffice has limits of their own for target and head, and says which was met";
pub(super) const FIELDS: &str =
    "nginx does not count fields; boxoffice bounds the work that a head can ask for";
pub(super) const CHUNK_OVERHEAD: &str = "nginx reads and drops extensions and trailers without end; here they are bounded, \
    as nothing is kept of them and they would hold a connection for ever";
