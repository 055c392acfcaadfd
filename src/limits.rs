//! The bounds that clients, operators and ledgers can meet: each with its value, its unit and its reason. Sizes that only
//! their own module can notice (of a pool, of a first table) are in that module.
//!
//! Those that clients meet are defaults: [`ClientLimits`] holds what the operator configured. Relations between bounds are
//! asserted at compile time at the end of the file, those between configured ones by [`ClientLimits::check`].

mod clients;

pub use clients::{ClientLimits, Contradiction, Limit, REQUEST_LINE_SPARE_BYTES, Unit};

/// Longest identifier (sale, booking, key, buyer), in bytes: a 36-byte UUID with room for a prefix.
pub const IDENTIFIER_BYTES_MAX: usize = 64;

/// Max tickets of one booking. Far above any honest basket; keeps sums inside `u64` and Lua's 53-bit integers.
pub const QUANTITY_MAX: u32 = 1_000_000;

/// Max tickets of one sale: its sums stay exact in Lua's doubles (2^53) with a wide margin.
pub const STOCK_MAX: u64 = 1_000_000_000_000;

/// The largest number of a log entry that JSON and Lua have exactly (2^53 - 1): a thousand years at 285,000 changes a second.
pub const SEQUENCE_MAX: u64 = (1 << 53) - 1;

/// Longest hold, in milliseconds (30 days): beyond it a hold is a sale.
pub const HOLD_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;

/// Bytes of a request target (RFC 9112 section 3 advises to support at least 8,000).
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Bytes of a request head, request line included: the longest target, and as much again for the fields that browsers
/// and proxies send.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Header fields of one request: browsers send under 30, proxies add a few.
pub const FIELDS_MAX: usize = 100;

/// Max header fields that can be configured: room for them is on the stack while a head is parsed.
pub const FIELDS_CEILING: usize = 256;

/// Bytes of a request body after decoding: a booking's JSON is under 300.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Bytes of chunk extensions plus trailers that a chunked body may carry: they are read and dropped.
pub const CHUNK_OVERHEAD_BYTES_MAX: usize = 8 * 1024;

/// Empty lines accepted before a request line (RFC 9112 section 2.2 asks for at least one).
pub const LEADING_EMPTY_LINES_MAX: usize = 4;

/// From the first byte of a head to its last, in milliseconds: in total, so that dribbling buys no time. For the first head
/// of a connection it runs from the connection's beginning, so that silence buys none either. A head is a packet or two,
/// which even a bad mobile network delivers in a few seconds.
pub const HEAD_TIMEOUT_MS: u64 = 10_000;

/// From the end of a head to the end of its body, in milliseconds: in total, for 64 KiB at 6.5 KiB/s.
pub const BODY_TIMEOUT_MS: u64 = 10_000;

/// How long a kept-alive connection may idle, in milliseconds: longer than Nginx keeps an upstream (60 s),
/// so that Nginx closes first and never sends into a closing connection.
pub const IDLE_TIMEOUT_MS: u64 = 75_000;

/// How long a client may leave written bytes unread, in milliseconds: the kernel's buffers are full by then.
pub const WRITE_STALL_TIMEOUT_MS: u64 = 10_000;

/// How long a closing connection is still read, so that a refused upload can read its answer, in milliseconds: a few
/// round trips.
pub const LINGER_TIMEOUT_MS: u64 = 2_000;

/// Longest lingering that can be configured, in milliseconds: a drain waits for it.
pub const LINGER_CEILING_MS: u64 = 4_000;

/// Requests of one connection, after which it is closed; 0 for no limit. Connections cannot be moved between loops, but new
/// ones are distributed again, so that a long-lived crowd evens out. At a thousand requests a second it costs a handshake
/// every 100 s.
pub const REQUESTS_PER_CONNECTION_MAX: u32 = 100_000;

/// Requests of one connection whose answers are not written yet; beyond that the connection is not read.
pub const PIPELINE_DEPTH_MAX: usize = 128;

/// Bytes read from one connection in one go; the buffer belongs to the core, not to the connection.
pub const READ_CHUNK_BYTES: usize = 64 * 1024;

