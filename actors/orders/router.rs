//! Which path leads to which function of the controller.

use actix_web::web::Data;
use utoipa_actix_web::service_config::ServiceConfig;

use super::controller::{self, InitialStock};

/// The routes of the feature.
pub(super) fn routes(initial_stock: u64) -> impl Fn(&mut ServiceConfig<'_>) + Send + Sync + 'static {
    move |config| {
        config
            .app_data(Data::new(InitialStock(initial_stock)))
            .service(controller::place)
            .service(controller::list)
            .service(controller::show)
            .service(controller::pay)
            .service(controller::note)
            .service(controller::cancel)
            .service(controller::live)
            .service(controller::stock);
    }
}
