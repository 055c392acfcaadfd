use std::collections::HashMap;
use std::path::Path;

use super::*;

#[derive(Default)]
struct Sources {
    flags: Words,
    variables: HashMap<String, String>,
    file: Option<Words>,
}

impl Sources {
    fn flag(mut self, name: &str, text: &str) -> Sources {
        self.flags.flag(name, text);
        self
    }

    fn variable(mut self, name: &str, text: &str) -> Sources {
        self.variables.insert(name.to_owned(), text.to_owned());
        self
    }

    fn file(mut self, text: &str) -> Sources {
        self.file = Some(Words::from_toml(Path::new("box.toml"), text).unwrap());
        self
    }

    fn read(&self) -> Result<Config, ConfigError> {
        let variable = |name: &str| self.variables.get(name).cloned();
        Config::read(&self.flags, &variable, self.file.as_ref(), &[0, 1, 2, 3])
    }

    fn error(&self) -> String {
        self.read().unwrap_err().to_string()
    }
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let config = Sources::default().read().unwrap();
    let expected = Config {
        listen: "127.0.0.1:3005".parse().unwrap(),
        admin: "127.0.0.1:9305".parse().unwrap(),
        admin_token_file: None,
        cores: CoreChoice::All,
        pin: true,
        reuse_port: false,
        ledger: "sqlite:boxoffice.db".to_owned(),
        ledger_files: LedgerFiles::default(),
        state: Some("boxoffice.state".into()),
        sales: Vec::new(),
        weight: 1,
        advertise: None,
        buffer: 0.2,
        durability: Durability::Ack,
        ledger_timeout: Duration::from_secs(2),
        drain_delay: Duration::ZERO,
        access_log: None,
        proxies: TrustedProxies::default(),
        limits: ClientLimits::default(),
    };
    assert_eq!(config, expected);
}

#[test]
fn a_flag_wins_over_a_variable_and_that_over_the_file() {
    let file = "weight = 3\nlisten = '127.0.0.1:1'\nbuffer = 0.5\nno-pin = true\n";
    let sources = Sources::default().file(file);
    let config = sources.read().unwrap();
    assert_eq!((config.weight, config.buffer, config.pin), (3, 0.5, false));
    let sources = sources
        .variable("BOXOFFICE_WEIGHT", "4")
        .variable("BOXOFFICE_NO_PIN", "false")
        .variable("BOXOFFICE_BUFFER", "");
    let config = sources.read().unwrap();
    assert_eq!((config.weight, config.buffer, config.pin), (4, 0.5, true));
    let config = sources.flag("weight", "5").flag("listen", "[::1]:2").read().unwrap();
    assert_eq!((config.weight, config.listen.to_string()), (5, "[::1]:2".to_owned()));
}

#[test]
fn sales_come_whole_from_one_source() {
    let sources = Sources::default().file("sale = ['a=1,hold=5m', 'b=2']");
    assert_eq!(sources.read().unwrap().sales.len(), 2);
    let sources = sources.variable("BOXOFFICE_SALE", "c=1  d=2,per-buyer=4 e=3");
    assert_eq!(sources.read().unwrap().sales.len(), 3);
    let sources = sources.flag("sale", "f=7");
    let sales = sources.read().unwrap().sales;
    assert_eq!((sales[0].0.as_str(), sales[0].1.total, sales.len()), ("f", 7, 1));
    assert_eq!(
        sources.flag("sale", "f=8").error(),
        "--sale: \"f=8\" names a sale that another --sale already names"
    );
    assert_eq!(Sources::default().file("sale = 'a=1'").read().unwrap().sales.len(), 1);
}

#[test]
fn everything_can_be_set() {
    let config = Sources::default()
        .flag("admin", "0.0.0.0:9305")
        .flag("admin-token-file", "token")
        .flag("cores", "0-1,3")
        .flag("ledger", "redis://:secret@10.0.0.1:6379/2")
        .flag("durability", "ack")
        .flag("ledger-timeout", "1s500ms")
        .flag("access-log", "access.log")
        .read()
        .unwrap();
    assert_eq!(config.cores, CoreChoice::List(vec![0, 1, 3]));
    assert_eq!(config.ledger_timeout, Duration::from_millis(1500));
    assert_eq!(config.admin_token_file, Some("token".into()));
    assert_eq!(config.access_log, Some("access.log".into()));
}

