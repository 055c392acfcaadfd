//! `--cores`: which CPUs get an event loop.

/// Which CPUs get an event loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreChoice {
    /// Each that this process may run on.
    All,
    /// These, in rising order, each once, each there.
    List(Vec<usize>),
}

/// Why a list of CPUs cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoresError {
    /// Not a list.
    #[error("takes `all`, or a list of CPUs such as 0-3,6")]
    Malformed,
    /// A CPU that is not there.
    #[error("names CPU {missing}, which this machine does not have (or this process may not use); it has {}", ranges(.machine))]
    NoSuchCore {
        /// The first of them.
        missing: usize,
        /// Those that are there.
        machine: Vec<usize>,
    },
}

impl CoreChoice {
    /// Reads `all`, or numbers and ranges apart by commas (`0-3,6`), and checks them against the machine's CPUs.
    pub fn parse(text: &str, machine: &[usize]) -> Result<CoreChoice, CoresError> {
        if text == "all" {
            return Ok(CoreChoice::All);
        }
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(CoresError::Malformed);
            }
            // Checked one by one before the range is walked to its end, which may be far past any machine.
            for core in first..=last {
                if !machine.contains(&core) {
                    return Err(CoresError::NoSuchCore { missing: core, machine: machine.to_vec() });
                }
                cores.push(core);
            }
        }
        cores.sort_unstable();
        cores.dedup();
        Ok(CoreChoice::List(cores))
    }

    /// The CPUs themselves, in rising order.
    pub fn list(&self, machine: &[usize]) -> Vec<usize> {
        match self {
            CoreChoice::All => machine.to_vec(),
            CoreChoice::List(cores) => cores.clone(),
        }
    }
}

fn number(text: &str) -> Result<usize, CoresError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(CoresError::Malformed);
    }
    text.parse().map_err(|_| CoresError::Malformed)
}

/// `0-3,6` of `[0, 1, 2, 3, 6]`.
fn ranges(cores: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &core in cores {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => ranges.push((core, core)),
        }
    }
    let texts: Vec<String> = ranges
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    texts.join(",")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MACHINE: [usize; 6] = [0, 1, 2, 3, 6, 9];

    #[test]
    fn reads_lists_and_ranges() {
        for (text, cores) in [("0", vec![0]), ("0-3,6", vec![0, 1, 2, 3, 6]), ("6,1,1,0-1", vec![0, 1, 6])] {
            assert_eq!(CoreChoice::parse(text, &MACHINE), Ok(CoreChoice::List(cores)), "{text}");
        }
        assert_eq!(CoreChoice::parse("all", &MACHINE), Ok(CoreChoice::All));
        assert_eq!(CoreChoice::All.list(&MACHINE), MACHINE);
        for text in ["", ",", "0,", "3-1", "-1", "1-", "a", "0 1", "+1", "99999999999999999999"] {
            assert_eq!(CoreChoice::parse(text, &MACHINE), Err(CoresError::Malformed), "{text:?}");
        }
    }

    #[test]
    fn names_the_cores_that_there_are() {
        let error = CoreChoice::parse("0-99999999999", &MACHINE).unwrap_err();
        assert_eq!(
            error.to_string(),
            "names CPU 4, which this machine does not have (or this process may not use); it has 0-3,6,9"
        );
    }
}
