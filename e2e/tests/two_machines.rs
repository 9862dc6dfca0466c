//! The README's set-up of two machines, run as it stands there: a Pi and a hub with the configs of their packages, on a
//! network of their own. The test starts itself again in new namespaces, in which each machine is a network namespace.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use e2e::binaries::{binaries, workspace};
use e2e::daemon::Daemon;
use e2e::namespaces;
use e2e::wait::until;

/// How long the test waits. Announcements and reconnections take seconds, so this is ample.
const SOON: Duration = Duration::from_secs(120);

/// Two machines on one network. The folders of services are memory, and removed with the namespaces. `ip netns` gives
/// each program mounts of its own, which share these.
const MACHINES: &str = "ip link set lo up && mount --make-rshared / && mount -t tmpfs tmpfs /run \
    && mount -t tmpfs tmpfs /var/lib && mkdir /run/netns && ip link add cats type bridge && ip link set cats up \
    && number=1 && for name in hub pi; do ip netns add $name && ip -n $name link set lo up \
    && ip link add v$name type veth peer name eth0 netns $name && ip link set v$name master cats up \
    && ip -n $name address add 10.77.0.$number/24 dev eth0 && ip -n $name link set eth0 up \
    && ip -n $name route add default via 10.77.0.254 && number=$((number + 1)); done";

const HUB: &str = "10.77.0.1";
const PI: &str = "10.77.0.2";

/// The code in the README's example.
const EXAMPLE_CODE: &str = "7K3M-Q9TX";

#[test]
fn two_machines_are_set_up_as_the_readme_says() {
    let namespaces = ["--mount", "--net", "--uts"];
    namespaces::inside("two_machines_are_set_up_as_the_readme_says", &namespaces, MACHINES, set_up);
}

/// A machine on the network.
struct Machine {
    namespace: &'static str,
    host_name: &'static str,
    /// What stands in for hardware: settings in the environment of the service.
    environment: &'static [&'static str],
}

const HUB_MACHINE: Machine = Machine { namespace: "hub", host_name: "hub", environment: &[] };

/// It has no microphone.
const PI_MACHINE: Machine =
    Machine { namespace: "pi", host_name: "kitchen-pi", environment: &["MEOWLINK_NODE_SOURCE=synthetic"] };

impl Machine {
    /// Words that start a program on this machine.
    fn words(&self, environment: &[String]) -> Vec<String> {
        let script = format!("hostname {} && exec \"$0\" \"$@\"", self.host_name);
        let mut words: Vec<String> = ["ip", "netns", "exec", self.namespace, "env"].map(Into::into).to_vec();
        words.extend(environment.iter().cloned());
        words.extend(["unshare", "--uts", "sh", "-c", &script].map(Into::into));
        words
    }

