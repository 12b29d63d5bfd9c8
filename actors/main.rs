//! The `greenroom` binary: the product's features behind the library's command line.

use std::process::ExitCode;

use greenroom::cli::{self, Product};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Shown when serving has begun: something to try at once.
const FIRST_REQUEST: &str = r#"curl -i {url}/orders -H 'content-type: application/json' \
  -d '{"customer":"ann","currency":"EUR","lines":[{"sku":"tea","quantity":2,"unit_price":450}]}'"#;

fn main() -> ExitCode {
    let product = Product::new("greenroom", env!("CARGO_PKG_VERSION"), greenroom_actors::features);
    cli::main(product.defaults(greenroom_actors::DEFAULTS).first_request(FIRST_REQUEST))
}