/// Unwritten answer bytes of one connection above which it is not read any more: some 350 refusals, and beside them the
/// answer that exceeds it, in a buffer of 64 KiB. The kernel holds more than that for a client that is slow to read.
pub const UNSENT_BYTES_MAX: usize = 48 * 1024;

/// Connections of a host, on all its loops together: at about 1 KiB each in this process, and a few in the kernel, far
/// below what a small machine has. The limit of open files bounds them too.
pub const CONNECTIONS_MAX: usize = 100_000;

/// Connections of one peer address, 0 for no limit. Off: behind Nginx every client has the address of Nginx, and many
/// people share one behind a carrier's NAT. For hosts that clients reach directly.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 0;

/// Bytes of buffers that the connections of one core hold: remainders of requests, answers that wait for their turn,
/// unsent output. Room for 1,000 bodies of the largest size at once (buffers come in sizes, theirs is 256 KiB), or for
/// 250,000 dribbled heads, or for 2,000 clients that read nothing of what they ask for.
pub const BUFFERED_BYTES_PER_CORE_MAX: usize = 256 << 20;

/// Networks of trusted proxies: each is compared with the peer of each new connection, and with each address that a proxy names.
/// Content delivery networks publish up to two hundred.
pub const TRUSTED_PROXIES_MAX: usize = 1_000;

/// Elements of `X-Forwarded-For` that are looked at, from the right: more proxies than any request goes through.
pub const FORWARDED_HOPS_MAX: usize = 32;

/// Longest element of `X-Forwarded-For` that may be an address, in bytes: one of IPv6 that is written with an IPv4 address in it,
/// in brackets and with a port, has 53.
pub const FORWARDED_ELEMENT_BYTES_MAX: usize = 64;

/// Bytes of a PROXY header, and what its proxy tells beside the addresses: as much as Nginx takes.
pub const PROXY_HEADER_BYTES_MAX: usize = 4 * 1024;

/// How often a loop says in the log that it turned away peers that are no trusted proxies, in milliseconds: strangers must not be
/// able to fill it.
pub const STRANGERS_LOG_MS: u64 = 60_000;

/// File descriptors kept free of clients: standard streams, the ledger, the access log, operators' connections.
pub const DESCRIPTORS_RESERVED: usize = 32;
/// And for each core: its listener, its epoll instance, its waker, its ledger connection and the next one, and one for a
/// client that is answered "overloaded".
pub const DESCRIPTORS_RESERVED_PER_CORE: usize = 8;

/// Connections taken from the listener in one loop turn, so that accepting never starves those accepted.
pub const ACCEPTS_PER_TURN_MAX: usize = 64;

/// Connections that are timed out in one loop turn. Each costs some 20 to 50 us of the kernel's time, so a crowd that times
/// out at once would keep every other client waiting; the rest has its turn after the others have had theirs.
pub const TIMEOUTS_PER_TURN_MAX: usize = 2;

/// Connections that are looked up at once as those that hold most of what their clients do not read: one look at all of a
/// core's connections, some milliseconds with 100,000 of them, for that many that are cut.
pub const UNREAD_LOOKED_UP_MAX: usize = 256;

/// How long a core that is short of room waits before it looks again for clients that do not read, if it found none, in
/// milliseconds: its buffers are then full of half requests, which their own time limits end.
pub const UNREAD_LOOK_MS: u64 = 100;

/// One part of an answer that goes on, in bytes: that much of it is kept for a client that does not read, and no more.
pub const STREAM_PART_BYTES_MAX: usize = 64 * 1024;

/// Events taken from the kernel in one loop turn.
pub const EVENTS_PER_TURN_MAX: usize = 1024;

/// Bookings of one core that wait for the ledger; above that a request is refused as overloaded.
pub const WAITING_PER_CORE_MAX: usize = 32 * 1024;

/// Entries of one ledger call: at about 3 us of Redis time each, a call stays under a millisecond.
pub const ENTRIES_PER_CALL_MAX: usize = 256;

/// Ledger calls of one sale and one core in flight at which the sale's next batch waits and gathers. What has gathered then
/// leaves whole, in as many calls as it takes.
pub const CALLS_IN_FLIGHT_MAX: usize = 1;

