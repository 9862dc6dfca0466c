//! The gateway beyond loopback, with curl: HTTPS by a CA of its own or by files, plain HTTP, and nginx in front.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use e2e::binaries::binaries;
use e2e::daemon::run;
use e2e::http::{Answer, get};
use e2e::hub::{Addresses, Hub, Surroundings};
use e2e::ports;
use e2e::wait::{SOON, until};

/// An address of this machine that is not loopback. Asking for the route to an address sends nothing.
fn beyond_loopback() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").expect("these tests need a network interface beside loopback");
    socket.local_addr().unwrap().ip()
}

/// A hub that listens on all addresses of IPv4, with this config and with these words before its command.
async fn start(toml: &str, wrapper: &[&str]) -> (Hub, SocketAddr) {
    let loopback = Addresses::free();
    let at = Addresses { http: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), loopback.http.port()), ..loopback };
    let wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
    let hub = Hub::start_in(Surroundings { wrapper, ..Surroundings::default() }, at, &[], toml).await;
    (hub, SocketAddr::new(beyond_loopback(), at.http.port()))
}

/// Runs curl without its config file. Returns its exit code and what it prints.
fn curl(arguments: &[&str]) -> (Option<i32>, String) {
    let done = Command::new("curl").args(["-q", "-s", "-m", "20"]).args(arguments).output().expect("curl");
    (done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned())
}

/// What a program prints for this input.
fn filter(program: &str, arguments: &[&str], input: &[u8]) -> String {
    let mut command = Command::new(program);
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// Fetches the certificate of the CA, and stores it as curl reads it.
async fn authority(hub: SocketAddr, folder: &Path) -> (Vec<u8>, String) {
    let answer = get(hub, "/ca.crt").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/x-x509-ca-cert")));
    let pem = folder.join("ca.pem");
    let body = filter("base64", &[], &answer.body);
    std::fs::write(&pem, format!("-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")).unwrap();
    (answer.body, pem.display().to_string())
}

/// A fingerprint as `hub cert` prints it.
fn fingerprint(der: &[u8]) -> String {
    let digest = filter("sha256sum", &[], der)[..64].to_ascii_uppercase();
    digest.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into_owned()).collect::<Vec<_>>().join(":")
}

#[tokio::test]
async fn other_machines_use_https_and_this_one_need_not() {
    let (hub, beyond) = start("", &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let here = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), beyond.port());
    assert_eq!(get(here, "/dog/Rex").await.text(), "{\"dogBark\":\"Rex is going to bark!\"}\n");
    let answer = get(beyond, "/dog/Rex?x=1").await;
    let to = format!("https://{beyond}/dog/Rex?x=1");
    assert_eq!((answer.status, answer.header("location")), (308, Some(to.as_str())));

    let (der, ca) = authority(beyond, folder.path()).await;
    let data = hub.data_folder().display().to_string();
    let shown = run(&binaries().hub, &["cert", "--data-dir", &data], &[]);
    assert!(shown.code == Some(0) && shown.stdout.contains(&fingerprint(&der)), "{shown:?}");
    let code = get(beyond, "/ca.svg").await;
    assert_eq!(code.status, 308, "the page is for HTTPS");

    // The address of this machine may be a public one, which the CA does not sign: curl asks by a name.
    let there = format!("::{beyond}");
    let (dog, own) = (
        format!("https://localhost:{}/dog/Rex", beyond.port()),
        format!("https://localhost:{}/healthz", beyond.port()),
    );
    // Encrypted is not enough: the hub has no users yet.
    let told = ["--cacert", &ca, "--connect-to", &there, "-w", "%{http_code}", &dog];
    let (_, refused) = curl(&told);
    assert!(refused.ends_with("401") && refused.contains("hub user add"), "{refused}");
    let made = run(&binaries().hub, &["token", "add", "curl", "--role", "owner", "--data-dir", &data], &[]);
    let token = format!("Authorization: Bearer {}", made.stdout.trim());
    for (version, http) in [("1.2", "--http1.1"), ("1.3", "--http2")] {
        let format = "%{http_code} %{http_version} %header{strict-transport-security}";
        let arguments = [
            "--cacert",
            &ca,
            "--connect-to",
            &there,
            "--tlsv1.2",
            "--tls-max",
            version,
            http,
            "-H",
            &token,
            "-w",
            format,
            &dog,
        ];
        let protocol = if http == "--http2" { "2" } else { "1.1" };
        let said = format!("{{\"dogBark\":\"Rex is going to bark!\"}}\n200 {protocol} ");
        assert_eq!(curl(&arguments), (Some(0), said), "{version}");
    }
    // The certificate has no other names: curl's exit code for that is 60.
    let (host, port) = ("evil.example", beyond.port());
    let resolved = format!("{host}:{port}:{}", beyond.ip());
    let other = format!("https://{host}:{port}/healthz");
    assert_eq!(curl(&["--cacert", &ca, "--resolve", &resolved, &other]).0, Some(60));
    assert_eq!(curl(&["--cacert", &ca, &own]), (Some(0), "{\"status\":\"ok\"}\n".to_owned()));
    let (_, svg) = curl(&["--cacert", &ca, "--connect-to", &there, &format!("https://localhost:{port}/ca.svg")]);
    assert!(svg.starts_with("<svg "), "{svg}");

    // A restart keeps the CA, and phones keep their trust.
    let _hub = hub.restart().await;
    assert_eq!(authority(beyond, folder.path()).await.0, der);
    assert_eq!(curl(&["--cacert", &ca, &own]).0, Some(0));
}

