//! Configuration files, limits and ledger URLs: whatever is accepted is valid, and no password is ever printed.

use std::path::Path;

use boxoffice::config::{Config, Words};
use boxoffice::ledger::url::{HostPort, LedgerUrl, RedisAddress, RedisUrl, SENTINELS_MAX};
use boxoffice::limits::Limit;
use rustls::pki_types::ServerName;

pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    check_file(text);
    check_url(text);
    let mut flags = Words::default();
    flags.flag("limit", text);
    check_config(&flags, None);
}

fn check_file(text: &str) {
    match Words::from_toml(Path::new("boxoffice.toml"), text) {
        Ok(words) => check_config(&Words::default(), Some(&words)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn check_config(flags: &Words, file: Option<&Words>) {
    match Config::read(flags, &|_| None, file, &[0, 1, 2, 3]) {
        Ok(config) => {
            assert_eq!(config.limits.check(), Ok(()));
            for &limit in Limit::ALL {
                let (least, most) = limit.range();
                assert!((least..=most).contains(&config.limits.get(limit)), "{limit}");
            }
            for (name, terms) in &config.sales {
                assert_eq!(terms.check(), Ok(()), "{name}");
            }
            assert!(config.admin.ip().is_loopback() || config.admin_token_file.is_some());
        }
        Err(error) => assert!(!error.takes.is_empty() && !error.to_string().is_empty()),
    }
}

fn check_url(text: &str) {
    let Ok(LedgerUrl::Redis(url)) = text.parse::<LedgerUrl>() else { return };
    let other = RedisUrl { password: url.password.as_ref().map(|_| "another".to_owned()), ..url.clone() };
    assert_eq!(
        (url.to_string(), format!("{url:?}")),
        (other.to_string(), format!("{other:?}")),
        "no password is printed"
    );
    if let RedisAddress::Sentinel(address) = &url.address {
        assert!((1..=SENTINELS_MAX).contains(&address.sentinels.len()) && !address.name.is_empty());
        let again = url.to_string().replacen(":***@", ":another@", 1).parse::<LedgerUrl>();
        let Ok(LedgerUrl::Redis(again)) = again else { panic!("{url} cannot be read") };
        assert_eq!(again.address, url.address, "what is printed is what was written");
    }
    let RedisAddress::Tcp(HostPort { host, port }) = &url.address else { return };
    if url.tls.is_some() {
        assert!(ServerName::try_from(host.as_str()).is_ok(), "{host:?} cannot be the name in a certificate");
    }
    // What is spoken to is what is written, the whole of it.
    let (_, rest) = text.split_once("://").unwrap_or_default();
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let place = authority.rsplit('@').next().unwrap_or_default();
    let place = match place.strip_prefix('[') {
        Some(bracketed) => bracketed.replacen(']', "", 1),
        None => place.to_owned(),
    };
    let port = [format!("{host}:{port}"), host.clone()].contains(&place).then_some(port);
    assert!(port.is_some() || place.starts_with(&format!("{host}:0")), "{place:?} is not {:?}", url.address);
}
