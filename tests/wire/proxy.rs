//! The table against a real nginx, which passes on what it understands. Where it answers otherwise than boxoffice, the
//! table says what it answers and why boxoffice does not.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;

use crate::answers;
use crate::cases::{self, Case, Nginx as Expected};
use crate::support::free_port;
use crate::support::nginx::Nginx;
use crate::support::turn;
use crate::talk::{Manner, Talk, Told, hold};

/// An nginx whose limits are those of boxoffice, where it has them, before another that answers as boxoffice does. So
/// the first one reads each request whole before it passes it on, body included.
fn configuration(address: SocketAddr, folder: &Path) -> String {
    let behind = folder.join("behind.sock");
    let behind = behind.display();
    format!(
        "worker_processes 1;
        pid nginx.pid;
        events {{ worker_connections 4096; }}
        http {{
            access_log off;
            client_body_temp_path bodies;
            proxy_temp_path answers;
            fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi;
            scgi_temp_path scgi;
            client_max_body_size 64k;
            client_header_timeout 6s;
            client_body_timeout 6s;
            lingering_timeout 200ms;
            large_client_header_buffers 4 8k;
            server {{
                listen {address};
                location / {{ proxy_pass http://unix:{behind}; }}
            }}
            server {{
                listen unix:{behind};
                if ($request_method = OPTIONS) {{ return 204; }}
                location /buy/ {{ return 200 \"$request_method $request_uri\"; }}
                location /v1/sales/ {{ return 200 \"$request_method $request_uri\"; }}
                location = / {{ return 200 \"$request_method $request_uri\"; }}
                location / {{ return 404; }}
            }}
        }}
        "
    )
}

/// What came of it: statuses, and whether it would take more.
fn outcome(told: &Told<'_>) -> Result<String, String> {
    let mut answers = answers::read(&told.bytes)?;
    if told.talk.case.waits_at.is_none() {
        answers.retain(|answer| answer.status != 100);
    }
    let is_closed = answers.last().is_some_and(|answer| answer.closes);
    let mut entries: Vec<String> = answers.iter().map(|answer| answer.status.to_string()).collect();
    match (told.took_more, is_closed) {
        _ if !told.ended => entries.push("never ended".to_owned()),
        (true, _) => entries.push("open".to_owned()),
        (false, true) => entries.push("closed".to_owned()),
        // It took what came for the rest of a request, and waited for more.
        (false, false) => entries.extend(["...", "open"].map(str::to_owned)),
    }
    Ok(entries.join(" | "))
}

#[test]
fn nginx_answers_as_the_table_says() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let _nginx = Nginx::of(folder.path(), address, &configuration(address, folder.path()));
    let cases = cases::all();
    let applies = |case: &&Case| !matches!(case.nginx, Expected::DoesNotApply);
    let talks: Vec<_> = cases.iter().filter(applies).map(Talk::whole).collect();
    assert!(talks.len() >= 200, "{}", talks.len());
    let (mut wrong, mut whys) = (Vec::new(), HashSet::new());
    for told in hold(address, talks, Manner::Curious) {
        let case = told.talk.case;
        let expected = match case.nginx {
            Expected::Differs(answers, why) => {
                whys.insert(why);
                answers.to_owned()
            }
            _ => case.statuses(),
        };
        let found = outcome(&told).unwrap_or_else(|what| format!("{what}: {}", told.bytes.escape_ascii()));
        if found != expected {
            wrong.push(format!("{} ({}): {found}, not {expected}", case.name, case.section));
        } else if matches!(case.nginx, Expected::Differs(..)) && found == case.statuses() {
            wrong.push(format!("{} ({}): no difference", case.name, case.section));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(whys.iter().all(|why| why.len() > 30), "a reason that is none: {whys:?}");
}