#[tokio::test]
async fn insecure_serves_plain_http_as_before_there_was_tls() {
    let plain = Hub::start(&[]).await;
    let (hub, beyond) = start("insecure = true\n", &[]).await;
    for path in ["/dog/Rex", "/", "/healthz", "/api/v1/openapi.json", "/page/app.js", "/nowhere"] {
        // The host name is in some bodies.
        let normal = |mut answer: Answer, host: SocketAddr| {
            answer.headers.retain(|(name, _)| !["date", "content-length"].contains(&name.as_str()));
            (answer.status, answer.headers, String::from_utf8(answer.body).unwrap().replace(&host.to_string(), "HOST"))
        };
        let expected = normal(plain.get(path).await, plain.at.http);
        assert_eq!(normal(get(beyond, path).await, beyond), expected, "{path}");
        assert_eq!(normal(hub.get(path).await, hub.at.http), expected, "{path}");
    }
    let folder = tempfile::tempdir().unwrap();
    let (_, ca) = authority(beyond, folder.path()).await;
    let (there, url) = (format!("::{beyond}"), format!("https://localhost:{}/healthz", beyond.port()));
    assert_eq!(curl(&["--cacert", &ca, "--connect-to", &there, &url]).0, Some(0), "TLS is there as well");
}

#[tokio::test]
async fn no_password_and_no_session_goes_by_plain_http_although_insecure() {
    let (hub, beyond) = start("insecure = true\n", &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let (_, ca) = authority(beyond, folder.path()).await;
    let log = until(SOON, "the set-up link is printed", async || {
        Some(hub.daemon.log()).filter(|log| log.contains("#/setup/"))
    })
    .await;
    let link = log.split_whitespace().find(|word| word.contains("#/setup/")).unwrap();
    assert!(link.starts_with("https://"), "{link}");
    let secret = link.rsplit('/').next().unwrap();
    let (there, https) = (format!("::{beyond}"), format!("https://localhost:{}", beyond.port()));
    let who = "\"name\":\"anna\",\"password\":\"correct horse\"";
    let set_up = format!("{{\"secret\":\"{secret}\",{who}}}");
    let log_in = format!("{{{who}}}");
    let send = |url: &str, path: &str, body: &str| {
        let (url, format) = (format!("{url}{path}"), "%{http_code} %header{set-cookie}");
        let json = "content-type: application/json";
        curl(&["--cacert", &ca, "--connect-to", &there, "-H", json, "-w", format, "-d", body, &url]).1
    };
    let plain = format!("http://{beyond}");
    for (path, body) in [("/api/v1/setup", &set_up), ("/api/v1/session", &log_in)] {
        let refused = send(&plain, path, body);
        assert!(refused.contains("403") && refused.contains(&format!("use https://{beyond}")), "{refused}");
    }
    assert_eq!(get(beyond, "/").await.status, 200, "as before, until there is a user");
    assert!(send(&https, "/api/v1/setup", &set_up).starts_with("204"));
    let logged_in = send(&https, "/api/v1/session", &log_in);
    assert!(logged_in.contains("; Secure"), "{logged_in}");
    let cookie = logged_in.rsplit(' ').find(|word| word.starts_with("meowlink_session=")).unwrap();
    let cookie = format!("cookie: {}", cookie.trim_end_matches(';'));
    let nodes =
        |url: &str| curl(&["--cacert", &ca, "--connect-to", &there, "-H", &cookie, &format!("{url}/api/v1/nodes")]).1;
    assert!(nodes(&https).contains("\"nodes\""));
    assert!(nodes(&plain).contains("forbidden"), "a session by plain HTTP");
    assert_eq!(get(beyond, "/").await.status, 308, "the page is for HTTPS now");
    assert_eq!(get(beyond, "/dog/Rex").await.text(), "{\"dogBark\":\"Rex is going to bark!\"}\n");
}

#[tokio::test]
async fn loopback_alone_has_no_tls_and_makes_no_certificate() {
    let hub = Hub::start(&[]).await;
    assert_eq!(get(hub.at.http, "/ca.crt").await.status, 404);
    assert_eq!(get(hub.at.http, "/ca.svg").await.status, 204);
    assert!(!hub.data_folder().join("tls").exists());
    let secure = format!("https://{}/healthz", hub.at.http);
    assert_ne!(curl(&["-k", &secure]).0, Some(0));
}

#[tokio::test]
async fn certificate_files_that_change_are_taken_while_the_hub_runs() {
    // The files of another hub's CA stand for those of certbot.
    let (other, other_beyond) = start("", &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let (_, ca) = authority(other_beyond, folder.path()).await;
    let stored = std::fs::read_to_string(other.data_folder().join("tls/certificate.json")).unwrap();
    let stored: serde_json::Value = serde_json::from_str(&stored).unwrap();
    let pem = |kind: &str, value: &serde_json::Value| {
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", value.as_str().unwrap())
    };
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, pem("CERTIFICATE", &stored["certificate"])).unwrap();
    std::fs::write(&key, pem("PRIVATE KEY", &stored["key"])).unwrap();
    let (hub, beyond) = start(&format!("[gateway]\ncert = {cert:?}\nkey = {key:?}\n"), &[]).await;
    let url = format!("https://localhost:{}/healthz", beyond.port());
    assert_eq!(curl(&["--cacert", &ca, &url]).0, Some(0));
    assert_eq!(get(hub.at.http, "/ca.crt").await.status, 404, "the files' issuer is not the hub's");

    std::fs::write(&cert, "broken").unwrap();
    until(SOON, "the hub has seen the broken file", async || {
        hub.daemon.log().contains("the new certificate cannot be used").then_some(())
    })
    .await;
    assert_eq!(curl(&["--cacert", &ca, &url]).0, Some(0), "the old one stays in use");

    let (third, third_beyond) = start("", &[]).await;
    let stored = std::fs::read_to_string(third.data_folder().join("tls/certificate.json")).unwrap();
    let stored: serde_json::Value = serde_json::from_str(&stored).unwrap();
    std::fs::write(&key, pem("PRIVATE KEY", &stored["key"])).unwrap();
    std::fs::write(&cert, pem("CERTIFICATE", &stored["certificate"])).unwrap();
    let (_, ca) = authority(third_beyond, folder.path()).await;
    until(SOON, "the hub shows the new certificate", async || {
        (curl(&["--cacert", &ca, &url]).0 == Some(0)).then_some(())
    })
    .await;
}

#[test]
fn certificate_files_that_are_broken_at_the_start_are_a_bad_config() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("hub.toml");
    std::fs::write(&config, "[gateway]\ncert = \"/nowhere/c.pem\"\nkey = \"/nowhere/k.pem\"\n").unwrap();
    let at = ports::free().to_string();
    let (config, data) = (config.display().to_string(), folder.path().display().to_string());
    let arguments = ["--config", &config, "--data-dir", &data, "--only", "gateway", "--http", &at];
    let done = run(&binaries().hub, &arguments, &[]);
    assert_eq!(done.code, Some(64), "{done:?}");
    assert!(done.stderr.contains("gateway.cert: /nowhere/c.pem: "), "{done:?}");
}

