//! A Redis Cluster under hosts that follow the slot of their sale: its primary killed, or replaced by hand, and the slot moved
//! to a node that has joined, and back, with keys on both.

use std::time::Duration;

use crate::hosts::forget_one;
use crate::scene::Scene;
use crate::support::clusters::ClusterSet;
use crate::{Effort, Play, Row};

pub const FAULTS: &[(&str, &str, Play)] = &[
    ("Cluster: primary killed, --durability replicas=1", KEPT, |effort| {
        play(effort, Strike::Kill, "replicas=1")
    }),
    ("Cluster: primary killed, --durability ack", PUT_BACK, |effort| play(effort, Strike::Kill, "ack")),
    ("Cluster: failover by hand, --durability replicas=1", KEPT, |effort| {
        play(effort, Strike::ByHand, "replicas=1")
    }),
    ("Cluster: failover by hand, --durability ack", PUT_BACK, |effort| play(effort, Strike::ByHand, "ack")),
    ("Cluster: slot moved to a node that joins, and back", MOVED, |effort| play(effort, Strike::Move, "ack")),
];

const KEPT: &str =
    "every acknowledged booking is on the node that has the slot; hosts follow it without a restart";
const PUT_BACK: &str =
    "what the new primary does not have is put back by the hosts, or named; they follow it without a restart";
const MOVED: &str = "every acknowledged booking is on the node that has the slot, once; a call with keys on both nodes does nothing";

/// The slot of the sale of a scene.
const SLOT: u16 = 4_549;

/// How long half of the keys are on one node and half on the other.
const HALVED: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strike {
    Kill,
    ByHand,
    Move,
}

fn play(effort: &Effort, strike: Strike, durability: &str) -> Row {
    let mut row = Row::default();
    // One Cluster for some runs: the primary that fell is the replica of the next.
    let mut left = effort.runs;
    while left > 0 {
        let runs = left.min(5);
        left -= runs;
        let mut set =
            if strike == Strike::Move { ClusterSet::of_primaries(&[]) } else { ClusterSet::start(&[]) };
        let joined = (strike == Strike::Move).then(|| set.add());
        let mut scene = Scene::with_redis(&set.url(), &set.url(), 2, &["--durability", durability]);
        for run in 0..runs {
            let crowd = scene.buyers(&format!("crowd-{run}"), 8);
            crowd.wait_for(100);
            let primary = set.owner(SLOT).expect("nothing is the matter yet");
            match strike {
                Strike::Kill => {
                    set.nodes[primary].kill();
                    set.wait_for_another(SLOT, primary);
                    set.nodes[primary].start_again();
                }
                Strike::ByHand => drop(set.fail_over(SLOT, primary)),
                Strike::Move => {
                    let joined = joined.expect("it has joined");
                    set.move_slot(SLOT, primary, joined, || std::thread::sleep(HALVED));
                    crowd.wait_for(100);
                    set.move_slot(SLOT, joined, primary, || std::thread::sleep(HALVED));
                }
            }
            set.settle();
            crowd.wait_for(100);
            scene.wait_until_sold_from();
            scene.keep(crowd);
        }
        row.judge(runs, &mut scene);
        if left == 0 {
            let primary = set.owner(SLOT).expect("all is well again");
            forget_one(&set.nodes[primary], &mut scene, &mut row);
        }
    }
    row
}
