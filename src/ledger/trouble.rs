//! What keeps a ledger from selling: reported by those who notice it, logged for operators.
//!
//! A host has one [`Trouble`]. Each of its connections to the ledger (a loop's connection to Redis; the SQLite file)
//! reports its state there, at each change. What is new to the host is logged: a trouble once when it begins, however many
//! loops notice it, and once when all of it is over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

macro_rules! causes {
    ($($(#[doc = $doc:literal])* $cause:ident $label:literal,)*) => {
        /// A kind of trouble.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Cause {
            $($(#[doc = $doc])* $cause,)*
        }

        impl Cause {
            /// All of them.
            pub const ALL: &'static [Cause] = &[$(Cause::$cause),*];

            /// The word that metrics have for it.
            pub fn label(self) -> &'static str {
                match self {
                    $(Cause::$cause => $label,)*
                }
            }
        }
    };
}

causes! {
    /// It cannot be reached, or the connection was lost.
    Unreachable "unreachable",
    /// TLS with it fails: it cannot prove who it is, or does not accept this host.
    Tls "tls",
    /// It is there, but denies this host something that it needs: a password is wrong, or a right is missing.
    Denied "denied",
    /// It does not keep what the host's `--durability` promises.
    Durability "durability",
    /// It is there, but refuses writes: no memory, no space, a replica, loading.
    Refusing "refusing",
    /// The file is gone, replaced or damaged.
    File "file",
}

/// A connection of a host to its ledger: whose it is, and where a loop has several, to which node it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    core: usize,
    node: usize,
}

impl Way {
    /// That of a core to a node of its Cluster.
    pub fn to_node(core: usize, node: usize) -> Way {
        Way { core, node }
    }
}

impl From<usize> for Way {
    /// The only one of that core.
    fn from(core: usize) -> Way {
        Way { core, node: 0 }
    }
}

/// See the [module](self).
#[derive(Clone, Debug, Default)]
pub struct Trouble(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// By the connection that reports it.
    now: BTreeMap<Way, (Cause, String)>,
    /// What was logged of each kind since there was none at all.
    logged: BTreeMap<Cause, String>,
    /// Advice that was given last.
    advised: Vec<String>,
}

impl Trouble {
    /// The state of that connection from now on.
    pub fn report(&self, way: impl Into<Way>, is: Option<(Cause, &str)>) {
        let way = way.into();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match is {
            Some((cause, what)) => {
                known.now.insert(way, (cause, what.to_owned()));
                let news = match known.logged.get(&cause) {
                    None => true,
                    // A connection fails in many ways while a Redis is down; everything else an operator must know.
                    Some(last) => cause != Cause::Unreachable && last != what,
                };
                if news {
                    known.logged.insert(cause, what.to_owned());
                    log(cause, what);
                } else {
                    tracing::debug!(?way, ?cause, what, "the ledger is still not available");
                }
            }
            None => {
                let was_there = known.now.remove(&way).is_some();
                if was_there && known.now.is_empty() {
                    known.logged.clear();
                    tracing::info!("the ledger is available again: sales go on");
                }
            }
        }
    }

    /// The current troubles, each behind the core whose connection reports it.
    pub fn all(&self) -> Vec<(usize, Cause, String)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.now.iter().map(|(way, (cause, what))| (way.core, *cause, what.clone())).collect()
    }

    /// The first of them.
    pub fn get(&self) -> Option<String> {
        self.all().into_iter().next().map(|(_, _, what)| what)
    }

    /// What the ledger's settings may lead to, though it can be used. Logged if it differs from the last advice.
    pub fn advise(&self, advice: &[String]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for what in advice.iter().filter(|what| !known.advised.contains(what)) {
            tracing::warn!("{what}");
        }
        known.advised = advice.to_vec();
    }
}

fn log(cause: Cause, reason: &str) {
    match cause {
        Cause::Unreachable => {
            tracing::warn!(reason, "no connection to the ledger; reconnecting until it is back");
        }
        Cause::Tls => {
            tracing::error!(
                reason,
                "TLS with the ledger fails: nothing is sold; reconnecting until it works"
            );
        }
        Cause::Denied => {
            tracing::error!(reason, "the ledger denies this host access that it needs: nothing is sold");
        }
        Cause::Durability => {
            tracing::error!(reason, "the ledger does not meet --durability: nothing is sold");
        }
        Cause::Refusing => tracing::error!(reason, "the ledger refuses writes: nothing is sold"),
        Cause::File => tracing::error!("{reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_has_its_own_trouble_and_all_of_it_is_over_at_the_end() {
        let trouble = Trouble::default();
        let logged = || trouble.0.lock().unwrap().logged.keys().copied().collect::<Vec<_>>();
        trouble.report(0, Some((Cause::Unreachable, "reset")));
        trouble.report(1, Some((Cause::Unreachable, "closed")));
        trouble.report(1, Some((Cause::Denied, "WRONGPASS")));
        let all = trouble.all();
        assert_eq!(
            all.iter().map(|(way, cause, _)| (*way, *cause)).collect::<Vec<_>>(),
            [(0, Cause::Unreachable), (1, Cause::Denied)]
        );
        assert_eq!(all[1].2, "WRONGPASS");
        trouble.report(1, None);
        assert_eq!(logged(), [Cause::Unreachable, Cause::Denied], "half of it is left");
        trouble.report(0, None);
        assert!(trouble.all().is_empty() && logged().is_empty());
        trouble.report(0, None);
        // Of a loop to two nodes.
        for node in [0, 1] {
            trouble.report(Way::to_node(2, node), Some((Cause::Refusing, "loading")));
        }
        trouble.report(2, None);
        assert_eq!(trouble.all(), [(2, Cause::Refusing, "loading".to_owned())]);
    }

    #[test]
    fn labels_are_words_for_metrics() {
        for cause in Cause::ALL {
            assert!(cause.label().bytes().all(|byte| byte.is_ascii_lowercase()), "{cause:?}");
        }
    }
}