/// How long the oldest call may be in flight before the ledger counts as silent, in milliseconds: "no permit" then means
/// "can't tell", not "sold out".
pub const LEDGER_SLOW_MS: u64 = 500;

/// Bookings of one core that are being cancelled on the desk's own behalf at once: 12 ms at 3 us of Redis time each, so
/// that a crowd whose connections all broke does not delay those who book. The next sync goes on with the rest.
pub const ORPHANS_AT_ONCE_MAX: usize = 4 * 1024;

/// Bookings of one core that are to be cancelled and whose sales the ledger no longer has, at 80 bytes each: as many as may
/// have been waiting for its answer when it was gone.
pub const ORPHANS_SET_ASIDE_MAX: usize = WAITING_PER_CORE_MAX;

/// Ledger calls that share one SQLite transaction: bounds how long the first of them waits for the last.
pub const CALLS_PER_TRANSACTION_MAX: usize = 256;

/// How often the levels of the sales are read from the ledger, in milliseconds.
pub const SYNC_INTERVAL_MS: u64 = 200;

/// How long a sale that was announced as changed may go on changing without being announced again, in milliseconds: hosts
/// read it again at their next sync. Half a sync, so that a sale that changes all the time costs its ledger ten
/// announcements a second and each host one read per sync.
pub const ANNOUNCE_MS: u64 = 100;

/// How long after an announcement a sale is read again, in milliseconds: half as long again as [`ANNOUNCE_MS`], since the
/// ledger's clock may go back by so little that nobody notices.
pub const SETTLED_MS: u64 = ANNOUNCE_MS * 3 / 2;

/// By how much the ledger's clock must have gone back to be noticed, in milliseconds: more than two readings differ by
/// rounding.
pub const CLOCK_BACK_MS_MIN: i64 = 5;

/// Announced sales of one answer: 1,000 names cost Redis some 0.3 ms, and 20,000 sales that are opened at once 20 calls.
pub const CHANGES_PER_CALL_MAX: usize = 1_000;

/// Announcements that a ledger keeps, in numbers of its feed. A host that is further behind reads everything again: at
/// 20,000 announcements a second, one that was silent for 50 s.
pub const CHANGES_KEPT: u64 = 1_000_000;

/// How often each sale is read even if nothing was announced of it, in milliseconds, and the ledger is asked which sales
/// there are: for what was changed without the ledger's scripts, or was not announced for want of a key or a right. With
/// 20,000 sales that is 333 reads a second per host, some 0.3 % of Redis' time.
pub const SLOW_ROUND_MS: u64 = 60_000;

/// How often a host asks which sales there are, in milliseconds, although the feed announces new ones: a ledger that has
/// lost everything counts its feed from the start again, perhaps up to the number that the host knows. 20,000 names cost
/// Redis some 5 ms.
pub const LIST_INTERVAL_MS: u64 = 5_000;

/// Sales that one call reports as known.
pub const RECALLED_PER_CALL_MAX: usize = 500;

/// How long a ledger must have had its name before a host that starts opens sales in it, in milliseconds. One that has just
/// got its name may have lost everything: by then each live host has connected to it again ([`RECONNECT_MS_LAST`],
/// [`DIAL_TIMEOUT_MS`]), has noticed ([`SYNC_INTERVAL_MS`]) and has named the sales that it knows.
pub const NEW_LEDGER_MS: u64 = 2_000;

/// How often a host compares the sales that it knows with those of its state file, in milliseconds.
pub const STATE_INTERVAL_MS: u64 = 500;

/// Ledgers in one state file.
pub const STATE_LEDGERS_MAX: usize = 64;

/// Rows that one call of `sale remove` removes from a SQLite file.
pub const REMOVED_PER_CALL: usize = 5_000;

/// Entries in the ledger's list of sales that are not names of which a host warns, each once: whoever wrote more has been
/// told.
pub const ODD_NAMES_MAX: usize = 100;

/// Sales that a host reads in one sync, all its cores together; the rest waits for the next one. 20,000 sales that are
/// opened at once are read within a second, by 8 hosts at once for a third of Redis' time.
pub const READS_PER_SYNC_MAX: usize = 4_096;