    /// Runs a command line on this machine, with both programs in its PATH as after the installation.
    fn run(&self, line: &str) -> Output {
        let path = format!("PATH={}:{}", binaries().hub.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let words = self.words(&[path]);
        Command::new(&words[0]).args(&words[1..]).args(["sh", "-c", line]).current_dir("/run").output().unwrap()
    }

    /// What a command line prints that must succeed.
    fn printed(&self, line: &str) -> String {
        let done = self.run(line);
        assert!(done.status.success(), "{line}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// As [`Self::printed`], for what takes a while to succeed.
    async fn in_time(&self, line: &str, is_done: impl Fn(&str) -> bool) -> String {
        until(SOON, line, async || {
            let done = self.run(line);
            let text = String::from_utf8(done.stdout).unwrap();
            (done.status.success() && is_done(&text)).then_some(text)
        })
        .await
    }

    /// `systemctl enable --now UNIT`: starts what the unit starts, with the folders that systemd gives to it, and waits
    /// until it is ready.
    async fn enable(&self, unit: &str, etc: &Path) -> Daemon {
        let text = std::fs::read_to_string(workspace().join("systemd").join(format!("{unit}.service"))).unwrap();
        let of = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
        let mut environment: Vec<String> = self.environment.iter().map(|&setting| setting.into()).collect();
        for (key, variable, parent) in
            [("StateDirectory=", "STATE_DIRECTORY", "/var/lib"), ("RuntimeDirectory=", "RUNTIME_DIRECTORY", "/run")]
        {
            let folder = Path::new(parent).join(of(key));
            std::fs::create_dir_all(&folder).unwrap();
            environment.push(format!("{variable}={}", folder.display()));
        }
        let start = of("ExecStart=").replace("/etc/meowlink", etc.to_str().unwrap());
        let words: Vec<&str> = start.split(' ').collect();
        let program = binaries().hub.with_file_name(Path::new(words[0]).file_name().unwrap());
        Daemon::start_within(&self.words(&environment), unit, &program, &words[1..])
    }
}

/// The command lines of the README between two of its numbered steps, without their comments.
fn commands(from: &str, to: &str) -> Vec<String> {
    let text = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let start = text.find(from).unwrap_or_else(|| panic!("the README lacks {from:?}"));
    let length = text[start..].find(to).unwrap_or_else(|| panic!("the README lacks {to:?}"));
    let blocks = text[start..start + length].split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).map(|line| line.split("  #").next().unwrap_or_default().trim());
    lines.map(|line| line.trim_start_matches("sudo ").to_owned()).collect()
}

/// Does what a step of the README says on a machine: installs a package, which brings `config`, and starts its service.
async fn install(machine: &Machine, lines: &[String], unit: &str, etc: &Path) -> Daemon {
    let [install, enable, more @ ..] = lines else { panic!("{lines:?}") };
    assert!(install.starts_with("apt install ./"), "{install}");
    let config = format!("{unit}.toml");
    std::fs::copy(workspace().join("systemd").join(&config), etc.join(&config)).unwrap();
    assert_eq!(*enable, format!("systemctl enable --now {unit}"));
    assert!(more.iter().all(|line| line.starts_with("systemctl status ")), "nothing else has to be done: {more:?}");
    machine.enable(unit, etc).await
}

async fn set_up() {
    assert!(Command::new("sh").args(["-ec", MACHINES]).status().unwrap().success());
    let etc = PathBuf::from("/run/etc-meowlink");
    std::fs::create_dir(&etc).unwrap();

    let node = install(&PI_MACHINE, &commands("**2. ", "**3. "), "cat-node", &etc).await;
    let hub = install(&HUB_MACHINE, &commands("**3. ", "**4. "), "hub", &etc).await;

    let pairing = commands("**4. ", "**5. ");
    let [show, take] = &pairing[..] else { panic!("{pairing:?}") };
    let shown = PI_MACHINE.in_time(show, |_| true).await;
    let code = shown.lines().next().unwrap();
    assert!(take.contains(EXAMPLE_CODE), "{take}");
    let paired = HUB_MACHINE.in_time(&take.replace(EXAMPLE_CODE, code), |_| true).await;
    assert_eq!(paired, "paired: http://kitchen-pi.local:50056\n", "{}", hub.log());

    let checks = commands("**5. ", "**6. ");
    let [call, ready] = &checks[..] else { panic!("{checks:?}") };
    let meow = HUB_MACHINE.in_time(&format!("{call} -sS"), |text| text.contains("MEEEWWWWW")).await;
    assert_eq!(meow.trim(), "{\"catMeaw\":\"Tom: MEEEWWWWW\"}");
    HUB_MACHINE.in_time(&format!("{ready} -sS"), |text| text.contains("\"status\":\"ok\"")).await;
    let nodes = HUB_MACHINE.printed("curl -sS http://localhost:5000/api/v1/nodes");
    assert!(nodes.contains("\"reachable\":true") && !nodes.contains("localhost:50056"), "{nodes}");

    // The node says who listens.
    let listens = format!("subscriber=\"hub at {HUB}:");
    until(SOON, "the hub is in the log of the node", async || node.log().contains(&listens).then_some(())).await;

    closed_to_strangers();
    by_https().await;
    drop((node, hub));
}

/// Exit codes of curl: connection refused, no answer, reset.
const REFUSED: i32 = 7;
const NOTHING: [i32; 2] = [52, 56];

/// Each machine is asked by the other in plain, as a stranger would.
fn closed_to_strangers() {
    let by_pi = |url: &str| PI_MACHINE.run(&format!("curl -sS -m 10 -o /dev/null -w '%{{http_code}}' {url}"));
    let closed = |done: &Output| NOTHING.contains(&done.status.code().unwrap());
    // The control: the same request on the machine itself is answered.
    let metrics = PI_MACHINE.printed("curl -sS http://localhost:50056/metrics");
    assert!(metrics.contains("meowlink_node_"), "{metrics}");
    let node = HUB_MACHINE.run(&format!("curl -sS -m 10 http://{PI}:50056/metrics"));
    assert!(closed(&node), "{node:?}");
    let owner = by_pi(&format!("http://{HUB}:50051/metrics"));
    assert!(closed(&owner), "{owner:?}");
    for port in [50055, 50057] {
        let done = by_pi(&format!("http://{HUB}:{port}/metrics"));
        assert_eq!(done.status.code(), Some(REFUSED), "{port}: {done:?}");
    }
    // With TLS and a key that nobody knows.
    PI_MACHINE.printed(
        "openssl req -x509 -newkey ed25519 -nodes -keyout stranger.key -out stranger.crt -subj /CN=stranger 2>/dev/null",
    );
    let certificate = "--cert stranger.crt --key stranger.key";
    let stranger = format!("curl -sS -m 10 -k --http1.1 {certificate} -w '%{{http_code}}' https://{PI}:50056/metrics");
    let done = HUB_MACHINE.run(&stranger);
    assert_eq!(String::from_utf8_lossy(&done.stdout), "403", "{done:?}");
}

/// The Pi, as any machine of the network, uses the page's address with the hub's CA.
async fn by_https() {
    let redirected = PI_MACHINE
        .printed(&format!("curl -sS -o /dev/null -w '%{{http_code}} %{{redirect_url}}' http://{HUB}:5000/cat/Tom"));
    assert_eq!(redirected, format!("308 https://{HUB}:5000/cat/Tom"));
    // As docs/install.md says.
    PI_MACHINE.printed(&format!(
        "curl -sS -o ca.crt http://{HUB}:5000/ca.crt && openssl x509 -inform der -in ca.crt -out meowlink-ca.crt"
    ));
    let fingerprint = PI_MACHINE.printed("openssl x509 -in meowlink-ca.crt -noout -fingerprint -sha256");
    let shown = HUB_MACHINE.printed("hub cert --data-dir /var/lib/meowlink-hub");
    let fingerprint = fingerprint.trim().rsplit('=').next().unwrap();
    assert!(shown.to_uppercase().contains(fingerprint), "{fingerprint}: {shown}");

    let ask = |more: &str| {
        let url = format!("https://{HUB}:5000/cat/Tom");
        PI_MACHINE.printed(&format!("curl -sS --cacert meowlink-ca.crt -w ' %{{http_code}}' {more} {url}"))
    };
    assert!(ask("").ends_with(" 401"), "a stranger calls no cat: {}", ask(""));
    let token = HUB_MACHINE.printed("hub token add doorbell --role owner");
    let token = token.trim();
    let answer = ask(&format!("-H 'Authorization: Bearer {token}'"));
    assert_eq!(answer, "{\"catMeaw\":\"Tom: MEEEWWWWW\"}\n 200");
}