/// nginx with these servers, one for each port: the lines of its `location`.
struct Nginx {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It has no workers that would outlive it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Nginx {
    async fn start(hub: SocketAddr, servers: &[(u16, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let servers = servers.iter().map(|(port, lines)| {
            format!("server {{ listen 0.0.0.0:{port}; location / {{ proxy_pass http://{hub}; {lines} }} }}\n")
        });
        let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {path}/{kind};\n"))
            .concat();
        let config = format!(
            "daemon off; master_process off; pid {path}/pid; error_log stderr;\nevents {{}}\nhttp {{ access_log off;\n\
             {temp}{}}}\n",
            servers.collect::<String>()
        );
        std::fs::write(folder.path().join("nginx.conf"), config).unwrap();
        let mut command = Command::new(nginx());
        command.args(["-p", &path.to_string(), "-c", "nginx.conf"]).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: command.spawn().expect("nginx (Debian: apt-get install nginx-light)"), _folder: folder }
    }
}

/// Debian has nginx where ordinary users have no path to.
fn nginx() -> PathBuf {
    let place = PathBuf::from("/usr/sbin/nginx");
    if place.exists() { place } else { "nginx".into() }
}

#[tokio::test]
async fn proxies_are_noticed_and_trusted_ones_say_who_the_client_is() {
    let toml = "[gateway]\ntrusted_proxies = [\"127.0.0.1\"]\n[page]\nhosts = [\"cats.example.org\"]\n";
    let (hub, beyond) = start(toml, &["env", "RUST_LOG=info,hub_gateway=debug"]).await;
    let upstream = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), beyond.port());
    let [bare, host, full] = [ports::free().port(), ports::free().port(), ports::free().port()];
    let add = "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; \
               proxy_set_header X-Forwarded-Proto $scheme;";
    let servers = [(bare, ""), (host, "proxy_set_header Host $host;"), (full, add)];
    let _nginx = Nginx::start(upstream, &servers).await;
    for (port, _) in servers {
        until(SOON, "nginx answers", async || {
            curl(&[&format!("http://127.0.0.1:{port}/healthz")]).1.contains("ok").then_some(())
        })
        .await;
    }