/// How many reads a sweep of a sale with holds counts as: it is a script, and a script costs Redis 8 to 10 us.
pub const READS_PER_SWEEP: usize = 4;

/// Snapshots of one core in flight at once, so that a host of many sales does not flood its ledger.
pub const SNAPSHOTS_IN_FLIGHT_MAX: usize = 256;

/// Sales of one ledger that a host follows.
pub const SALES_MAX: usize = 100_000;

/// How often a host says in the ledger that it lives, in milliseconds: every other sync. It takes Redis 8 us, and 1.4 us
/// for each host.
pub const HOST_BEAT_MS: u64 = 400;

/// Silence after which a host has no share any more, in milliseconds: with a beat of another host on top it is out of the
/// shares within 2 s. Three beats that were not heard.
pub const HOST_GONE_MS: u64 = 1_400;

/// Silence after which a host is no longer named, in milliseconds: until then operators see which one is gone.
pub const HOST_FORGOTTEN_MS: u64 = 60_000;

/// Sales whose permits a host adds up for its beat: a cache miss for each of them and each core, on a loop.
pub const PERMITS_SUMMED_SALES_MAX: usize = 1_000;

/// Bytes of an address that a host tells to others: a name of DNS, a colon and a port.
pub const ADVERTISED_BYTES_MAX: usize = 259;

/// Bytes of the version that a host tells to others: `1.22.333-rc.1+build`, with a lot to spare.
pub const VERSION_BYTES_MAX: usize = 64;

/// Requests of one core that wait for a permit while other hosts have some: half of [`WAITING_PER_CORE_MAX`], so that a crowd
/// of them keeps nobody from confirming.
pub const STANDING_PER_CORE_MAX: usize = WAITING_PER_CORE_MAX / 2;

/// Requests that a core lets go on, or refuses, in one turn because a permit came or the last ticket went: they take some 2
/// us each.
pub const STANDING_MOVED_PER_TURN_MAX: usize = 1_024;

/// How often a core looks for permits that other cores of its host gave back, in milliseconds, while requests wait for one.
pub const STANDING_LOOK_MS: u64 = 5;

/// Largest weight of a host; weights only matter beside each other, and Nginx takes whole numbers.
pub const WEIGHT_MAX: u32 = 10_000;

/// Max spare permits of a host, as a part of its stock: above ten times the stock the buffer bounds nothing.
pub const BUFFER_MAX: f64 = 10.0;

/// Min and max wait of a client for the ledger that can be configured, in milliseconds: below the first a healthy ledger
/// would often miss it, above the second clients and Nginx have long given up.
pub const LEDGER_TIMEOUT_MS_MIN: u64 = 10;
/// See [`LEDGER_TIMEOUT_MS_MIN`].
pub const LEDGER_TIMEOUT_MS_MAX: u64 = 60_000;

/// Pause before a call is sent again that a node of a Cluster could not carry out while its slot moves: a script is refused for
/// as long as some keys of its slot are on one node and some on the other.
pub const SLOT_PAUSE_MS: u64 = 20;

/// How often a call is sent on to where a node says that its slot is before a [pause](SLOT_PAUSE_MS) comes first: nodes may tell
/// of each other what is not true any more.
pub const REDIRECTS_AT_ONCE: u32 = 3;

/// How often a call is sent on, or again, at most: then it is refused. About two seconds, as no slot takes longer to move one
/// sale of a million bookings.
pub const REDIRECTS_MAX: u32 = 100;

/// First and longest pause before the ledger is dialled again, in milliseconds; jitter comes on top.
pub const RECONNECT_MS_FIRST: u64 = 10;
/// See [`RECONNECT_MS_FIRST`]: sales go on within a second of the ledger's return.
pub const RECONNECT_MS_LAST: u64 = 500;

/// How long establishing a connection to the ledger may take, in milliseconds: one that is dropped on its way must not hold
/// up the next attempt.
pub const DIAL_TIMEOUT_MS: u64 = 500;

/// How long the ledger may leave a call unanswered before its connection is given up, in milliseconds.
pub const LEDGER_SILENCE_MS: u64 = 5_000;

