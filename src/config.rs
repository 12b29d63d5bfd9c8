//! Configuration: `config.toml` is the reference and the defaults; files and the environment override it.