#[test]
fn errors_name_the_word_its_place_and_what_it_takes() {
    let flag = |name: &str, text: &str| Sources::default().flag(name, text).error();
    assert_eq!(
        flag("listen", "localhost"),
        "--listen: \"localhost\" takes ADDR:PORT, an IP address and a port: 127.0.0.1:3005, [::1]:3005"
    );
    assert_eq!(
        Sources::default().variable("BOXOFFICE_LEDGER_TIMEOUT", "2").error(),
        "BOXOFFICE_LEDGER_TIMEOUT: \"2\" takes a duration of 10ms to 1m, such as 500ms or 2s"
    );
    assert_eq!(
        Sources::default().file("weight = 0").error(),
        "box.toml: weight: \"0\" takes a number from 1 to 10000"
    );
    assert_eq!(flag("buffer", "NaN"), "--buffer: \"NaN\" takes a number from 0 to 10");
    assert_eq!(flag("no-pin", "maybe"), "--no-pin: \"maybe\" takes true or false");
    let overlap = flag("reuse-port", "true");
    assert!(
        overlap.starts_with("--reuse-port: \"true\" is for two processes beside each other, "),
        "{overlap}"
    );
    for wrong in ["none", "replicas=0", "replicas=101", "replicas=", "replicas=-1", "AOF"] {
        let takes = format!("--durability: \"{wrong}\" takes ack, aof or replicas=N, N being 1 to 100");
        assert_eq!(flag("durability", wrong), takes);
    }
    for of_redis in ["aof", "replicas=2"] {
        assert!(flag("durability", of_redis).contains("is for a ledger in Redis"));
    }
    assert!(
        flag("ledger", "postgres://x").starts_with("--ledger: \"postgres://x\" takes sqlite:PATH, redis://")
    );
    assert!(flag("ledger", "sqlite:").contains("takes sqlite:PATH"));
    assert!(flag("cores", "0-7").contains("it has 0-3"), "{}", flag("cores", "0-7"));
    assert!(flag("sale", "ticket").contains("takes NAME=STOCK"));
    assert!(flag("access-log", "").contains("takes the name of a file"));
}

#[test]
fn each_limit_comes_from_the_first_source_that_names_it() {
    let file = "[limit]\nhead-bytes = '32KiB'\nrequests = 7\nidle-time = '60s'\n";
    let sources = Sources::default().file(file).variable("BOXOFFICE_LIMIT", "requests=8  idle-time=50s");
    let limits = sources.flag("limit", "idle-time=40s").flag("limit", "connections=9").read().unwrap().limits;
    let expected = ClientLimits {
        head_bytes: 32 * 1024,
        requests: 8,
        idle_time_ms: 40_000,
        connections: 9,
        ..ClientLimits::default()
    };
    assert_eq!(limits, expected);
    for text in ["limit = 'pipeline=5'", "limit = ['pipeline=5']", "[limit]\npipeline = '5'"] {
        assert_eq!(Sources::default().file(text).read().unwrap().limits.pipeline, 5, "{text}");
    }
}

#[test]
fn a_limit_that_is_wrong_is_named_with_what_it_takes() {
    let flag = |text: &str| Sources::default().flag("limit", text);
    assert_eq!(flag("linger=1h").error(), "--limit: \"linger=1h\" takes a duration from 100ms to 4s");
    assert!(
        flag("lingers=1s")
            .error()
            .starts_with("--limit: \"lingers=1s\" is not a limit; the limits are target-bytes,")
    );
    assert_eq!(
        flag("linger=1s").flag("limit", "linger=2s").error(),
        "--limit: \"linger=2s\" names linger, which is already set"
    );
    assert_eq!(
        Sources::default().variable("BOXOFFICE_LIMIT", "linger=1s head-bytes=1KiB").error(),
        "BOXOFFICE_LIMIT: \"head-bytes=1KiB\" must be 8320 or more, since target-bytes is 8KiB"
    );
    assert_eq!(
        Sources::default().file("[limit]\ntarget-bytes = 20000").error(),
        "box.toml: limit: \"target-bytes=20000\" contradicts head-bytes, which must be 20128 or more, since target-bytes \
         is 20000"
    );
    // Of a weaker source too, although it does not count.
    let hidden = flag("linger=1s").variable("BOXOFFICE_LIMIT", "linger=1h");
    assert!(hidden.error().starts_with("BOXOFFICE_LIMIT: \"linger=1h\" takes"));
    let file = |text: &str| Words::from_toml(Path::new("box.toml"), text).unwrap_err().to_string();
    assert!(file("limit = [[1]]").contains("takes a table, a text or a list of texts"));
    assert!(file("[limit]\na = []").contains("takes a table, a text or a list of texts"));
}

