//! The number of CPUs that tables are made for.

/// CPUs beyond this number are left asleep.
pub const MAX_CPUS: usize = 256;
