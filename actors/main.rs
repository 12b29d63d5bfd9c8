//! The `greenroom` binary: the product's features behind the library's command line.

use std::process::ExitCode;

use greenroom::{
    Feature, Result,
    cli::{self, Product},
    config::Config,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn features(_config: &Config) -> Result<Vec<Feature>> {
    Ok(Vec::new())
}

fn main() -> ExitCode {
    cli::main(Product::new("greenroom", env!("CARGO_PKG_VERSION"), features).first_request(
        r#"curl -i {url}/orders -H 'content-type: application/json' \
  -d '{"customer":"ann","currency":"EUR","lines":[{"sku":"tea","quantity":2,"unit_price":450}]}'"#,
    ))
}