/// Replicas that a booking can be required to be on: WAIT is answered by each of them.
pub const REPLICAS_MAX: u32 = 100;

/// How long a batch waits for its replicas, in milliseconds, before the ledger's connection is given up and the batch sent
/// again on the next one. Many round trips to a replica, and below the shortest patience that clients have by default.
pub const REPLICA_WAIT_MS: u64 = 1_000;

/// How often a Redis is asked whether it takes writes, still writes as `--durability` demands, and still lets its user do
/// all that is needed, in milliseconds: `/readyz` must say within a second what somebody changed. It takes Redis some 10
/// us.
pub const FITNESS_CHECK_MS: u64 = 500;

/// Acknowledged bookings that one core remembers, over all sales, in case the ledger forgets them: at 184 bytes each
/// 6 MiB, and more than a core acknowledges within any lag of a replica or of `appendfsync everysec`.
pub const REMEMBERED_PER_CORE_MAX: usize = 32 * 1024;

/// How long an acknowledged booking is remembered while the ledger is there, in milliseconds: a ledger that falls back
/// further than that was set back by an operator.
pub const REMEMBERED_MS: u64 = 30_000;

/// How long a core waits before it offers its acknowledged bookings again to a ledger that could not take them, in
/// milliseconds: 6 MiB at most each time.
pub const RESTORE_RETRY_MS: u64 = 1_000;

/// How long a sale stays frozen after something forgotten was noticed or put back, in milliseconds: time for every host
/// to connect ([`RECONNECT_MS_LAST`], [`DIAL_TIMEOUT_MS`]), to notice ([`SYNC_INTERVAL_MS`]) and to put back.
pub const FREEZE_MS: u64 = 2_000;

/// Longest freeze, in milliseconds, however long hosts put back.
pub const FREEZE_MS_MAX: u64 = 10_000;

/// Bytes of one ledger reply: 256 entries of at most 200 bytes, with a lot to spare.
pub const LEDGER_REPLY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bookings of one page when a sale is read whole (audit), in entries.
pub const PAGE_ENTRIES: usize = 1_000;

/// Log entries of one ledger call: at 2 to 3 us of Redis time each, like [`ENTRIES_PER_CALL_MAX`].
pub const LOG_ENTRIES_PER_CALL_MAX: usize = 256;

/// Log entries that one ledger call removes: a node of the stream, some 50 entries, takes about a microsecond.
pub const TRIMMED_PER_CALL_MAX: usize = 50_000;

/// Overdue holds that one ledger call expires. Redis needs about a millisecond for that many, and all others wait for it.
pub const EXPIRIES_PER_CALL_MAX: usize = 128;

/// Pause of a core between two such calls of one sale, in milliseconds. Nobody waits for them, since overdue holds no
/// longer count, while others wait for the ledger: some 20,000 holds are entered a second, in a fifth of its time.
pub const SWEEP_PAUSE_MS: u64 = 5;

/// Overdue holds that a call which books, confirms, cancels or alters enters as expired in addition to its own work, so
/// that the log has them before the bookings that their tickets are sold to. More of them are left to the syncs: they no
/// longer count.
pub const SWEPT_PER_CALL: usize = GROUP_BOOKINGS_MAX;

/// Bookings that a call looks at while it counts what buyers have, before a sale's first limit: like `COUNTED_PER_CALL` in
/// `lua/alter.lua`. At 2 us of Redis time each, a call stays under a millisecond.
pub const COUNTED_PER_CALL: usize = 250;

/// Groups of held bookings of one page of a survey: each may have [`GROUP_BOOKINGS_MAX`] ids.
pub const GROUPS_PER_PAGE: usize = 100;

/// Bookings of one group of holds: like `GROUP_MAX` in `lua/reserve.lua`. A group is expired whole.
pub const GROUP_BOOKINGS_MAX: usize = 64;

/// Repairs of one ledger call: at a few microseconds of Redis time each, like [`ENTRIES_PER_CALL_MAX`].
pub const REPAIRS_PER_CALL_MAX: usize = 256;

