//! Announcements with any names and addresses.

use fuzzing::{hold, nearly_text};
use http::Uri;
use mdns_sd::ServiceInfo;
use proptest::prelude::*;

use super::*;

#[test]
fn announcement_gives_a_url_of_the_local_network_or_nothing() {
    let hosts =
        nearly_text(&["attic-pi.local.", "KITCHEN.local", "a.b.local."], &[".", "local", "@", ":", "/", "-", "\\"]);
    let names = nearly_text(&["Tom at home", "a.b", ""], &[".", "\\", "\n", "\u{202e}"]);
    let addresses = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
        prop::sample::select(vec![
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "fe80::1",
            "0.0.0.0",
            "ff02::fb",
            "255.255.255.255"
        ])
        .prop_map(|text| text.parse().unwrap()),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let inputs = (names, hosts, prop::collection::vec(addresses, 0..4), any::<u16>());
    hold(2_000, &inputs, |(name, host, addresses, port)| {
        let keys: [(&str, &str); 1] = [("path", &name)];
        let Ok(service) = ServiceInfo::new(NODE_SERVICE, &name, &host, addresses.as_slice(), port, &keys[..]) else {
            return Ok(());
        };
        let Some(found) = Announcement::of(&service.as_resolved_service()) else { return Ok(()) };
        let uri: Uri = found.url.parse().unwrap();
        prop_assert_eq!((uri.scheme_str(), uri.port_u16(), uri.path()), (Some("http"), Some(port), "/"));
        let name = uri.host().unwrap().strip_suffix(".local").unwrap();
        prop_assert!(!name.is_empty() && !name.contains('.') && !uri.authority().unwrap().as_str().contains('@'));
        for address in &found.addresses {
            let ip = address.ip().to_canonical();
            prop_assert!(!ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast(), "{ip}");
            prop_assert_eq!(address.port(), port);
        }
        prop_assert!(Node::discovered(found.url).is_ok());
        Ok(())
    });
}
