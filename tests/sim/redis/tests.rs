//! What a real Redis cannot be asked for cheaply: lost files, torn tails, lagging replicas.

use super::*;

const WALL_US: u64 = 1_700_000_000_000_000;
