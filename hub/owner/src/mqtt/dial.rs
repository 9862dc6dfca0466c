//! Connects to brokers by TLS, with the TLS that the rest of the hub uses.

use std::sync::Arc;

use rumqttc::{MqttOptions, default_socket_connect};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

/// Makes a client connect by TLS. The certificate of the broker must be for `host`.
///
/// # Errors
/// If `host` is neither a name nor an address.
pub(super) fn by_tls(options: &mut MqttOptions, host: &str, config: ClientConfig) -> Result<(), String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host:?} is not the name of a host"))?;
    let connector = TlsConnector::from(Arc::new(config));
    options.set_socket_connector(move |address, network| {
        let (connector, name) = (connector.clone(), name.clone());
        async move { connector.connect(name, default_socket_connect(address, network).await?).await }
    });
    Ok(())
}
