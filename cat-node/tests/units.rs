//! The services of systemd: the template for several nodes is the service of one node, with names of its own.

/// What the template has instead of a line of the service.
const OWN: [(&str, &str); 5] = [
    (
        "Description=Meowlink cat-node: listens to a cat and serves its audio",
        "Description=Meowlink cat-node %i: listens to a cat and serves its audio",
    ),
    (
        "ExecStart=/usr/bin/cat-node serve --config /etc/meowlink/cat-node.toml",
        "ExecStart=/usr/bin/cat-node serve --config /etc/meowlink/cat-node-%i.toml",
    ),
    ("User=cat-node", "User=cat-node-%i"),
    ("StateDirectory=cat-node", "StateDirectory=cat-node-%i"),
    ("RuntimeDirectory=cat-node", "RuntimeDirectory=cat-node-%i"),
];

fn settings(unit: &str) -> Vec<&str> {
    unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[test]
fn nodes_of_the_template_share_nothing_and_are_guarded_as_the_single_one() {
    let single = settings(include_str!("../../systemd/cat-node.service"));
    let template = settings(include_str!("../../systemd/cat-node@.service"));
    let expected: Vec<&str> = single
        .into_iter()
        .map(|line| OWN.iter().find(|(single, _)| *single == line).map_or(line, |(_, own)| own))
        .collect();
    assert_eq!(template, expected);
    assert_eq!(template.iter().filter(|line| line.contains("%i")).count(), OWN.len());
}

#[test]
fn node_of_a_session_has_the_limits_of_the_system_service() {
    let system = settings(include_str!("../../systemd/cat-node.service"));
    let user = settings(include_str!("../../systemd/user/cat-node.service"));
    for key in ["MemoryMax=", "TasksMax=", "LimitNOFILE=", "WatchdogSec=", "RestartPreventExitStatus=", "UMask="] {
        let of = |unit: &[&str]| unit.iter().find(|line| line.starts_with(key)).map(|line| (*line).to_owned());
        assert!(of(&system).is_some() && of(&user) == of(&system), "{key}");
    }
    // What a session's manager may not do would stop the service.
    for key in ["DynamicUser=", "SupplementaryGroups=", "Nice=-", "ProtectHome=", "User="] {
        assert!(!user.iter().any(|line| line.starts_with(key)), "{key}");
    }
}