    // The path names the case in the log.
    let ask = |to: SocketAddr, case: &str, headers: &[&str]| {
        let url = format!("http://{to}/case/{case}");
        let headers: Vec<_> = headers.iter().flat_map(|header| ["-H", header]).collect();
        curl(&[&["-o", "/dev/null", "-w", "%{http_code}", url.as_str()][..], &headers].concat()).1
    };
    let from = |port| SocketAddr::new(beyond.ip(), port);
    let forged = "X-Forwarded-For: 192.0.2.7";
    for (to, case, headers, client, through_proxy) in [
        // Nothing tells this one from a program of the hub's machine, see docs/reverse-proxy.md.
        (from(bare), "bare", &[][..], "127.0.0.1", false),
        (from(host), "host", &["Host: cats.example.org"], "127.0.0.1", true),
        (from(full), "full", &[], &beyond.ip().to_string(), true),
        (from(full), "forged", &[forged], &beyond.ip().to_string(), true),
        (from(full), "twice", &[forged, "X-Forwarded-For: 127.0.0.1"], &beyond.ip().to_string(), true),
        // nginx passes on what it does not know.
        (from(bare), "bare-forged", &[forged], "192.0.2.7", true),
        (upstream, "local", &[], "127.0.0.1", false),
    ] {
        assert_eq!(ask(to, case, headers), "404", "{case}");
        assert_logged(&hub, case, client, through_proxy).await;
    }
    // Whoever is not trusted says nothing of the client, and is sent to HTTPS.
    assert_eq!(ask(beyond, "stranger", &[forged, "X-Forwarded-Proto: https"]), "308");
    assert_logged(&hub, "stranger", &beyond.ip().to_string(), true).await;

    // A page that rebinds its name to the proxy can send one of the hub's names along.
    let rebound = ["Host: evil.example", "X-Forwarded-Host: cats.example.org"];
    assert_eq!(ask(from(full), "rebound", &rebound), "421");

    // Links have the scheme and the host that the browser uses.
    let index = |port: u16, headers: &[&str]| {
        let headers: Vec<_> = headers.iter().flat_map(|header| ["-H", header]).collect();
        curl(&[&[format!("http://127.0.0.1:{port}/").as_str()][..], &headers].concat()).1
    };
    let text = index(full, &["Host: cats.example.org"]);
    assert!(text.contains("http://cats.example.org/cat/Tom"), "{text}");
    let said = ["X-Forwarded-Proto: https", "X-Forwarded-Host: cats.example.org"];
    let text = index(beyond.port(), &said);
    assert!(text.contains("https://cats.example.org/cat/Tom"), "{text}");
}

/// Waits for the line of the log about a request.
async fn assert_logged(hub: &Hub, case: &str, client: &str, through_proxy: bool) {
    let path = format!("/case/{case}\"");
    let line = until(SOON, &format!("{case} is logged"), async || {
        hub.daemon.log().lines().find(|line| line.contains(&path)).map(str::to_owned)
    })
    .await;
    let (client, through_proxy) = (format!("client={client} "), format!("through_proxy={through_proxy}"));
    assert!(line.contains(&client) && line.contains(&through_proxy), "{case}: {line}");
}
