//! What happens to a sale on one host is soon known on the others, and a sale to which nothing happens costs nothing.

use std::time::Duration;

use crate::support::eventually;
use crate::support::host::{Host, boxoffice};
use crate::support::redis_server::RedisServer;
use crate::support::turn;

const PATIENCE: Duration = Duration::from_secs(20);

/// How often Redis was asked that command so far.
fn calls(redis: &RedisServer, command: &str) -> u64 {
    redis.calls().get(command).copied().unwrap_or(0)
}

fn two_hosts(redis: &RedisServer, folder: &std::path::Path) -> [Host; 2] {
    [0, 1].map(|_| Host::start(folder, &["--ledger", &redis.url()]))
}

#[test]
fn a_sale_and_its_changes_are_known_elsewhere_without_a_look_at_all_sales() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let [first, second] = two_hosts(&redis, folder.path());
    let mut client = second.client();
    client.get("/v1/sales/late").expect_problem(404, "no-such-sale");
    eventually("both hosts have asked which sales there are", PATIENCE, || {
        (calls(&redis, "smembers") >= 4).then_some(())
    });
    let lists = calls(&redis, "smembers");
    for opened in ["by-operator", "by-command"] {
        match opened {
            "by-operator" => drop(first.operator().put(&format!("/v1/sales/{opened}"), "{\"total\":1}")),
            _ => {
                let words = ["sale", "open", opened, "--stock", "1", "--ledger", &redis.url()];
                boxoffice(folder.path(), &words).expect(0);
            }
        }
        for host in [&first, &second] {
            let mut client = host.client();
            eventually("the sale is known", PATIENCE, || {
                (client.get(&format!("/v1/sales/{opened}")).status == 200).then_some(())
            });
        }
    }
    // What was sold out is on sale again, everywhere.
    first.client().put("/v1/sales/by-operator/bookings/one", "{\"quantity\":1}").expect(201);
    eventually("it is sold out there", PATIENCE, || {
        (second.sale("by-operator")["available"] == 0).then_some(())
    });
    first.operator().put("/v1/sales/by-operator", "{\"total\":2}").expect(200);
    eventually("the raised total is known", PATIENCE, || {
        (second.sale("by-operator")["available"] == 1).then_some(())
    });
    second.client().put("/v1/sales/by-operator/bookings/two", "{\"quantity\":1}").expect(201);
    eventually("it is sold out here", PATIENCE, || {
        (first.sale("by-operator")["available"] == 0).then_some(())
    });
    assert_eq!(second.client().ask("DELETE", "/v1/sales/by-operator/bookings/two", None).status, 200);
    eventually("the returned ticket is known", PATIENCE, || {
        (first.sale("by-operator")["available"] == 1).then_some(())
    });
    assert_eq!(calls(&redis, "smembers"), lists, "nobody has looked at the list of all sales for that");
}

#[test]
fn thousands_of_sales_are_found_at_once_and_cost_an_idle_host_next_to_nothing() {
    const SALES: u64 = 2_000;
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let [first, second] = two_hosts(&redis, folder.path());
    let mut operator = first.operator();
    for number in 0..SALES {
        let opened = operator.put(&format!("/v1/sales/sale-{number}"), "{\"total\":5}");
        assert!(matches!(opened.status, 200 | 201), "{opened:?}");
    }
    for host in [&first, &second] {
        let mut client = host.client();
        for number in 0..SALES {
            eventually("the sale is known", PATIENCE, || {
                (client.get(&format!("/v1/sales/sale-{number}")).status == 200).then_some(())
            });
        }
    }
    // Questions for changes, of which each loop asks one a sync, count the syncs.
    let loops = (first.loops() + second.loops()) as u64;
    let settled = calls(&redis, "get") + 5 * loops;
    eventually("all is read again that may have changed", PATIENCE, || {
        (calls(&redis, "get") >= settled).then_some(())
    });
    let (syncs, reads) = (calls(&redis, "get"), calls(&redis, "hmget"));
    eventually("some syncs", PATIENCE, || (calls(&redis, "get") >= syncs + 10 * loops).then_some(()));
    let reads = calls(&redis, "hmget") - reads;
    let syncs = calls(&redis, "get") - syncs;
    // A sale is read once in 300 syncs by one loop of each host; and never by each sync, as it once was.
    let most = syncs * 2 * SALES / loops / 300 + 2 * SALES / 10;
    assert!(reads <= most, "{reads} reads in {syncs} questions of {loops} loops, and not {most}");
    // A figure that nobody has read anew is no older for that.
    let as_of = |host: &Host| host.sale("sale-7")["as_of"].as_str().unwrap().to_owned();
    let before = as_of(&second);
    eventually("the figures are of later", PATIENCE, || (as_of(&second) > before).then_some(()));
}

#[test]
fn a_name_that_is_none_stops_no_host_and_hides_no_sale() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    redis.command(&["sadd", "bx:sales", "no name", ""]);
    redis.command(&["zadd", "bx:changes", "1", "no name"]);
    let mut host = Host::start(folder.path(), &["--ledger", &redis.url(), "--sale", "ticket=5"]);
    let words = ["sale", "open", "later", "--stock", "1", "--ledger", &redis.url()];
    boxoffice(folder.path(), &words).expect(0);
    eventually("the new sale is known", PATIENCE, || {
        (host.client().get("/v1/sales/later").status == 200).then_some(())
    });
    boxoffice(folder.path(), &["sale", "list", "--ledger", &redis.url()])
        .expect(0)
        .saying(&["later", "ticket"]);
    boxoffice(folder.path(), &["audit", "ticket", "--ledger", &redis.url()])
        .expect(1)
        .saying(&["\"no name\", which is not a sale's name"]);
    host.process.signal(libc::SIGTERM);
    host.process.wait(PATIENCE);
    let said = host.process.said();
    assert_eq!(said.matches("not a sale's name").count(), 2, "once for each: {said}");
}