/// How far a sale's clock may be ahead of the ledger's own before an audit says so, in milliseconds: a failover to a
/// machine whose clock is a little behind is nothing to worry about.
pub const CLOCK_AHEAD_MS_MAX: u64 = 60_000;

/// Blocks of access-log lines between a core and the log's thread; above that lines are dropped and counted.
pub const ACCESS_LOG_BLOCKS_MAX: usize = 1024;

/// Bytes of a block of access-log lines after which it is handed over within a turn: with the bound above, a stalled
/// disk holds 64 MiB at most.
pub const ACCESS_LOG_BLOCK_BYTES: usize = 64 * 1024;

/// How often the access log checks whether its file is still at its path, in milliseconds: one system call. A rename or
/// removal is believed at the second check, so lines go to the old file for two of these at most.
pub const ACCESS_LOG_LOOK_MS: u64 = 1_000;

/// How long one write of the access log may take before a stopping host gives it up, in milliseconds: a disk of a shared
/// machine stands still for seconds, a pipe without a reader for ever.
pub const ACCESS_LOG_STALL_MS: u64 = 10_000;

/// How often a change that depends on the state of a sale is retried because another operator was faster.
pub const CHANGE_ATTEMPTS_MAX: usize = 100;

/// Max `--drain-delay`, in milliseconds: more would not be for a load balancer that has yet to notice.
pub const DRAIN_DELAY_MS_MAX: u64 = 600_000;

/// How long a draining host waits for its clients to read their answers and go, in milliseconds, on top of the
/// ledger's time-out.
pub const DRAIN_TIMEOUT_MS: u64 = 5_000;

/// How long a draining host waits for the first request of a connection that has asked nothing yet, in milliseconds: whoever has
/// just connected is about to ask, and has been told nothing of the end.
pub const DRAIN_UNASKED_MS: u64 = 1_000;

/// How long accepting pauses after the system refused a connection (no file descriptor left), in milliseconds.
pub const ACCEPT_PAUSE_MS: u64 = 100;

/// A loop whose last turn is longer ago than this does not count as alive, in milliseconds. Loops turn at least once a
/// sync.
pub const LOOP_STALL_MS: u64 = 5_000;

/// Differences that an audit lists one by one; above that they are counted.
pub const AUDIT_DIFFERENCES_MAX: usize = 10_000;

/// Audits that a host makes at once, as its operators ask for them: each may hold as much as below.
pub const AUDITS_AT_ONCE_MAX: usize = 1;

/// Log entries, or bookings, that an audit within a host reads: at about 250 bytes for each booking half a gigabyte, if all are
/// of different ones. Above that the command does it, wherever there is room.
pub const AUDIT_ROWS_MAX: u64 = 2_000_000;

/// Bytes of one access-log line that an audit reads: three identifiers, with a lot to spare.
pub const ACCESS_LOG_LINE_BYTES_MAX: usize = 4 * 1024;

/// Longest CPU profile that can be asked for, in seconds: with the samples below, some 6,000 stacks of each core, which
/// pprof keeps in memory.
pub const PROFILE_SECONDS_MAX: u64 = 60;

/// Stacks that a CPU profile takes in a second of CPU time: not a divisor of the loops' own intervals, and rare enough to
/// cost below a thousandth of it.
pub const PROFILE_SAMPLES_PER_SECOND: i32 = 99;

/// Sales in trouble that `/readyz` names: the rest is counted.
pub const SALES_NAMED_MAX: usize = 3;

/// Sales in trouble that a core logs one by one; after that one line says that there are more. A ledger may lose 100,000 at
/// once.
pub const SALES_LOGGED_MAX: usize = 10;

/// Bookings of one buyer that an operator gets at once: no buyer who is served by hand has more, and they are half a
/// megabyte of JSON at most.
pub const BUYER_BOOKINGS_MAX: usize = 1_000;

/// How long a sale is read for the bookings of one buyer, in milliseconds: enough for some millions of bookings.
pub const BUYER_BOOKINGS_MS_MAX: u64 = 30_000;

/// Connections of the admin listener at once. Above that, the one that has been idle longest is closed, so that a probe is
/// always answered; some are beyond [`ADMIN_LEDGER_REQUESTS_MAX`].
pub const ADMIN_CONNECTIONS_MAX: usize = 80;