#[test]
fn operators_from_elsewhere_need_a_token() {
    let sources = Sources::default().flag("admin", "0.0.0.0:9305");
    assert_eq!(
        sources.error(),
        "--admin: \"0.0.0.0:9305\" is reached from other machines and needs --admin-token-file FILE beside it"
    );
    assert!(sources.flag("admin-token-file", "token").read().is_ok());
    assert!(Sources::default().flag("admin", "[::1]:1").read().is_ok());
    let taken = Sources::default().flag("admin", "127.0.0.1:3005");
    assert!(taken.error().contains("is where --listen is already"));
}

#[test]
fn a_file_is_read_strictly() {
    let error = |text: &str| Words::from_toml(Path::new("box.toml"), text).unwrap_err().to_string();
    assert!(
        error("wieght = 3")
            .starts_with("box.toml: wieght: \"wieght\" is not a setting; the settings are listen, admin,")
    );
    assert!(error("config = 'other.toml'").contains("is not a setting"));
    assert!(error("[listen]\nport = 3").contains("takes one text, number or boolean"));
    assert!(error("weight = [1]").contains("takes one text, number or boolean"));
    for list in ["sale", "trusted-proxy"] {
        assert!(error(&format!("{list} = [[1]]")).contains("takes a text or a list of texts"));
    }
    let malformed = error("weight = 1\nlisten = 127.0.0.1");
    assert!(malformed.starts_with("box.toml: \"listen = 127.0.0.1\" is not TOML (line 2)"), "{malformed}");
}

#[test]
fn the_file_is_named_by_flag_or_variable() {
    let variable = |name: &str| (name == "BOXOFFICE_CONFIG").then(|| "b.toml".to_owned());
    assert_eq!(config_file(Some("a.toml".into()), &variable), Some("a.toml".into()));
    assert_eq!(config_file(None, &variable), Some("b.toml".into()));
    assert_eq!(config_file(None, &|_| None), None);
}

#[test]
fn proxies_are_read_from_every_source() {
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    let trusting = |texts: &[&str], header| TrustedProxies::new(networks(texts), header);
    let read = |sources: Sources| sources.read().unwrap().proxies;
    let two = || Sources::default().flag("trusted-proxy", "10.0.0.0/8").flag("trusted-proxy", "2001:db8::1");
    assert_eq!(read(two()), trusting(&["10.0.0.0/8", "2001:db8::1"], false));
    assert_eq!(read(two().flag("proxy-protocol", "true")), trusting(&["10.0.0.0/8", "2001:db8::1"], true));
    let variable = Sources::default().variable("BOXOFFICE_TRUSTED_PROXY", "10.0.0.1 10.0.0.2");
    assert_eq!(read(variable), trusting(&["10.0.0.1", "10.0.0.2"], false));
    let file = Sources::default().file("trusted-proxy = ['10.0.0.1', '::1']\nproxy-protocol = true\n");
    assert_eq!(read(file), trusting(&["10.0.0.1", "::1"], true));
    assert_eq!(read(Sources::default().flag("proxy-protocol", "false")), TrustedProxies::default());
    // A header of somebody who is not believed would be of no use.
    assert_eq!(
        Sources::default().flag("proxy-protocol", "true").error(),
        "--proxy-protocol: \"true\" takes PROXY headers of trusted proxies alone; name them beside it: --trusted-proxy 10.0.0.0/8"
    );
    assert_eq!(
        Sources::default().flag("trusted-proxy", "10.0.0.1/8").error(),
        "--trusted-proxy: \"10.0.0.1/8\" has bits behind its prefix; the network of that length is 10.0.0.0/8"
    );
    assert!(
        Sources::default()
            .flag("trusted-proxy", "nginx")
            .error()
            .contains("takes an IP address, or a network")
    );
    let mut many = Sources::default();
    for _ in 0..bounds::TRUSTED_PROXIES_MAX {
        many = many.flag("trusted-proxy", "10.0.0.1");
    }
    assert!(many.read().is_ok());
    assert!(many.flag("trusted-proxy", "10.0.0.2").error().contains("1000 can be named"));
}

#[test]
fn durability_is_read() {
    let redis = || Sources::default().flag("ledger", "redis://127.0.0.1/0");
    let read = |text: &str| redis().flag("durability", text).read().unwrap().durability;
    assert_eq!(redis().read().unwrap().durability, Durability::Ack);
    assert_eq!((read("ack"), read("aof")), (Durability::Ack, Durability::Aof));
    assert_eq!(read("replicas=2"), Durability::Replicas(2));
    assert_eq!(Sources::default().flag("durability", "ack").read().unwrap().durability, Durability::Ack);
}
