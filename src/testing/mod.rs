//! The test kit: a world with virtual time, seeded randomness and crashes at named points.