/// Requests of the admin listener that ask the ledger at once. If the ledger hangs, each waits for as long as a call may
/// take, so there are more connections than these: for probes, and for everything else that needs no ledger.
pub const ADMIN_LEDGER_REQUESTS_MAX: usize = 64;

const _: () = assert!(ADMIN_CONNECTIONS_MAX >= ADMIN_LEDGER_REQUESTS_MAX + 16);

/// Sales whose tickets are on the page of metrics, three series each: with those of 100,000 a scrape would be 20 MB, and more
/// than a Prometheus is happy with. What is wrong with any sale is counted for all of them.
pub const SALES_MEASURED_MAX: usize = 10_000;

/// Dashboards of a host that are open at once: an operator has a few, and a company that shows one on every desk not more. Of a
/// low limit of open files they take an eighth ([`DASHBOARDS_DESCRIPTORS`]).
pub const DASHBOARDS_MAX: usize = 1_000;

/// Of so many file descriptors one may be a dashboard's: clients come first.
pub const DASHBOARDS_DESCRIPTORS: usize = 8;

/// How long an event is the latest one for dashboards, in milliseconds, while few of them are open: people see numbers move.
pub const DASHBOARD_INTERVAL_MS_MIN: u64 = 500;

/// Parts that dashboards are sent in a second, all together: at some 20 us each a fiftieth of a core. With more than half of it
/// open each is told less often.
pub const DASHBOARD_PARTS_PER_SECOND_MAX: u64 = 1_000;

/// Dashboards that are told in one turn of the admin listener, so that no probe waits for a thousand of them.
pub const DASHBOARDS_PER_TURN_MAX: usize = 32;

/// Sales that an event lists, at some 250 bytes each; of others it says how many there are, and one of them can be watched by
/// its name.
pub const DASHBOARD_SALES_MAX: usize = 50;

/// Seconds a client is asked to wait after a 503.
pub const RETRY_AFTER_SECONDS: u32 = 1;

const _: () = {
    assert!(TARGET_BYTES_MAX < HEAD_BYTES_MAX);
    assert!(HEAD_BYTES_MAX <= READ_CHUNK_BYTES);
    assert!(FIELDS_MAX <= FIELDS_CEILING);
    assert!(ENTRIES_PER_CALL_MAX <= WAITING_PER_CORE_MAX);
    assert!(GROUP_BOOKINGS_MAX < EXPIRIES_PER_CALL_MAX);
    assert!(READS_PER_SWEEP < READS_PER_SYNC_MAX);
    assert!(STOCK_MAX < 1 << 53);
    assert!(QUANTITY_MAX as u64 <= STOCK_MAX);
    assert!(RECONNECT_MS_FIRST < RECONNECT_MS_LAST && RECONNECT_MS_LAST < 1_000);
    assert!(SYNC_INTERVAL_MS < LOOP_STALL_MS);
    assert!(SETTLED_MS < SYNC_INTERVAL_MS && SYNC_INTERVAL_MS < SLOW_ROUND_MS);
    assert!((SALES_MAX as u64) < CHANGES_KEPT);
    assert!(LINGER_TIMEOUT_MS <= LINGER_CEILING_MS && LINGER_CEILING_MS < DRAIN_TIMEOUT_MS);
    assert!(DRAIN_UNASKED_MS + LINGER_TIMEOUT_MS < DRAIN_TIMEOUT_MS);
    assert!(REPLICA_WAIT_MS < LEDGER_SILENCE_MS);
    assert!(
        RECONNECT_MS_LAST + DIAL_TIMEOUT_MS + 2 * SYNC_INTERVAL_MS < NEW_LEDGER_MS
            && RECONNECT_MS_LAST + DIAL_TIMEOUT_MS + 2 * SYNC_INTERVAL_MS < FREEZE_MS
            && FREEZE_MS < FREEZE_MS_MAX
    );
    assert!(LEDGER_SILENCE_MS < REMEMBERED_MS);
    assert!(LINGER_TIMEOUT_MS < IDLE_TIMEOUT_MS);
};
