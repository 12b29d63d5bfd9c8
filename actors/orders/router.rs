//! Which path leads to which function of the controller.

use utoipa_actix_web::service_config::ServiceConfig;

/// The routes of the feature.
pub(super) fn routes(_initial_stock: u64) -> impl Fn(&mut ServiceConfig<'_>) + Send + Sync + 'static {
    |_| {}
}
